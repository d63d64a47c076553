"""A resumed run is the run that was never interrupted, bit for bit."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tests.cases import cases
from tests.conftest import CONFIGS, TINY, start_train_net
from tests.engine import victim

from cmemd.engine.trainer import Trainer
from cmemd.standin import draw_sysu

AUGMENTED = {
    "INPUT__REA__ENABLED": True,
    "INPUT__CJ__ENABLED": True,
    "INPUT__LINEAR_ERASING__ENABLED": True,
    "DATALOADER__VISIBLE_VIEWS": 2,
    "INPUT__CHANNEL_EXCHANGE__ENABLED": True,
    "INPUT__CHANNEL_EXCHANGE__IMAGES": "second",
    "MODEL__LOSSES__SOFT_LABELS__WEIGHT": 1.0,
}
KEYS = AUGMENTED | {
    "SOLVER__MAX_EPOCH": 3,
    "SOLVER__CHECKPOINT_PERIOD": 2,
    "TEST__EVAL_PERIOD": 2,
}
EVERY_STEP = {"SOLVER__CHECKPOINT_MINUTES": 1e-9}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory) -> Path:
    """A root with a smaller stand-in: two iterations an epoch."""
    root = tmp_path_factory.mktemp("datasets")
    draw_sysu(root / "SYSU-MM01", ids=20, per_camera=1, size=(48, 24), seed=0)
    return root


@pytest.fixture(scope="module")
def whole(datasets, tmp_path_factory) -> Path:
    """The folder of a run with KEYS that was never interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    opts = {name.replace("__", "."): str(value) for name, value in KEYS.items()}
    opts = TINY | opts | {"OUTPUT_DIR": str(folder)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(datasets))
        assert start_train_net(patch, config=CONFIGS / "demo.yml", opts=opts) == 0
    return folder


class Killed(BaseException):
    """What ends a run where kill -9 would."""


def state(folder: Path) -> dict:
    return torch.load(folder / "model_final.pth", weights_only=True)


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def outcome(folder: Path) -> dict:
    """All that a finished run learned, and its scores."""
    names = ("model", "optimizer", "lr_sched", "iteration", "random")
    return {name: state(folder)[name] for name in names} | {"scores": results(folder)["scores"]}


def flip(path: Path) -> None:
    """Flip the lowest exponent bit of a number in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 | 3] ^= 0x80
    path.write_bytes(content)


def assert_same(one: object, other: object, where: str = "") -> None:
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for place, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}[{place}]")
    else:
        assert one == other, where


@contextmanager
def killed_at(iteration: int) -> Iterator[None]:
    """Let a run end without warning when the step of this number begins."""
    step = Trainer.run_step

    def run_step(trainer: Trainer) -> None:
        if trainer.iter == iteration:
            raise Killed
        step(trainer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "run_step", run_step)
        patch.setenv("CMEMD_DEBUG", "1")  # else the tool would end with a line
        try:
            yield
        except Killed:
            return
    pytest.fail(f"the run was not killed at iteration {iteration}")


@pytest.mark.parametrize("selection", ["last", "validation"])
def test_a_run_killed_at_any_iteration_ends_as_if_it_had_not_been(
    train_net, tmp_path, whole, selection
):
    keys, cut = KEYS | EVERY_STEP | {"SOLVER__SELECTION": selection}, tmp_path / "cut"
    if selection == "validation":
        keys |= {"DATASETS__SYSUMM01__TRAIN_WITH_VAL": False, "SOLVER__IMS_PER_BATCH": 20}
        whole = tmp_path / "whole"
        assert train_net(**keys, OUTPUT_DIR=whole)[0] == 0
    iterations = state(whole)["iteration"]
    kills = [1, iterations // 3, iterations // 2 + 1, iterations - 1]
    for number in kills:
        with killed_at(number):
            train_net("--resume", **keys, OUTPUT_DIR=cut)
    assert train_net("--resume", **keys, OUTPUT_DIR=cut)[0] == 0
    assert_same(outcome(cut), outcome(whole))
    run = results(cut)["run"]
    assert [start["iteration"] for start in run["interruptions"]] == kills
    assert results(whole)["run"]["interruptions"] == []
    assert run["identity"] == results(whole)["run"]["identity"]


def test_freezing_layers_goes_on_across_a_resume(train_net, tmp_path):
    keys = KEYS | EVERY_STEP | {"MODEL__FREEZE_LAYERS": "['backbone']", "SOLVER__FREEZE_ITERS": 3}
    start = None
    for folder, kills in (("whole", ()), ("cut", (2, 4))):
        for number in kills:  # while layers are frozen, and when they no longer are
            with killed_at(number):
                train_net("--resume", **keys, OUTPUT_DIR=tmp_path / folder)
            saved = torch.load(
                next((tmp_path / folder).glob("model_iter_*.pth")), weights_only=True
            )
            weight = saved["model"]["backbone.global_stream.0.0.conv1.weight"]
            start = weight if start is None else start
            assert torch.equal(weight, start) == (number <= 3), number
        assert train_net("--resume", **keys, OUTPUT_DIR=tmp_path / folder)[0] == 0
    assert_same(outcome(tmp_path / "cut"), outcome(tmp_path / "whole"))


def test_loader_workers_change_nothing(train_net, tmp_path):
    for workers in (0, 1, 3):
        keys = AUGMENTED | {"DATALOADER__NUM_WORKERS": workers, "TEST__EVAL_PERIOD": 1}
        assert train_net(**keys, OUTPUT_DIR=tmp_path / str(workers))[0] == 0
        assert_same(outcome(tmp_path / str(workers)), outcome(tmp_path / "0"), str(workers))


def test_without_a_checkpoint_a_resumed_run_starts_over_with_its_seed(train_net, tmp_path):
    keys = {"SEED": -1}
    with killed_at(1):
        train_net("--resume", **keys)
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert train_net("--resume", **keys)[0] == 0
    seed = record["identity"]["config"]["SEED"]
    assert results(tmp_path / "out")["run"]["seed"] == seed >= 0
    assert train_net(SEED=seed, OUTPUT_DIR=tmp_path / "again")[0] == 0
    assert_same(outcome(tmp_path / "out"), outcome(tmp_path / "again"))


def test_marks_and_damaged_checkpoints_do_not_mislead(train_net, tmp_path, whole):
    out = tmp_path / "out"
    keys = KEYS | {"SOLVER__CHECKPOINT_PERIOD": 1}
    epoch = state(whole)["iteration"] // 3
    with killed_at(2 * epoch + 1):
        train_net(**keys)
    for mark in (None, "", "model_0000.pth", "nonsense.pth"):
        shutil.copytree(out, tmp_path / "copy")
        path = tmp_path / "copy/last_checkpoint"
        path.unlink(missing_ok=True) if mark is None else path.write_text(mark)
        assert train_net("--resume", **keys, OUTPUT_DIR=tmp_path / "copy")[0] == 0
        log = (tmp_path / "copy/log.txt").read_text()
        assert f"Starting training from epoch 2, iteration {2 * epoch}" in log, mark
        assert_same(outcome(tmp_path / "copy"), outcome(whole), str(mark))
        shutil.rmtree(tmp_path / "copy")
    flip(out / "model_0001.pth")
    assert train_net("--resume", **keys)[0] == 0
    log = (out / "log.txt").read_text()
    assert "Passed over a damaged checkpoint" in log
    assert f"Starting training from epoch 1, iteration {epoch}" in log
    assert_same(outcome(out), outcome(whole))


def test_training_never_starts_over_on_top_of_damaged_checkpoints(train_net, tmp_path):
    assert train_net()[0] == 0
    final = tmp_path / "out/model_final.pth"
    flip(final)
    damaged = final.read_bytes()
    for words in (["--resume"], ["--eval-only", "MODEL.WEIGHTS", str(final)]):
        status, message = (
            train_net(*words)
            if words[0] == "--resume"
            else train_net("--eval-only", MODEL__WEIGHTS=final)
        )
        assert status == 2, words
        assert "checksum" in message, words
        assert message.count("\n") == 1, words
    assert final.read_bytes() == damaged


@cases("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_after_its_iteration(train_net, tmp_path, whole, number):
    out, before = tmp_path / number.name, signal.getsignal(number)
    step = Trainer.run_step

    def run_step(trainer: Trainer) -> None:
        if trainer.iter == 1:
            os.kill(os.getpid(), number)
        step(trainer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "run_step", run_step)
        status, message = train_net(**KEYS, OUTPUT_DIR=out)
    assert status == 128 + number
    assert message.startswith(f"stopped by {number.name}: saved after iteration 2; --resume")
    assert message.count("\n") == 1
    assert signal.getsignal(number) is before
    assert train_net("--resume", **KEYS, OUTPUT_DIR=out)[0] == 0
    assert_same(outcome(out), outcome(whole))


def test_a_run_that_was_stopped_before_its_first_step_goes_on(train_net, tmp_path, whole):
    """The loader's first random number counts as drawn."""
    before_train = Trainer.before_train

    def stop(trainer: Trainer) -> None:
        before_train(trainer)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "before_train", stop)
        status, message = train_net(**KEYS)
    assert (status, "saved after iteration 0" in message) == (143, True)
    assert train_net("--resume", **KEYS)[0] == 0
    assert_same(outcome(tmp_path / "out"), outcome(whole))


@cases(
    ("change", "named"),
    [
        ({"SOLVER__BASE_LR": 0.002}, "SOLVER.BASE_LR 0.002 instead of 0.001"),
        ({"SOLVER__OPT": "SGD"}, "SOLVER.OPT"),
        ({"MODEL__LOSSES__ALIGN__NAME": "mmd"}, "MODEL.LOSSES.ALIGN.NAME"),
        ({"INPUT__SIZE_TRAIN": "[64, 32]"}, "INPUT.SIZE_TRAIN"),
        ({"SEED": 7}, "SEED 7 instead of 0"),
        ({"SOLVER__IMS_PER_BATCH": 20}, "SOLVER.IMS_PER_BATCH 20 instead of 40"),
    ],
)
def test_another_configuration_is_refused_with_what_differs(train_net, tmp_path, change, named):
    if not (tmp_path / "out").exists():
        with killed_at(1):
            train_net()
    before = (tmp_path / "out/run.json").read_bytes()
    status, message = train_net("--resume", **change)
    assert status == 2
    assert named in message
    assert message.count("\n") == 1
    assert (tmp_path / "out/run.json").read_bytes() == before


def test_free_keys_are_carried_out_and_recorded(train_net, tmp_path):
    with killed_at(1):
        train_net()
    assert train_net("--resume", SOLVER__MAX_EPOCH=2, DATALOADER__NUM_WORKERS=1)[0] == 0
    run = results(tmp_path / "out")["run"]
    assert run["interruptions"][0]["changed"] == {
        "DATALOADER.NUM_WORKERS": [0, 1],
        "SOLVER.MAX_EPOCH": [1, 2],
    }
    assert run["selection"]["epoch"] == 2


def test_epochs_are_not_free_where_the_rate_depends_on_them(train_net):
    keys = {"SOLVER__SCHED": "CosineAnnealingLR", "SOLVER__WARMUP_ITERS": 0}
    with killed_at(1):
        train_net(**keys)
    status, message = train_net("--resume", **keys, SOLVER__MAX_EPOCH=2)
    assert status == 2
    assert "on which CosineAnnealingLR depends" in message


def test_changed_training_images_are_refused(train_net, tmp_path, datasets, monkeypatch):
    with killed_at(1):
        train_net()
    shutil.copytree(datasets, tmp_path / "changed")
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "changed"))
    pid = min((datasets / "SYSU-MM01/exp/train_id.txt").read_text().split(","), key=int)
    image = next((tmp_path / f"changed/SYSU-MM01/cam3/{int(pid):04d}").glob("*.jpg"))
    image.unlink()
    status, message = train_net("--resume")
    assert status == 2
    assert "got other training images" in message


def test_a_used_folder_is_refused_or_archived(train_net, tmp_path):
    out = tmp_path / "out"
    assert train_net()[0] == 0
    before = {path.name: path.read_bytes() for path in out.glob("*.*") if path.is_file()}
    (out / "notes.txt").write_text("mine")
    status, message = train_net(SOLVER__BASE_LR=0.5)
    assert status == 2
    assert "--archive" in message
    assert message.count("\n") == 1
    assert train_net("--archive", SOLVER__BASE_LR=0.0005)[0] == 0
    for name in ("model_final.pth", "results.json", "run.json"):
        assert (out / "archive-1" / name).read_bytes() == before[name], name
    assert (out / "notes.txt").read_text() == "mine"
    assert results(out)["run"]["identity"] != results(out / "archive-1")["run"]["identity"]
    assert train_net("--archive", "--resume")[0] == 2
    assert train_net("--archive")[0] == 0
    assert (
        results(out / "archive-2")["run"]["identity"]
        == json.loads((out / "archive-2/run.json").read_text())["digest"]
    )


def test_evaluating_in_a_trainings_folder_leaves_its_results_alone(train_net, tmp_path):
    out = tmp_path / "out"
    assert train_net()[0] == 0
    before = (out / "results.json").read_bytes()
    assert train_net("--eval-only", TEST__METRIC="euclidean")[0] == 0
    assert (out / "results.json").read_bytes() == before
    assert results(out / "evaluation")["run"]["selection"]["rule"] == "untrained"


def test_two_processes_cannot_write_to_one_folder(train_net, tmp_path):
    (tmp_path / "out").mkdir()
    code = "import sys; from cmemd.files import one_writer\n"
    code += "with one_writer(sys.argv[1]): print('locked', flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", code, str(tmp_path / "out")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        status, message = train_net()
        other.stdin.close()
    assert status == 2
    assert "got a process that writes there now" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "out/run.json").exists()
    assert train_net()[0] == 0


def test_a_diverging_loss_is_one_line_and_a_rising_one_a_warning(train_net, tmp_path):
    status, message = train_net(**KEYS, SOLVER__OPT="SGD", SOLVER__BASE_LR=1e30)
    assert status == 2
    assert "lower SOLVER.BASE_LR" in message
    assert message.count("\n") == 1
    keys = {"SOLVER__OPT": "SGD", "SOLVER__BASE_LR": 1.5, "SOLVER__WARMUP_ITERS": 0}
    keys |= {"SOLVER__MAX_EPOCH": 9, "TEST__EVAL_PERIOD": 9, "OUTPUT_DIR": tmp_path / "b"}
    assert train_net(**keys)[0] == 0
    assert any("may have diverged" in w for w in results(tmp_path / "b")["run"]["warnings"])


def test_a_run_cannot_become_shorter(train_net, tmp_path):
    keys = {"SOLVER__CHECKPOINT_PERIOD": 1, "TEST__EVAL_PERIOD": 1}
    assert train_net(**keys, SOLVER__MAX_EPOCH=2)[0] == 0
    before = (tmp_path / "out/results.json").read_bytes()
    status, message = train_net("--resume", **keys, SOLVER__MAX_EPOCH=1)
    assert status == 2
    assert (
        "expected SOLVER.MAX_EPOCH above the 2 epochs that the run has finished, got 1" in message
    )
    assert (tmp_path / "out/results.json").read_bytes() == before


def test_an_evaluation_that_a_kill_prevented_is_made_up_for_at_the_end(train_net, tmp_path):
    keys = KEYS | {"SOLVER__SELECTION": "best_on_test", "TEST__EVAL_PERIOD": 1}
    evaluate = Trainer.evaluate

    def killed(trainer: Trainer, epoch: int) -> object:
        if epoch == trainer.max_epoch:
            raise Killed
        return evaluate(trainer, epoch)

    assert train_net(**keys, OUTPUT_DIR=tmp_path / "whole")[0] == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "evaluate", killed)
        patch.setenv("CMEMD_DEBUG", "1")  # else the tool would end with a line
        with pytest.raises(Killed):
            train_net(**keys)
    assert train_net("--resume", **keys)[0] == 0
    assert results(tmp_path / "out")["scores"] == results(tmp_path / "whole")["scores"]
    assert (
        results(tmp_path / "out")["run"]["selection"]
        == (results(tmp_path / "whole")["run"]["selection"])
    )


def test_a_training_does_not_replace_an_evaluations_results(train_net, tmp_path):
    assert train_net("--eval-only")[0] == 0
    before = (tmp_path / "out/results.json").read_bytes()
    for words in ([], ["--resume"], ["--archive", "--eval-only"]):
        status, message = train_net(*words)
        assert status == 2, words
        assert message.count("\n") == 1, words
    assert (tmp_path / "out/results.json").read_bytes() == before
    assert train_net("--archive")[0] == 0
    assert (tmp_path / "out/archive-1/results.json").read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_group_reaches_loader_workers_too(datasets, tmp_path, number):
    """As of Ctrl-C at a terminal, or of a service manager; the run still saves, in one line."""
    keys = TINY | {
        "DATALOADER.NUM_WORKERS": "2",
        "SOLVER.MAX_EPOCH": "200",
        "TEST.EVAL_PERIOD": "200",
        "OUTPUT_DIR": str(tmp_path / "out"),
    }
    words = ["--config-file", str(CONFIGS / "demo.yml")]
    words += [word for pair in keys.items() for word in pair]
    environment = {"FASTREID_DATASETS": str(datasets)}
    process = victim.start(words, environment, tmp_path / "log.txt", own_group=True)
    metrics = tmp_path / "out/metrics.json"
    while not (metrics.is_file() and metrics.stat().st_size):
        assert process.is_alive(), (tmp_path / "log.txt").read_text()[-2000:]
        time.sleep(0.05)
    os.killpg(process.pid, number)
    process.join(10)
    assert process.exitcode == 128 + number
    log = (tmp_path / "log.txt").read_text()
    assert log.splitlines()[-1].startswith(f"stopped by {number.name}: saved after iteration")
    assert "Traceback" not in log
    assert list((tmp_path / "out").glob("model_iter_*.pth"))
