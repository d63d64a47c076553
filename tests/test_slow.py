"""The full-size network, for a minute or two on a CPU."""

import json

import pytest
from tests.conftest import CONFIGS

from cmemd.evaluation.results import read_results


@pytest.mark.slow
def test_sysu_yml_trains_two_iterations_of_its_resnet50_and_evaluates(
    train_net, tmp_path, monkeypatch
):
    """The file as it is, but for start-up weights, the number of people and of iterations."""
    from cmemd.standin import draw_sysu

    draw_sysu(tmp_path / "data/SYSU-MM01", ids=10, per_camera=2, size=(144, 72), seed=0)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "data"))
    keys = {
        "MODEL.DEVICE": "cpu",
        "MODEL.BACKBONE.PRETRAIN": False,
        "SOLVER.IMS_PER_BATCH": 32,
        "SOLVER.MAX_EPOCH": 1,
        "TEST.EVAL_PERIOD": 1,
        "DATALOADER.NUM_WORKERS": 0,
    }
    assert train_net(config=CONFIGS / "sysu.yml", tiny=False, **keys)[0] == 0
    scores = read_results(tmp_path / "out/results.json")["scores"]
    assert {score["protocol"] for score in scores} == {"sysu-all-1shot", "sysu-indoor-1shot"}
    scalars = [json.loads(line) for line in (tmp_path / "out/metrics.json").open()]
    assert max(line["iteration"] for line in scalars) == 1
