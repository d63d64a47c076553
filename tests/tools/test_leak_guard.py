"""The leak guard, as a user of tools/train_net.py meets it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.conftest import CONFIGS, TINY

import cmemd


def config(folder: Path):
    opts = [word for pair in TINY.items() for word in pair]
    return cmemd.load_config(CONFIGS / "demo.yml", [*opts, "OUTPUT_DIR", str(folder)])


def outcome(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())["run"]["leak_guard"]


@pytest.fixture(scope="module")
def run(datasets, tmp_path_factory) -> Path:
    """Folder of a run that knows the 16 training identities of the stand-in, hardly trained."""
    from cmemd.engine.trainer import Trainer

    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(datasets))
        Trainer(config(folder)).checkpointer.save("model_final", epoch=0)
    return folder


@pytest.fixture
def trained(run, tmp_path) -> Path:
    """Its checkpoint, in the run's own folder."""
    shutil.copytree(run, tmp_path / "out")
    return tmp_path / "out/model_final.pth"


@pytest.fixture
def other_split(datasets, tmp_path, monkeypatch) -> None:
    """The stand-in with its test and validation people exchanged."""
    shutil.copytree(datasets / "SYSU-MM01", tmp_path / "other/SYSU-MM01")
    exp = tmp_path / "other/SYSU-MM01/exp"
    test, val = (exp / f"{name}_id.txt" for name in ("test", "val"))
    texts = test.read_text(), val.read_text()
    val.write_text(texts[0])
    test.write_text(texts[1])
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "other"))


def test_training_and_its_own_test_set_are_clean(train_net, tmp_path):
    clean = {"outcome": "clean", "overlap": 0, "training_identities": 16}
    assert train_net()[0] == 0
    assert outcome(tmp_path / "out") == clean
    keys = {"MODEL__WEIGHTS": tmp_path / "out/model_final.pth", "OUTPUT_DIR": tmp_path / "again"}
    assert train_net("--eval-only", **keys)[0] == 0
    assert outcome(tmp_path / "again") == clean


def test_a_leak_is_refused_before_anything_is_written(train_net, tmp_path, trained, request):
    request.getfixturevalue("other_split")
    keys = {"MODEL__WEIGHTS": trained, "OUTPUT_DIR": tmp_path / "again"}
    status, message = train_net("--eval-only", **keys)
    assert status == 2
    assert "trained on 4 of the 4 identities of SYSUMM01, such as 2, 6, 15, 18" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "again").exists()


def test_an_allowed_leak_is_in_the_results(train_net, tmp_path, trained, request):
    request.getfixturevalue("other_split")
    keys = {"MODEL__WEIGHTS": trained, "OUTPUT_DIR": tmp_path / "again"}
    assert train_net("--eval-only", **keys, TEST__ALLOW_LEAK=True)[0] == 0
    assert outcome(tmp_path / "again") == {
        "outcome": "overridden",
        "overlap": 4,
        "training_identities": 16,
    }


def test_start_up_weights_leak_too(train_net, tmp_path, trained, request):
    request.getfixturevalue("other_split")
    keys = {"MODEL__WEIGHTS": trained, "OUTPUT_DIR": tmp_path / "second"}
    status, message = train_net(**keys, DATASETS__SYSUMM01__TRAIN_WITH_VAL=False)
    assert status == 2
    assert "trained on 4 of the 4 identities of SYSUMM01" in message
    assert not (tmp_path / "second").exists()


def test_what_start_up_weights_know_is_in_the_new_checkpoint(train_net, tmp_path, trained):
    keys = {"DATASETS__SYSUMM01__TRAIN_WITH_VAL": False, "SOLVER__IMS_PER_BATCH": 20}
    second = tmp_path / "second"
    assert train_net(MODEL__WEIGHTS=trained, OUTPUT_DIR=second, **keys)[0] == 0
    record = torch.load(second / "model_final.pth", weights_only=True)["cmemd_record"]
    assert (len(record["identities"]), len(record["earlier"])) == (12, 16)
    assert outcome(second)["training_identities"] == 16
    status, message = train_net(
        "--resume",
        MODEL__WEIGHTS=trained,
        OUTPUT_DIR=second,
        **keys,
        SOLVER__MAX_EPOCH=2,
        SOLVER__SELECTION="validation",
    )
    assert status == 2  # the start-up weights know those held out
    assert "SYSUMM01, validation" in message


def test_weights_without_a_record_are_unknown(train_net, tmp_path, trained):
    checkpoint = torch.load(trained, weights_only=True)
    del checkpoint["cmemd_record"]
    torch.save(checkpoint, trained)
    trained.with_name("model_final.pth.sha256").unlink()
    again = tmp_path / "again"
    assert train_net("--eval-only", MODEL__WEIGHTS=trained, OUTPUT_DIR=again)[0] == 0
    unknown = {"outcome": "unknown", "overlap": 0, "training_identities": None}
    assert outcome(again) == unknown
    assert "no training record" in (again / "log.txt").read_text()
    assert train_net("--resume", SOLVER__MAX_EPOCH=2)[0] == 0
    assert outcome(tmp_path / "out") == unknown


def test_the_untrained_network_is_called_that(train_net, tmp_path):
    assert train_net("--eval-only")[0] == 0
    assert outcome(tmp_path / "out") == {
        "outcome": "untrained",
        "overlap": 0,
        "training_identities": 0,
    }


def test_resuming_on_other_people_is_refused(train_net, tmp_path, trained):
    keys = {"DATASETS__SYSUMM01__TRAIN_WITH_VAL": False, "SOLVER__MAX_EPOCH": 2}
    before = trained.read_bytes()
    status, message = train_net("--resume", **keys, SOLVER__IMS_PER_BATCH=20)
    assert status == 2
    assert "got DATASETS.SYSUMM01.TRAIN_WITH_VAL False instead of True" in message
    assert message.count("\n") == 1
    assert trained.read_bytes() == before


def test_a_network_scored_by_hand_is_unknown(datasets, tmp_path, monkeypatch):
    """As a user of the library may: fast-reid's own call, which says nothing of the weights."""
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    cfg = config(tmp_path)
    cmemd.Trainer.test(cfg, cmemd.Trainer.build_model(cfg))
    assert outcome(tmp_path)["outcome"] == "unknown"
