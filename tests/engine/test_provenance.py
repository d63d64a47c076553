"""The facts of a run that its results carry."""

import json
from types import SimpleNamespace

import pytest
import torch
from tests.engine.test_record import record

from cmemd.config import load_config
from cmemd.data.items import ImageItem
from cmemd.data.modality import Modality
from cmemd.engine.provenance import UNTRAINED, Weights, config_sha256, describe_run, guard
from cmemd.engine.record import RECORD


@pytest.fixture
def regdb(tmp_path):
    """Two images of one person."""
    items = []
    for modality in Modality:
        path = tmp_path / "RegDB" / modality.name / "1.bmp"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"bytes")
        items.append(ImageItem(str(path), 7, 1, modality))
    return SimpleNamespace(
        dataset_name="regdb", trial=2, folder=tmp_path / "RegDB", items=items, query=items
    )


def describe(data, weights=UNTRAINED, items=None, split="test", opts=()):
    cfg = load_config("", opts)
    leak_guard = guard(cfg, data, data.items, split, weights)
    items = data.items if items is None else items
    return describe_run(cfg, data, items, split=split, weights=weights, leak_guard=leak_guard)


def test_a_configurations_digest_is_not_about_where_its_output_goes():
    digests = [
        config_sha256(load_config("", opts))
        for opts in ([], ["OUTPUT_DIR", "elsewhere"], ["SOLVER.BASE_LR", "0.5"])
    ]
    assert digests[0] == digests[1] != digests[2]


def test_the_untrained_network(regdb):
    facts = describe(regdb, opts=["SEED", "3"])
    assert facts["checkpoint"] is None
    assert facts["seed"] == 3
    assert facts["leak_guard"]["outcome"] == "untrained"
    assert (facts["dataset"]["images"], facts["dataset"]["identities"]) == (2, 1)
    assert facts["dataset"]["trial"] == 2
    assert facts == json.loads(json.dumps(facts))


def test_the_seed_is_that_of_the_training(regdb):
    trained = Weights(record=record())
    assert describe(regdb, trained, opts=["SEED", "3"])["seed"] == 0
    assert describe(regdb, Weights(), opts=["SEED", "3"])["seed"] is None
    assert describe(regdb)["seed"] is None  # -1: from the clock


def test_the_digest_of_files_sees_paths_and_sizes_and_no_order(regdb):
    def files() -> str:
        return describe(regdb)["dataset"]["files_sha256"]

    before = files()
    assert describe(regdb, items=regdb.items[::-1])["dataset"]["files_sha256"] == before
    assert describe(regdb, items=regdb.items[:1])["dataset"]["files_sha256"] != before
    (regdb.folder / "THERMAL/1.bmp").write_bytes(b"longer bytes")
    assert files() != before


def test_a_moved_data_set_is_the_same(regdb, tmp_path):
    before = describe(regdb)["dataset"]
    regdb.folder = regdb.folder.rename(tmp_path / "moved")
    regdb.items = [item._replace(path=item.path.replace("RegDB", "moved")) for item in regdb.items]
    assert describe(regdb)["dataset"] == before


@pytest.mark.parametrize(
    ("entries", "rule", "epoch", "score"),
    [
        ({"epoch": 0, RECORD: record().state_dict()}, "given", 1, None),
        ({"epoch": 1, RECORD: record().state_dict()}, "last", 2, None),
        ({"epoch": 1, "metric": 50.0}, "given", 2, None),
        ({}, "given", None, None),
        (
            {
                "epoch": 1,
                "metric": 50.0,
                "selected_by": "validation",
                RECORD: record().state_dict(),
            },
            "validation",
            2,
            50.0,
        ),
    ],
)
def test_what_a_checkpoint_says_of_its_choice(tmp_path, entries, rule, epoch, score):
    torch.save({"model": {}, **entries}, tmp_path / "a.pth")
    weights = Weights.read(tmp_path / "a.pth")
    assert (weights.rule, weights.epoch, weights.score) == (rule, epoch, score)
    assert (weights.record is None) == (RECORD not in entries)
