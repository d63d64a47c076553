"""Runs that are killed at random moments, then resumed, end as if they had not been killed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.conftest import CONFIGS, TINY
from tests.engine import victim
from tests.engine.test_resume import assert_same, outcome, results

EVERY_STEP = {"SOLVER.CHECKPOINT_MINUTES": "0.0005", "DATALOADER.NUM_WORKERS": "1"}
KEYS = {
    "SOLVER.MAX_EPOCH": "9",
    "SOLVER.CHECKPOINT_PERIOD": "2",
    "TEST.EVAL_PERIOD": "3",
    "INPUT.REA.ENABLED": "True",
}
VALIDATION = {
    "SOLVER.SELECTION": "validation",
    "DATASETS.SYSUMM01.TRAIN_WITH_VAL": "False",
    "SOLVER.IMS_PER_BATCH": "20",
}
REGDB = {
    "DATASETS.NAMES": "('RegDB',)",
    "DATASETS.TESTS": "('RegDB',)",
    "TEST.PROTOCOLS": "('regdb-v2t',)",
    "SOLVER.IMS_PER_BATCH": "8",
}


TESTING = "after the last epoch: testing"


def words(folder: Path, keys: dict[str, str], *flags: str) -> list[str]:
    options = TINY | EVERY_STEP | KEYS | keys | {"OUTPUT_DIR": str(folder)}
    pairs = [word for pair in options.items() for word in pair]
    return ["--config-file", str(CONFIGS / "demo.yml"), *flags, *pairs]


def phase(folder: Path) -> str:
    """Where a kill met a run, by what it left."""
    if any(folder.rglob(".*.tmp")):
        return "a file was being written"
    if not any(folder.rglob("model_*.pth")):
        return "before the first checkpoint"
    if any(folder.rglob("model_final.pth")):
        return TESTING
    return "between checkpoints: training or evaluating"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "keys", "flags", "kills"),
    [
        ("last", {}, ["--resume"], 30),
        ("validation", VALIDATION, ["--resume"], 12),
        ("trials", REGDB, ["--trials", "1,2"], 8),
    ],
)
def test_many_kills(datasets, tmp_path, name, keys, flags, kills, capsys):
    environment = {"FASTREID_DATASETS": str(datasets), "OMP_NUM_THREADS": "1"}
    log = tmp_path / "output.txt"

    def run(folder: Path, seconds: float | None = None) -> bool:
        """Run to the end, or kill; say whether it ended by itself."""
        process = victim.start(words(folder, keys, *flags), environment, log)
        process.join(seconds)
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            if name == "trials":
                _wait_for_orphans(folder)
            return False
        assert process.exitcode == 0, log.read_text()[-2000:]
        return True

    def finished(folder: Path) -> list[Path]:
        return [folder / f"trial-{n}" for n in (1, 2)] if name == "trials" else [folder]

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    begun = time.monotonic()
    assert run(whole)
    duration = time.monotonic() - begun
    rng, met, ends = random.Random(0), Counter(), 0
    while met.total() < kills:
        done = run(cut, rng.uniform(0, duration))
        if not done:
            where = phase(cut)
            met[where] += 1
            done = where == TESTING and run(cut)  # nothing is left to be killed but tests
        if done:
            for one, other in zip(finished(cut), finished(whole), strict=True):
                assert_same(outcome(one), outcome(other), str(dict(met)))
            ends += 1
            shutil.rmtree(cut)
    assert run(cut)
    for one, other in zip(finished(cut), finished(whole), strict=True):
        assert_same(outcome(one), outcome(other), str(dict(met)))
        assert results(one)["run"]["identity"] == results(other)["run"]["identity"]
    with capsys.disabled():
        sys.stdout.write(
            f"\n{name}: {met.total()} kills, {ends + 1} runs ended bit-equal; {dict(met)}\n"
        )


def _wait_for_orphans(folder: Path) -> None:
    """Wait until a trial whose parent was killed has noticed that, saved and ended."""
    from cmemd.errors import InputError
    from cmemd.files import one_writer

    deadline = time.monotonic() + 60
    for trial in folder.glob("trial-*"):
        while True:
            try:
                with one_writer(trial):
                    break
            except InputError:
                assert time.monotonic() < deadline, f"an orphan of {trial} goes on"
                time.sleep(0.1)


@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_stopped(datasets, tmp_path, capsys):
    configs = []
    for align in ("none", "mmd"):
        configs.append(tmp_path / f"{align}.yml")
        lines = [f"_BASE_: {CONFIGS / 'demo.yml'}", "MODEL:", "  LOSSES:", "    ALIGN:"]
        configs[-1].write_text("\n".join([*lines, f"      NAME: {align}\n"]))
    options = TINY | EVERY_STEP | KEYS
    opts = [word for pair in options.items() for word in pair]
    environment = os.environ | {"FASTREID_DATASETS": str(datasets)}

    def study(output: Path, seconds: float | None) -> bool:
        command = [sys.executable, "-m", "cmemd", "ablate", "--configs", *map(str, configs)]
        command += ["--seeds", "0", "1", "--jobs", "2", "--output", str(output), *opts]
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            try:
                return process.wait(seconds) == 0
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL if kills % 2 else signal.SIGTERM)
                assert process.wait() == (-signal.SIGKILL if kills % 2 else 128 + signal.SIGTERM)
                return False

    kills = 0
    begun = time.monotonic()
    assert study(tmp_path / "whole", None)
    duration = time.monotonic() - begun
    rng = random.Random(0)
    while not study(tmp_path / "cut", rng.uniform(0.15, 0.5) * duration):
        kills += 1
        time.sleep(3)  # orphans notice between iterations
    runs = [f"{config.stem}/seed-{seed}" for config in configs for seed in (0, 1)]
    for run in runs:
        assert_same(outcome(tmp_path / "cut" / run), outcome(tmp_path / "whole" / run), run)
    starts = [
        len(json.loads((tmp_path / f"cut/{run}/run.json").read_text())["starts"]) for run in runs
    ]
    with capsys.disabled():
        sys.stdout.write(f"\nstudy: {kills} kills, starts of its runs {starts}, all bit-equal\n")
    assert (tmp_path / "cut/table.txt").read_bytes() == (tmp_path / "whole/table.txt").read_bytes()
