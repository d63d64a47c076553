"""``--num-gpus`` starts torchrun; one line and the status of the first process that ended."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tests.conftest import CONFIGS, REPOSITORY, TINY
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from cmemd.engine.launch import _explain
from cmemd.standin import draw_sysu


def failure(rank: int, status: int) -> ProcessFailure:
    return ProcessFailure(rank, 1000 + rank, status, "<N/A>")


def said(rank: int, status: int, line: str, lost: bool = False) -> dict:
    return {"rank": rank, "status": status, "line": line, "lost": lost}


def test_the_line_is_the_first_cause():
    bad = said(1, 2, "error: bad input")
    stop = said(1, 143, "stopped by SIGTERM: saved")
    lost = said(0, 1, "error: another process has ended", lost=True)
    for case, codes, ends, expected in (
        ("bad input", (-15, 2), [bad, bad], (2, bad["line"])),
        ("bad input, and one killed half a minute later", (-9, 2), [bad], (2, bad["line"])),
        ("stopped", (143, 143), [stop, stop], (143, stop["line"])),
        ("killed", (1, -9), [lost], (1, "error: process 1 of this run was killed by SIGKILL")),
        ("killed, and one stopped for it", (143, -9), [stop], (1, "error: process 1 of this run")),
        ("lost elsewhere", (1, 1), [lost, lost], (1, lost["line"])),
        ("without a word", (7, 0), [], (7, "error: process 0 of this run ended with status 7")),
    ):
        failures = {rank: failure(rank, code) for rank, code in enumerate(codes) if code}
        status, line = _explain(ChildFailedError("train_net", failures), ends)
        assert status == expected[0], case
        assert line.startswith(expected[1]), case
    interrupted = SignalException("", signal.SIGINT)
    assert _explain(interrupted, []) == (130, "stopped by SIGINT")
    assert _explain(interrupted, [said(0, 130, "stopped by SIGINT: saved")])[1].endswith("saved")


@contextmanager
def training(data: Path, folder: Path, **keys: object) -> Iterator[subprocess.Popen]:
    """Yield an endless training by two processes after its first logged step."""
    options = TINY | {"SOLVER.MAX_EPOCH": "9999", "TEST.EVAL_PERIOD": "9999"}
    options |= {"SOLVER.CHECKPOINT_PERIOD": "9999", "OUTPUT_DIR": str(folder)}
    options |= {name.replace("__", "."): str(value) for name, value in keys.items()}
    pairs = [word for pair in options.items() for word in pair]
    command = [sys.executable, "tools/train_net.py", "--num-gpus", "2", "--config-file"]
    with subprocess.Popen(
        [*command, str(CONFIGS / "demo.yml"), *pairs],
        cwd=REPOSITORY,
        env=os.environ | {"FASTREID_DATASETS": str(data)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        try:
            log = folder / "metrics.json"
            while not log.is_file() or not log.stat().st_size:  # it is made before the first step
                assert run.poll() is None, run.stderr.read()
                time.sleep(0.1)
            yield run
        finally:
            run.terminate()


def children_of(run: subprocess.Popen) -> list[int]:
    return list(map(int, Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()))


def check_end(case: str, run: subprocess.Popen, children: list[int], status: int, start: str):
    """Wait for the end; check the status, that one line says why, and that no process is left."""
    begun = time.monotonic()
    errors = run.stderr.read()
    assert run.wait() == status, (case, errors)
    assert time.monotonic() - begun < 60, case
    assert errors.startswith(start), (case, errors)
    assert errors.count("\n") == 1, (case, errors)
    assert not [child for child in children if Path(f"/proc/{child}").exists()], case


@pytest.mark.slow
def test_num_gpus_ends_with_one_line_and_no_process_is_left(datasets, tmp_path):
    for case, number, target, status, start in (
        ("Ctrl-C", signal.SIGINT, None, 130, "stopped by SIGINT: saved after iteration"),
        ("a signal to one", signal.SIGTERM, 1, 143, "stopped by SIGTERM: saved after iteration"),
        ("a kill", signal.SIGKILL, 0, 1, "error: process 0 of this run was killed by SIGKILL"),
        ("a hang", signal.SIGSTOP, 1, 1, "error: process 1 of this run does not answer"),
    ):
        with training(datasets, tmp_path / str(int(number))) as run:
            children = children_of(run)
            os.kill(run.pid if target is None else children[target], number)
            check_end(case, run, children, status, start)


@pytest.mark.slow
def test_an_image_that_one_process_cannot_read_is_one_line(tmp_path):
    """It is damaged after the start; one process meets it."""
    for case, keys in (
        ("train", {}),
        ("train", {"DATALOADER__NUM_WORKERS": 2}),
        ("test", {"TEST__EVAL_PERIOD": 8}),
    ):
        data = tmp_path / f"{case}-{len(keys)}"
        draw_sysu(data / "SYSU-MM01", ids=20, per_camera=2, size=(48, 24), seed=0)
        numbers = (data / f"SYSU-MM01/exp/{case}_id.txt").read_text().strip().split(",")
        image = min(data.glob(f"SYSU-MM01/cam*/{int(numbers[-1]):04d}/*.jpg"))
        with training(data, tmp_path / f"out-{case}-{len(keys)}", **keys) as run:
            children = children_of(run)
            image.write_bytes(b"damaged")
            check_end(case, run, children, 2, f"error: expected an image in {image}, got")


def run(data: Path, *words: str, **keys: object) -> None:
    options = TINY | {name.replace("__", "."): str(value) for name, value in keys.items()}
    pairs = [word for pair in options.items() for word in pair]
    subprocess.run(
        [sys.executable, "tools/train_net.py", *words, *pairs],
        cwd=REPOSITORY,
        env=os.environ | {"FASTREID_DATASETS": str(data)},
        capture_output=True,
        check=True,
    )


@pytest.mark.slow
def test_two_processes_that_were_stopped_go_on_to_the_same_parameters(datasets, tmp_path):
    keys = {"SOLVER__MAX_EPOCH": 4, "SEED": 5}
    with training(datasets, tmp_path / "parts", **keys) as stopped:
        stopped.send_signal(signal.SIGTERM)
        assert stopped.wait() == 143
    assert not (tmp_path / "parts/model_final.pth").exists()
    more = {"TEST__EVAL_PERIOD": 9999, "SOLVER__CHECKPOINT_PERIOD": 9999}
    models = []
    for folder in ("parts", "whole"):
        words = ["--resume", "--num-gpus", "2", "--config-file", str(CONFIGS / "demo.yml")]
        run(datasets, *words, **keys, **more, OUTPUT_DIR=tmp_path / folder)
        path = tmp_path / folder / "model_final.pth"
        models.append(torch.load(path, weights_only=True)["model"])
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[1])


@pytest.mark.slow
def test_trials_of_two_processes_have_the_metrics_of_one(datasets, tmp_path):
    """With frozen normalisation statistics, and before rounding has grown."""
    means = []
    for number in ("1", "2"):
        words = ["--trials", "1-2", "--num-gpus", number, "--config-file"]
        run(
            datasets,
            *[*words, str(CONFIGS / "regdb.yml")],
            MODEL__BACKBONE__NORM="FrozenBN",
            MODEL__BACKBONE__PRETRAIN=False,
            MODEL__BACKBONE__FEAT_DIM=256,
            MODEL__HEADS__NORM="FrozenBN",
            MODEL__DEVICE="cpu",
            SOLVER__IMS_PER_BATCH=32,
            SEED=5,
            OUTPUT_DIR=tmp_path / number,
        )
        scores = json.loads((tmp_path / number / "results.json").read_text())["scores"]
        means.append([score["mean"] for score in scores])
    assert means[0] == means[1]
