"""The schedule that a start prints is the one that fast-reid carries out."""

import itertools

import pytest
from fastreid.config import get_cfg
from tests.engine.replay import replayed

from cmemd.engine.schedule import Schedule
from cmemd.errors import InputError


def solver(**keys: object):
    """A configuration of seven epochs of four iterations."""
    cfg = get_cfg()
    given = {
        "IMS_PER_BATCH": 2,
        "MAX_EPOCH": 7,
        "BASE_LR": 1.0,
        "STEPS": [1, 2, 4],
        "GAMMA": 0.5,
        "ETA_MIN_LR": 0.1,
        "WARMUP_FACTOR": 0.2,
        "WARMUP_ITERS": 0,
    }
    for key, value in (given | keys).items():
        cfg.SOLVER[key] = value
    return cfg


def schedule(**keys: object) -> Schedule:
    return Schedule.of(solver(**keys), images=9)


def test_rates_are_those_of_fastreids_hook():
    for names in itertools.product(
        ("MultiStepLR", "CosineAnnealingLR"),
        ("linear", "constant", "exp"),
        (0, 1, 3, 4, 5, 8, 11),  # iterations of warm-up, over zero to three epochs of 4
        (0, 1, 2, 4),
    ):
        keys = dict(
            zip(("SCHED", "WARMUP_METHOD", "WARMUP_ITERS", "DELAY_EPOCHS"), names, strict=True)
        )
        cfg = solver(**keys)
        ours = Schedule.of(cfg, 9)
        mine = [ours.rate(iteration) for iteration in range(ours.iterations)]
        assert mine == pytest.approx(replayed(cfg, 9)), keys


def test_the_table_says_where_each_rate_starts():
    # 4 iterations an epoch; the warm-up ends within the 2nd epoch, at whose end the scheduler
    # first steps, so that step 1 comes after epoch 2, step 2 after 3 and step 4 after 5.
    lines = schedule(WARMUP_ITERS=6).table().splitlines()
    assert lines == [
        "7 epochs of 4 iterations, 28 in all",
        "  epoch    1, iteration       0: 0.2  linear warm-up for 6 iterations, 1.5 epochs",
        "  epoch    2, iteration       6: 1  SOLVER.BASE_LR",
        "  epoch    3, iteration       8: 0.5  step 1",
        "  epoch    4, iteration      12: 0.25  step 2",
        "  epoch    6, iteration      20: 0.125  step 4",
        "  epoch    7, iteration      27: 0.125  last",
    ]


def test_what_cannot_work_is_a_problem():
    for keys, words in (
        ({"SCHED": "CosineAnnealingLR", "DELAY_EPOCHS": 7}, "SOLVER.MAX_EPOCH above 7"),
        ({"SCHED": "CosineAnnealingLR", "WARMUP_ITERS": 25}, "SOLVER.MAX_EPOCH above 7"),
    ):
        (problem,) = schedule(**keys).problems()
        assert words in str(problem), keys
    for keys in (
        {"WARMUP_ITERS": 29},
        {"SCHED": "CosineAnnealingLR", "DELAY_EPOCHS": 6},
        {"SCHED": "CosineAnnealingLR", "WARMUP_ITERS": 24},
    ):
        assert not schedule(**keys).problems(), keys
        schedule(**keys).table()
    with pytest.raises(InputError, match="IMS_PER_BATCH 2, got 1"):
        Schedule.of(solver(), images=1)


def test_what_cannot_be_meant_is_a_warning():
    for keys, words in (
        ({"STEPS": [1, 7]}, "SOLVER.STEPS 7 come after the end"),
        ({"STEPS": [3], "DELAY_EPOCHS": 9}, "SOLVER.STEPS 3 come after the end"),
        ({"WARMUP_ITERS": 29, "STEPS": []}, "28 iterations: SOLVER.BASE_LR is never reached"),
        ({"WARMUP_ITERS": 28, "STEPS": []}, "is no shorter than the training"),
        ({"WARMUP_ITERS": 15, "STEPS": []}, "more than half of the training"),
        ({"WARMUP_ITERS": 6}, "is 1.50 epochs of 4, and the rate falls after epochs 2, 3 and 5"),
        ({"SCHED": "CosineAnnealingLR", "ETA_MIN_LR": 2.0}, "the rate rises"),
    ):
        (warning,) = schedule(**keys).warnings()
        assert words in warning, (keys, warning)
    for keys in ({}, {"WARMUP_ITERS": 3}, {"WARMUP_ITERS": 8}, {"STEPS": [6]}, {"STEPS": []}):
        assert not schedule(**keys).warnings(), keys


def test_another_batch_shifts_the_steps_of_sysu_and_a_warning_says_where_to():
    """The images of SYSU-MM01; half the batch halves the warm-up and moves both steps."""
    from tests.conftest import CONFIGS

    import cmemd

    for batch, shifted in ((96, None), (48, "after epochs 15 and 45"), (80, "epochs 19 and 49")):
        cfg = cmemd.load_config(CONFIGS / "sysu.yml", ["SOLVER.IMS_PER_BATCH", str(batch)])
        warnings = Schedule.of(cfg, 34167).warnings()
        assert len(warnings) == (shifted is not None), batch
        assert not shifted or shifted in warnings[0], (batch, warnings)
