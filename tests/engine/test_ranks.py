"""Several processes agree, and equal one: batches, untrained networks, evaluations, signals."""

import json
import os
import signal
import socket
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.cases import cases
from tests.conftest import CONFIGS, TINY
from tests.data.test_sampler import PEOPLE
from tests.engine import victim

from cmemd.data.places import PlacedSampler
from cmemd.data.sampler import SAMPLERS


def placed(
    rank: int, world_size: int, start: int = 0, name: str = "CrossModalitySampler"
) -> PlacedSampler:
    """Batches of 4 identities x (2 + 2) images over all processes."""
    sampler = SAMPLERS[name](
        PEOPLE,
        identities=4,
        num_visible=2,
        num_thermal=2,
        seed=3,
        rank=rank,
        world_size=world_size,
    )
    stream = PlacedSampler(sampler, batch=16 // world_size, rank=rank, world_size=world_size)
    stream.start = start
    return stream


def take(stream: PlacedSampler, batches: int, size: int) -> list[list[tuple[int, int]]]:
    drawn = iter(stream)
    return [[next(drawn) for _ in range(size)] for _ in range(batches)]


@cases("name", SAMPLERS)
def test_ranks_share_one_processs_batches_with_their_places(name):
    whole = take(placed(0, 1, name=name), 20, 16)
    assert [place for batch in whole for _, place in batch] == list(range(20 * 16))
    for world_size in (2, 4):
        streams = [placed(rank, world_size, name=name) for rank in range(world_size)]
        parts = [take(stream, 20, 16 // world_size) for stream in streams]
        joined = [sum(batch, []) for batch in zip(*parts, strict=True)]
        assert joined == whole, world_size


@cases("name", SAMPLERS)
def test_a_skipped_start_is_the_rest_of_the_stream(name):
    whole = take(placed(0, 1, name=name), 20, 16)
    assert take(placed(0, 1, start=7, name=name), 13, 16) == whole[7:]
    halves = [take(placed(rank, 2, start=7, name=name), 13, 8) for rank in (0, 1)]
    assert [a + b for a, b in zip(*halves, strict=True)] == whole[7:]


@pytest.fixture
def start(datasets, tmp_path):
    """Start a run in several processes, as torchrun would; return the processes."""

    def start(world_size: int, folder: Path, *words: str, **keys: object) -> list[BaseProcess]:
        options = TINY | {"OUTPUT_DIR": str(folder)}
        options |= {name.replace("__", "."): str(value) for name, value in keys.items()}
        pairs = [word for pair in options.items() for word in pair]
        words = ["--config-file", str(CONFIGS / "demo.yml"), *words, *pairs]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {
            "TORCHELASTIC_RUN_ID": "test",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": str(world_size),
            "LOCAL_WORLD_SIZE": str(world_size),
            "GROUP_RANK": "0",
            "OMP_NUM_THREADS": "1",
            "FASTREID_DATASETS": str(datasets),
        }
        return [
            victim.start(
                words,
                shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                tmp_path / f"output-{rank}.txt",
            )
            for rank in range(world_size)
        ]

    return start


def end(processes: list[BaseProcess]) -> list[int]:
    """Wait for all; return their exit statuses."""
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def output(tmp_path: Path) -> str:
    return "".join(path.read_text() for path in sorted(tmp_path.glob("output-*.txt")))


def test_an_evaluation_by_several_processes_equals_one(start, tmp_path):
    """Of an untrained network too, which all processes must start alike."""
    scores, features = [], []
    for world_size in (1, 2, 3):
        folder = tmp_path / str(world_size)
        keys = {"TEST__IMS_PER_BATCH": 7, "SEED": 5, "TEST__SAVE_FEATURES": True}
        keys |= {"TEST__FLIP__ENABLED": True}
        ended = end(start(world_size, folder, "--eval-only", **keys))
        assert ended == [0] * world_size, output(tmp_path)[-2000:]
        scores.append(json.loads((folder / "results.json").read_text())["scores"])
        features.append(np.load(folder / "features.npz"))
    for world_size, others, theirs in zip((2, 3), scores[1:], features[1:], strict=True):
        assert others == scores[0], world_size
        for name in features[0].files:
            np.testing.assert_array_equal(theirs[name], features[0][name], f"{world_size} {name}")


FROZEN = {"MODEL__BACKBONE__NORM": "FrozenBN", "MODEL__HEADS__NORM": "FrozenBN"}


VIEWS = {
    "DATALOADER__VISIBLE_VIEWS": 2,
    "INPUT__CHANNEL_EXCHANGE__ENABLED": True,
    "INPUT__CHANNEL_EXCHANGE__IMAGES": "second",
    "MODEL__LOSSES__SOFT_LABELS__WEIGHT": 1.0,
    # Adam would turn the rounding of gradients near 0 into whole steps.
    "SOLVER__OPT": "SGD",
    "SOLVER__BASE_LR": 0.01,
}


@cases(("worlds", "views"), [((1, 2, 5), {}), ((1, 2), VIEWS)])
def test_five_steps_of_several_processes_are_those_of_one(start, tmp_path, worlds, views):
    """With frozen normalisation statistics: else each process uses those of its own images."""
    parameters = []
    keys = FROZEN | views | {"SEED": 5, "SOLVER__MAX_EPOCH": 3, "TEST__EVAL_PERIOD": 3}
    for world_size in worlds:
        folder = tmp_path / f"{world_size} {len(views)}"
        ended = end(start(world_size, folder, **keys))
        assert ended == [0] * world_size, output(tmp_path)[-2000:]
        checkpoint = torch.load(folder / "model_final.pth", weights_only=True)
        assert checkpoint["iteration"] >= 5
        parameters.append(checkpoint["model"])
    first = parameters[0]
    for world_size, others in zip(worlds[1:], parameters[1:], strict=True):
        for name, expected in first.items():
            difference = (others[name].double() - expected.double()).abs().max()
            assert difference < 1e-5, (world_size, name, float(difference))


def test_two_processes_build_one_cache_and_train_alike(start, tmp_path):
    keys = {"SEED": 5, "SOLVER__MAX_EPOCH": 2, "TEST__EVAL_PERIOD": 2}
    keys |= {"DATALOADER__NUM_WORKERS": 1, "DATALOADER__PREFETCH": 4, "INPUT__RESIZE": "opencv"}
    cached = {"DATALOADER__CACHE": tmp_path / "cache"}
    models = []
    for name, more in (("files", {}), ("cache", cached)):
        folder = tmp_path / name
        assert end(start(2, folder, **keys, **more)) == [0, 0], output(tmp_path)[-2000:]
        models.append(torch.load(folder / "model_final.pth", weights_only=True)["model"])
    assert len(list((tmp_path / "cache").glob("*/cache.json"))) == 1
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_a_cache_that_one_process_cannot_build_ends_all(start, tmp_path):
    (tmp_path / "file").touch()
    begun = time.monotonic()
    assert end(start(2, tmp_path / "out", DATALOADER__CACHE=tmp_path / "file")) == [2, 2]
    assert time.monotonic() - begun < 60
    (line,) = errors(tmp_path)
    assert "DATALOADER.CACHE that can be written" in line


def started(folder: Path, processes: list[BaseProcess], tmp_path: Path) -> None:
    """Wait for the first logged step."""
    while not (folder / "metrics.json").is_file() or not (folder / "metrics.json").stat().st_size:
        assert all(process.is_alive() for process in processes), output(tmp_path)[-2000:]
        time.sleep(0.05)


def errors(tmp_path: Path) -> list[str]:
    lines = output(tmp_path).splitlines()
    return [line for line in lines if line.startswith(("error: ", "stopped by ", "Traceback"))]


def test_an_error_of_all_processes_is_one_line(start, tmp_path):
    processes = start(2, tmp_path / "batch", SOLVER__IMS_PER_BATCH=42)
    assert end(processes) == [2, 2]
    (line,) = errors(tmp_path)
    assert "on each of 2 process(es), got 42" in line


def test_the_others_end_when_a_process_is_killed_or_hangs(start, tmp_path):
    keys = {"SOLVER__MAX_EPOCH": 9999, "TEST__EVAL_PERIOD": 9999}
    for number, message in ((signal.SIGKILL, "another process"), (signal.SIGSTOP, "not answer")):
        folder = tmp_path / str(int(number))
        processes = start(2, folder, **keys)
        started(folder, processes, tmp_path)
        begun = time.monotonic()
        os.kill(processes[1].pid, number)
        processes[0].join(60)
        assert processes[0].exitcode == 1, number
        assert time.monotonic() - begun < 60, number
        assert message in errors(tmp_path)[-1], number
        processes[1].kill()
    assert len(errors(tmp_path)) == 2


def test_two_processes_stop_together_and_go_on(start, tmp_path):
    """At a signal to one; the resumed run is the one that was never stopped."""
    keys = {"SOLVER__MAX_EPOCH": 40, "TEST__EVAL_PERIOD": 40, "SOLVER__CHECKPOINT_PERIOD": 40}
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    processes = start(2, cut, **keys)
    started(cut, processes, tmp_path)
    processes[1].terminate()
    begun = time.monotonic()
    assert end(processes) == [128 + signal.SIGTERM] * 2, output(tmp_path)[-2000:]
    assert time.monotonic() - begun < 10
    assert output(tmp_path).count("stopped by SIGTERM: saved after iteration") == 1
    stopped = torch.load(next(cut.glob("model_iter_*.pth")), weights_only=True)
    assert len(stopped["random"]) == 2
    keys["SOLVER__MAX_EPOCH"] = stopped["epoch"] + 2  # the end of the epoch, counted from 0
    for folder, words in ((cut, ["--resume"]), (whole, [])):
        ended = end(start(2, folder, *words, **keys))
        assert ended == [0, 0], output(tmp_path)[-2000:]
    ends = [torch.load(f / "model_final.pth", weights_only=True) for f in (cut, whole)]
    assert all(torch.equal(ends[0]["model"][n], ends[1]["model"][n]) for n in ends[0]["model"])
