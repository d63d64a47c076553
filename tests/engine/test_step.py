"""A step of training never waits for the device, and what it logs is not changed by that."""

import itertools
from collections import Counter
from pathlib import Path

import pytest
from fastreid.utils.events import EventStorage
from tests.conftest import CONFIGS, TINY
from tests.engine.synchronisations import DEVICE, Synchronisations, moved

import cmemd
from cmemd.engine.keys import OPTIMIZERS
from cmemd.engine.trainer import Trainer

STEPS = 5


def trainer_of(folder: Path, **keys: object) -> Trainer:
    folder.mkdir(exist_ok=True)
    opts = TINY | {"MODEL.BACKBONE.PRETRAIN": "False", "OUTPUT_DIR": str(folder)}
    opts |= {"SOLVER.MAX_EPOCH": "9", "SEED": "0"}
    opts |= {name.replace("__", "."): str(value) for name, value in keys.items()}
    cfg = cmemd.load_config(CONFIGS / "demo.yml", [w for pair in opts.items() for w in pair])
    return Trainer(cfg)


def steps(trainer: Trainer, number: int) -> None:
    """Go through some iterations, with all hooks, as the trainer's loop does."""
    for _ in range(number):
        trainer.before_step()
        trainer.run_step()
        trainer.after_step()
        trainer.iter += 1


def synchronisations(folder: Path, **keys: object) -> Counter:
    """Count what waits for the device in some steps between two log lines."""
    trainer = trainer_of(folder, MODEL__DEVICE=DEVICE.type, **keys)
    batches = moved(iter(trainer.data_loader))
    trainer._trainer._batches = iter(list(itertools.islice(batches, STEPS + 1)))
    trainer.iter, trainer.epoch = 0, 0
    with EventStorage(0) as trainer.storage:
        trainer.before_train()
        trainer.before_epoch()
        steps(trainer, 1)  # an optimiser makes its state
        with Synchronisations() as counted:
            steps(trainer, STEPS)
    return counted.found


@pytest.fixture(autouse=True)
def _data(datasets, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))


def test_no_step_waits_for_the_device_between_log_lines(tmp_path):
    cases = (
        {},
        {
            "SOLVER__OPT": "SGD",
            "SOLVER__NESTEROV": True,
            "MODEL__FREEZE_LAYERS": "['backbone']",
            "SOLVER__FREEZE_ITERS": 3,
            "MODEL__LOSSES__ALIGN__NAME": "sinkhorn",
            "MODEL__LOSSES__ALIGN__WARMUP_ITERS": 4,
        },
        {
            "MODEL__LOSSES__NAME": "['CrossEntropyLoss', 'TripletLoss']",
            "MODEL__LOSSES__CENTRE__WEIGHT": 1.0,
            "MODEL__LOSSES__ALIGN__NAME": "affinity",
            "MODEL__HEADS__LOCAL_WEIGHTS": "image",
        },
        {"MODEL__LOSSES__ALIGN__NAME": "kl"},
        {"MODEL__LOSSES__ALIGN__NAME": "mmd"},
    )
    for number, case in enumerate(cases):
        found = synchronisations(tmp_path / str(number), **case)
        assert found == {}, f"{case}: {found}"


def test_no_optimiser_waits_for_the_device():
    for name in OPTIMIZERS:
        parameters = [torch.nn.Parameter(torch.empty(3, device=DEVICE)) for _ in range(2)]
        optimizer = getattr(torch.optim, name)(parameters, foreach=True)
        with Synchronisations() as counted:
            for _ in range(STEPS):
                optimizer.zero_grad()
                sum(parameter.sum() for parameter in parameters).backward()
                optimizer.step()
        assert counted.found == {}, name
