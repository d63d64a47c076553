"""``--num-gpus`` starts torchrun; one line and the status of the first process that ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.conftest import CONFIGS, REPOSITORY, TINY
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from cmemd.engine.launch import _explain


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


@pytest.mark.slow
def test_num_gpus_ends_with_one_line_and_no_process_is_left(datasets, tmp_path):
    environment = os.environ | {"FASTREID_DATASETS": str(datasets)}
    options = TINY | {"SOLVER.MAX_EPOCH": "9999", "TEST.EVAL_PERIOD": "9999"}
    options["SOLVER.CHECKPOINT_PERIOD"] = "9999"
    for case, number, target, status, words in (
        ("Ctrl-C", signal.SIGINT, None, 130, "stopped by SIGINT: saved after iteration"),
        ("a signal to one", signal.SIGTERM, 1, 143, "stopped by SIGTERM: saved after iteration"),
        ("a kill", signal.SIGKILL, 0, 1, "error: process 0 of this run was killed by SIGKILL"),
        ("a hang", signal.SIGSTOP, 1, 1, "error: process 1 of this run does not answer"),
    ):
        folder = tmp_path / str(int(number))
        pairs = [word for pair in options.items() for word in pair]
        command = [sys.executable, "tools/train_net.py", "--num-gpus", "2", "--config-file"]
        command += [str(CONFIGS / "demo.yml"), *pairs, "OUTPUT_DIR", str(folder)]
        with subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as run:
            while not (folder / "metrics.json").is_file():
                assert run.poll() is None, run.stderr.read()
                time.sleep(0.1)
            children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
            begun = time.monotonic()
            os.kill(run.pid if target is None else int(children[target]), number)
            errors = run.stderr.read()
        assert run.returncode == status, (case, errors)
        assert time.monotonic() - begun < 60, case
        assert errors.startswith(words), (case, errors)
        assert errors.count("\n") == 1, (case, errors)
        assert not [child for child in children if Path("/proc", child).exists()], case
