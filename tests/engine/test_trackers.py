"""Weights & Biases and MLflow get a run's scalars, by stubs of their packages."""

import sys
from types import SimpleNamespace

import pytest
from tests.conftest import CONFIGS, TINY

from cmemd import load_config
from cmemd.engine import trackers
from cmemd.engine.preflight import check_values
from cmemd.errors import InputError


@pytest.fixture
def services(monkeypatch):
    """What stubs of both services were told."""
    told = {"wandb": [], "mlflow": []}

    def init(**given):
        told["wandb"].append(("config", given["config"]["SOLVER.MAX_EPOCH"]))
        return SimpleNamespace(
            log=lambda values, step: told["wandb"].append((step, values)),
            finish=lambda: told["wandb"].append("end"),
        )

    mlflow = SimpleNamespace(
        start_run=lambda run_name: None,
        log_params=lambda c: told["mlflow"].append(("config", c["SOLVER.MAX_EPOCH"])),
        log_metrics=lambda values, step: told["mlflow"].append((step, values)),
        end_run=lambda: told["mlflow"].append("end"),
    )
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setattr(trackers, "find_spec", lambda name: name)
    return told


def test_both_services_get_the_losses_with_their_iteration_and_the_end(services, train_net):
    assert train_net(TRACKERS='("wandb", "mlflow")')[0] == 0
    for name, told in services.items():
        assert told[0] == ("config", 1), name
        assert told[-1] == "end", name
        steps = [entry[0] for entry in told[1:-1]]
        assert steps == sorted(set(steps)), (name, steps)
        assert any("total_loss" in values for _, values in told[1:-1]), name


def test_a_service_whose_package_is_missing_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    words = [word for pair in TINY.items() for word in pair]
    cfg = load_config(CONFIGS / "demo.yml", [*words, "TRACKERS", '("wandb",)'])
    with pytest.raises(InputError, match=r"TRACKERS.*cmemd\[track\]"):
        check_values(cfg)
