"""tools/train_net.py as a user runs it, on a tiny stand-in data set."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.conftest import CONFIGS, REPOSITORY, TINY
from tests.processes import TORCHRUN, python


def state(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def scores(folder: Path) -> list[dict]:
    return json.loads((folder / "results.json").read_text())["scores"]


def test_trains_evaluates_checkpoints_and_logs(train_net, tmp_path):
    assert train_net(TEST__RANKED_GALLERY=2)[0] == 0
    out = tmp_path / "out"
    results = {score["protocol"]: score for score in scores(out)}
    assert set(results) == {"sysu-all-1shot", "sysu-indoor-1shot"}
    for score in results.values():
        assert score["trials"] == 10
        assert score["draw"] == "official"
        assert 0 <= score["mean"]["rank1"] <= score["mean"]["rank5"] <= 100
        assert set(score["std"]) == {"rank1", "rank5", "rank10", "rank20", "mAP", "mINP"}
    assert (out / "ranked_gallery.png").stat().st_size > 10_000
    scalars = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    logged = set().union(*scalars)
    terms = {f"loss_{t}_{g}" for t in ("id", "align") for g in ("global", "local", "accumulated")}
    assert terms | {"loss_dl", "total_loss", "modality_gap", "plan_sharpness"} <= logged
    console = (out / "log.txt").read_text()
    for word in (*terms, "modality_gap", "plan_sharpness", "sysu-all-1shot"):
        assert word in console
    assert list(out.glob("events.out.tfevents.*"))


def test_training_changes_every_trained_parameter(train_net, tmp_path):
    """On PyTorch 2, unadapted fast-reid trains for hours without changing a single one."""
    assert train_net(SOLVER__CHECKPOINT_PERIOD=1, SOLVER__MAX_EPOCH=2)[0] == 0
    first, last = state(tmp_path / "out/model_0000.pth"), state(tmp_path / "out/model_final.pth")
    frozen = {name for name in first if name.endswith("bottleneck.bias")}
    changed = {name for name in first if not torch.equal(first[name], last[name])}
    assert set(first) - changed == frozen


def test_the_same_seed_repeats_a_run_bit_by_bit(train_net, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        keys = {"OUTPUT_DIR": tmp_path / name, "SEED": seed, "DATALOADER__NUM_WORKERS": 1}
        assert train_net(**keys)[0] == 0
    a, b, c = (state(tmp_path / name / "model_final.pth") for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)


def test_resume_goes_on_from_the_last_checkpoint(train_net, tmp_path):
    keys = {"SOLVER__CHECKPOINT_PERIOD": 1}
    assert train_net(**keys, SOLVER__MAX_EPOCH=2)[0] == 0
    log = tmp_path / "out/log.txt"
    log.unlink()
    assert train_net("--resume", **keys, SOLVER__MAX_EPOCH=3)[0] == 0
    assert "Starting training from epoch 2" in log.read_text()


def test_resuming_a_finished_run_evaluates_it_again(train_net, tmp_path):
    assert train_net()[0] == 0
    before = json.loads((tmp_path / "out/results.json").read_text())
    (tmp_path / "out/results.json").unlink()
    assert train_net("--resume")[0] == 0
    assert json.loads((tmp_path / "out/results.json").read_text()) == before


def test_eval_only_scores_a_checkpoint_as_training_did(train_net, tmp_path):
    assert train_net()[0] == 0
    weights = tmp_path / "out/model_final.pth"
    again = tmp_path / "again"
    assert train_net("--eval-only", MODEL__WEIGHTS=weights, OUTPUT_DIR=again)[0] == 0
    assert scores(again) == scores(tmp_path / "out")


def test_eval_only_without_weights_scores_the_untrained_network_and_warns(train_net, tmp_path):
    assert train_net("--eval-only")[0] == 0
    assert (tmp_path / "out/results.json").is_file()
    assert (
        "MODEL.WEIGHTS is empty: scoring the untrained network"
        in (tmp_path / "out/log.txt").read_text()
    )


def test_hooks_of_fastreid_work(train_net):
    """PreciseBN and frozen layers, which reach into the model, loader and optimizer."""
    keys = {
        "TEST__PRECISE_BN__ENABLED": True,
        "TEST__PRECISE_BN__DATASET": "SYSUMM01",
        "TEST__PRECISE_BN__NUM_ITER": 2,
        "MODEL__FREEZE_LAYERS": "['backbone']",
        "SOLVER__FREEZE_ITERS": 1,
        "SOLVER__OPT": "SGD",
    }
    assert train_net(**keys)[0] == 0


def test_two_processes_under_torchrun_train_one_network(datasets, tmp_path):
    words = ["--config-file", str(CONFIGS / "demo.yml"), "OUTPUT_DIR", str(tmp_path / "out")]
    words += [word for pair in TINY.items() for word in pair]
    environment = {"FASTREID_DATASETS": str(datasets)}
    done = python("-c", TORCHRUN, *words, cwd=REPOSITORY, environment=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "out/results.json").is_file()
    assert (tmp_path / "out/model_final.pth").is_file()


def test_bad_input_is_one_line_and_a_nonzero_exit_of_the_real_process(tmp_path):
    command = [sys.executable, "tools/train_net.py", "--config-file", str(CONFIGS / "demo.yml")]
    command += ["OUTPUT_DIR", str(tmp_path / "out")]
    environment = os.environ | {"FASTREID_DATASETS": str(tmp_path / "nowhere")}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: expected SYSUMM01 in ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def copied(datasets: Path, tmp_path: Path) -> Path:
    shutil.copytree(datasets, tmp_path / "datasets")
    return tmp_path / "datasets" / "SYSU-MM01"


def refused(train_net, tmp_path: Path, *words: str, **keys: object) -> str:
    """The one line that a run ends with; it must have left nothing behind."""
    status, message = train_net(*words, **keys)
    assert status == 2
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()
    return message


def test_missing_data_folder(train_net, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "nowhere"))
    assert "no such folder" in refused(train_net, tmp_path)


def test_empty_data_folder(train_net, tmp_path, monkeypatch):
    (tmp_path / "SYSU-MM01").mkdir()
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    assert "an empty folder" in refused(train_net, tmp_path)


def test_missing_identity_list(train_net, tmp_path, datasets, monkeypatch):
    folder = copied(datasets, tmp_path)
    (folder / "exp/test_id.txt").unlink()
    monkeypatch.setenv("FASTREID_DATASETS", str(folder.parent))
    assert "exp/test_id.txt" in refused(train_net, tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_an_unreadable_image_is_named(train_net, tmp_path, datasets, monkeypatch, damage):
    folder = copied(datasets, tmp_path)
    image = sorted(folder.glob("cam6/*/*.jpg"))[-1]
    content = {"truncated": image.read_bytes()[:-200], "text": b"not an image", "empty": b""}
    image.write_bytes(content[damage])
    monkeypatch.setenv("FASTREID_DATASETS", str(folder.parent))
    assert str(image) in refused(train_net, tmp_path)


def test_one_modality_only(train_net, tmp_path, datasets, monkeypatch):
    folder = copied(datasets, tmp_path)
    shutil.rmtree(folder / "cam3")
    shutil.rmtree(folder / "cam6")
    monkeypatch.setenv("FASTREID_DATASETS", str(folder.parent))
    assert "expected thermal" in refused(train_net, tmp_path)


def test_a_misspelt_key_is_named_with_the_nearest(train_net, tmp_path):
    message = refused(train_net, tmp_path, MODEL__LOSSES__ALIGN__WIEGHT=1)
    assert "MODEL.LOSSES.ALIGN.WIEGHT" in message


def test_a_misspelt_key_in_a_yaml(train_net, tmp_path):
    config = tmp_path / "misspelt.yml"
    config.write_text(f"_BASE_: {CONFIGS / 'demo.yml'}\nMODEL:\n  BACKBONE:\n    WIDHT: 2\n")
    message = refused(train_net, tmp_path, config=config)
    assert "did you mean MODEL.BACKBONE.WIDTH" in message


def test_a_batch_that_is_not_p_times_k(train_net, tmp_path):
    message = refused(train_net, tmp_path, SOLVER__IMS_PER_BATCH=42)
    assert "on each of 1 process(es), got 42" in message


def test_cuda_without_cuda(train_net, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "MODEL.DEVICE cpu" in refused(train_net, tmp_path, MODEL__DEVICE="cuda")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("TEST__PROTOCOLS", "('sysu-all-2shot',)", "sysu-all-1shot"),
        ("TEST__PROTOCOLS", "('regdb-v2t',)", "got regdb-v2t: choose out of sysu-all"),
        ("TEST__DRAW", "random", "TEST.DRAW out of auto"),
        ("TEST__METRIC", "manhattan", "euclidean"),
        ("DATASETS__NAMES", "('Market1501',)", "Market1501"),
        ("DATASETS__NAMES", "('Marktplatz',)", "registered with fast-reid, got 'Marktplatz'"),
        ("DATASETS__NAMES", "('SYSUMM01', 'SYSUMM01')", "expected one data set"),
        ("DATASETS__NAMES", "()", "expected one data set"),
        ("DATASETS__TESTS", "('SYSUMM01', 'SYSUMM01')", "expected one data set"),
        ("DATASETS__COMBINEALL", "True", "COMBINEALL"),
        ("DATALOADER__SAMPLER_TRAIN", "TrainingSampler", "CrossModalitySampler"),
    ],
)
def test_what_only_a_later_evaluation_would_find(train_net, tmp_path, key, value, message):
    status, error = train_net(**{key: value})
    assert status == 2
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("out/*.pth"))


def test_more_identities_a_batch_than_there_are(train_net, tmp_path):
    status, message = train_net(SOLVER__IMS_PER_BATCH=400)
    assert status == 2
    assert "lower SOLVER.IMS_PER_BATCH" in message


@pytest.mark.parametrize("words", [[], ["--eval-only"]])
def test_missing_weights(train_net, tmp_path, words):
    message = refused(train_net, tmp_path, *words, MODEL__WEIGHTS=tmp_path / "none.pth")
    assert "none.pth" in message


@pytest.mark.parametrize("words", [[], ["--eval-only"]])
def test_truncated_weights(train_net, tmp_path, words):
    whole = tmp_path / "whole.pth"
    torch.save({"model": {"a": torch.zeros(1000)}}, whole)
    cut = tmp_path / "cut.pth"
    cut.write_bytes(whole.read_bytes()[:2000])
    assert "cut.pth" in refused(train_net, tmp_path, *words, MODEL__WEIGHTS=cut)


@pytest.mark.parametrize("words", [[], ["--eval-only"]])
def test_weights_of_another_architecture(train_net, tmp_path, words):
    other = tmp_path / "other.pth"
    torch.save({"model": {"backbone.conv1.weight": torch.zeros(8, 3, 7, 7)}}, other)
    status, message = train_net(*words, MODEL__WEIGHTS=other)
    assert status == 2
    assert "another architecture" in message
    assert message.count("\n") == 1
    assert not list((tmp_path / "out").glob("*.pth"))
    assert not (tmp_path / "out/results.json").exists()


def test_an_output_folder_that_cannot_be_written(train_net, tmp_path):
    (tmp_path / "file").write_text("in the way")
    message = refused(train_net, tmp_path, OUTPUT_DIR=tmp_path / "file" / "out")
    assert "OUTPUT_DIR" in message
