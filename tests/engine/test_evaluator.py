import logging
import pickle
from collections import OrderedDict

import cmemd.compat  # noqa: F401  # adapts Python and PyTorch to fast-reid

import numpy as np
import pytest
import torch
from fastreid.evaluation import inference_on_dataset, print_csv_format
from PIL import Image
from torch.utils.data import DataLoader

from cmemd.engine.evaluator import VisibleThermalEvaluator
from cmemd.errors import InputError
from cmemd.evaluation.features_file import read_features
from cmemd.evaluation.protocols import get_protocol
from cmemd.evaluation.results import read_results
from cmemd.evaluation.scoring import Reranking, score


@pytest.fixture
def make_evaluator(tmp_path):
    def make(**changed):
        arguments = {
            "protocols": ["sysu-all-1shot", "sysu-indoor-1shot"],
            "rand_perm_cam": None,
            "draw": "auto",
            "metric": "euclidean",
            "output_dir": str(tmp_path / "out"),
            "ranked_gallery_queries": 0,
        }
        return VisibleThermalEvaluator(**arguments | changed)

    return make


def items(samples, rows=None):
    rows = range(len(samples.pids)) if rows is None else rows
    return [
        {
            "images": torch.tensor(samples.features[row], dtype=torch.float32),
            "targets": int(samples.pids[row]),
            "camids": int(samples.camids[row]),
            "modalities": int(samples.modalities[row]),
            "img_paths": str(samples.paths[row]),
        }
        for row in rows
    ]


class Identity(torch.nn.Module):
    """The images are the features."""

    def forward(self, batch):
        return batch["images"]


def run(evaluator, batch_items):
    return inference_on_dataset(Identity(), DataLoader(batch_items, batch_size=7), evaluator)


def test_from_loader_to_results(
    golden_samples, golden_expected, golden_perm_path, make_evaluator, tmp_path
):
    protocols = ["sysu-indoor-1shot", "sysu-all-10shot"]
    evaluator = make_evaluator(protocols=protocols, rand_perm_cam=golden_perm_path)
    shuffled = np.random.default_rng(0).permutation(len(golden_samples.pids))
    results = run(evaluator, items(golden_samples, shuffled))
    assert isinstance(results, OrderedDict)
    metrics = ("Rank-1", "Rank-5", "Rank-10", "Rank-20", "mAP", "mINP")
    assert list(results) == [f"{p}/{f}" for p in protocols for f in metrics] + ["metric"]
    assert {type(value) for value in results.values()} == {float}
    expected = golden_expected["indoor_1shot"]
    assert results["sysu-indoor-1shot/Rank-1"] == pytest.approx(100 * expected["cmc_mean"][0])
    assert results["metric"] == pytest.approx(50 * (expected["cmc_mean"][0] + expected["map_mean"]))
    stored = read_results(tmp_path / "out" / "results.json")["scores"][1]
    assert stored["mean"]["mAP"] == results["sysu-all-10shot/mAP"]
    assert (stored["protocol"], stored["draw"]) == ("sysu-all-10shot", "official")
    assert (stored["flip"], stored["reranking"]) == (False, None)
    assert not (tmp_path / "out" / "ranked_gallery.png").exists()


def test_results_go_through_fastreids_printer_and_checkpoints(random_samples, make_evaluator):
    results = run(make_evaluator(), items(random_samples(0)))
    assert pickle.loads(pickle.dumps(results["metric"])) == results["metric"]
    results["dataset"] = "SYSUMM01"  # as DefaultTrainer.test does
    print_csv_format(results)


def test_the_table_and_the_draw_are_logged(random_samples, make_evaluator, caplog):
    with caplog.at_level(logging.INFO, logger="cmemd.engine.evaluator"):
        run(make_evaluator(), items(random_samples(0)))
    assert "Rank-1" in caplog.text
    assert "python" in caplog.text
    # Id 4 is under camera 2 but not under camera 1: its queries of camera 3 have no match.
    assert "sysu-indoor-1shot: 39 queries, 3 of them without a positive" in caplog.text


def test_an_image_seen_twice_counts_once(random_samples, make_evaluator):
    samples = random_samples(0)
    rows = [*range(len(samples.pids)), 0, 1, 8, 8]
    results = run(make_evaluator(), items(samples, rows))
    assert results == run(make_evaluator(), items(samples))


def test_reset_forgets(random_samples, make_evaluator):
    evaluator = make_evaluator()
    run(evaluator, items(random_samples(1)))
    results = run(evaluator, items(random_samples(0)))
    alone = score(random_samples(0), get_protocol("sysu-all-1shot"))
    assert results["sysu-all-1shot/mAP"] == pytest.approx(100 * alone.mean()["mAP"], abs=1e-3)


def test_ranked_gallery_is_drawn(make_samples, make_evaluator, tmp_path):
    rows = [(pid, camera, 1, float(pid)) for pid in (1, 2) for camera in (1, 3)]
    samples = make_samples(rows, folder=f"{tmp_path}/")
    for path in samples.paths:
        tmp_path.__class__(path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 16), 120).save(path)
    run(make_evaluator(ranked_gallery_queries=2), items(samples))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "results.json",
        "results.per_query.npz",
        "ranked_gallery.png",
    }


def test_a_file_name_that_is_no_number_is_refused(random_samples, make_evaluator):
    item = items(random_samples(0))[0] | {"img_paths": "cam1/0001/Thumbs.jpg"}
    with pytest.raises(InputError, match="expected an image number as file name"):
        run(make_evaluator(), [item])


def test_no_image_and_diverged_features_are_refused(random_samples, make_evaluator):
    with pytest.raises(InputError, match="expected test images, got none"):
        make_evaluator().evaluate()
    wrong = items(random_samples(0))
    for item in wrong:
        item["images"] = torch.full((4,), torch.nan)
    with pytest.raises(InputError, match="the network has diverged"):
        run(make_evaluator(), wrong)


def test_some_diverged_features_are_scored_as_the_worst_and_said(
    random_samples, make_evaluator, caplog
):
    wrong = items(random_samples(0))
    wrong[3]["images"] = torch.full((4,), torch.nan)
    run(make_evaluator(), wrong)
    assert "The features of 1 images hold NaN or infinity" in caplog.text


def test_flip_and_reranking_are_columns_beside_the_plain_ones(
    random_samples, make_evaluator, tmp_path
):
    class Both(torch.nn.Module):
        """Features, and others as their mean with a mirror image's."""

        def forward(self, batch):
            return torch.stack([batch["images"], batch["images"].flip(1) ** 3], dim=1)

    evaluator = make_evaluator(protocols=["sysu-all-1shot"], reranking=Reranking(k1=4, k2=2))
    loader = DataLoader(items(random_samples(0)), batch_size=7)
    results = inference_on_dataset(Both(), loader, evaluator)
    scores = read_results(tmp_path / "out" / "results.json")["scores"]
    ways = [(entry["flip"], entry["reranking"] is not None) for entry in scores]
    assert ways == [(False, False), (False, True), (True, False), (True, True)]
    assert len({entry["mean"]["mAP"] for entry in scores}) == 4
    plain = run(make_evaluator(protocols=["sysu-all-1shot"]), items(random_samples(0)))
    assert results["metric"] == plain["metric"]
    assert results["sysu-all-1shot/flip/re-ranked/mAP"] == scores[3]["mean"]["mAP"]


def test_what_is_known_of_the_run_is_in_the_card(random_samples, make_evaluator, tmp_path):
    run(make_evaluator(run={"seed": 3}), items(random_samples(0)))
    assert read_results(tmp_path / "out" / "results.json")["run"] == {"seed": 3}


def test_saved_features_score_the_same(random_samples, make_evaluator, tmp_path):
    samples = random_samples(0)
    order = np.random.default_rng(0).permutation(len(samples.pids))
    results = run(make_evaluator(save_features=True), items(samples, order))
    again = score(
        read_features(tmp_path / "out" / "features.npz", "sysu"), get_protocol("sysu-all-1shot")
    )
    assert 100 * again.mean()["mAP"] == results["sysu-all-1shot/mAP"]


def test_images_of_other_data_sets_may_have_names_that_are_no_numbers(llcm_samples, make_evaluator):
    shuffled = np.random.default_rng(0).permutation(len(llcm_samples.pids))
    results = run(make_evaluator(protocols=["llcm-v2t"]), items(llcm_samples, shuffled))
    expected = score(llcm_samples, get_protocol("llcm-v2t")).mean()
    assert results["llcm-v2t-paper/mAP"] == pytest.approx(100 * expected["mAP"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"protocols": []}, "at least one, got none"),
        ({"protocols": ["sysu-all-1shot", "regdb-v2t"]}, "expected protocols of one data set"),
        ({"protocols": ["sysu-all"]}, "expected a protocol out of"),
        ({"protocols": ["sysu-all-10shot"]}, "no rand_perm_cam.mat"),
        ({"draw": "official"}, "expected rand_perm_cam.mat"),
        ({"draw": "x"}, "expected a gallery sampling out of"),
        ({"metric": "l1"}, "expected a metric out of"),
        ({"rand_perm_cam": "/nowhere/rand_perm_cam.mat"}, "got no file"),
    ],
)
def test_mistakes_show_before_any_image_is_looked_at(make_evaluator, wrong, message):
    with pytest.raises(InputError, match=message):
        make_evaluator(**wrong)


@pytest.mark.parametrize("rank", [0, 1])
def test_images_of_all_processes_are_scored_on_the_main_one(
    random_samples, make_evaluator, monkeypatch, rank, tmp_path
):
    samples = random_samples(0)
    mine, half = make_evaluator(), len(samples.pids) // 2

    def add(part):
        for item in items(samples)[part]:
            mine.process({name: [value] for name, value in item.items()}, item["images"][None])

    add(slice(0, half + 2))
    module = "cmemd.engine.evaluator"
    monkeypatch.setattr(f"{module}.comm.is_main_process", lambda: rank == 0)
    monkeypatch.setattr(f"{module}.FeatureTable.gather", lambda table: add(slice(half, None)))
    results = mine.evaluate()
    assert (tmp_path / "out" / "results.json").exists() == (rank == 0)
    if rank:
        assert results == {}
    else:
        assert results == run(make_evaluator(), items(samples))
