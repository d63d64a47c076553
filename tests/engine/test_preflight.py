"""What can be known before the first step is known then, and nothing has been written."""

import shutil
from collections import namedtuple
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from fastreid.modeling import build_model
from fastreid.utils.events import EventStorage
from tests.cases import cases
from tests.conftest import CONFIGS, TINY
from tests.trees import copy_tree
from torch.autograd.graph import saved_tensors_hooks

import cmemd
from cmemd.engine import room
from cmemd.engine.preflight import Problems
from cmemd.engine.rehearsal import kept_bytes, outline, rehearse
from cmemd.engine.room import checkpoint_bytes, kept_checkpoints
from cmemd.errors import InputError
from cmemd.evaluation.protocols import get_protocol
from cmemd.evaluation.sampling import check_scorable, sample_trials
from cmemd.files import shown_bytes

Usage = namedtuple("Usage", "total used free")


def refused(train_net, folder: Path, *words: str, **keys: object) -> str:
    """What a start says that writes nothing: one line, status 2."""
    status, error = train_net(*words, **keys)
    assert status == 2, keys
    assert error.count("\n") == 1, error
    assert not (folder / "out").exists(), keys
    return error


def tiny(**keys: object):
    options = TINY | {key.replace("__", "."): str(value) for key, value in keys.items()}
    return cmemd.load_config(CONFIGS / "demo.yml", [w for pair in options.items() for w in pair])


@cases(
    ("keys", "words"),
    [
        ({"MODEL__HEADS__NUM_CLASSES": 3}, "NUM_CLASSES of at least 1"),
        ({"SOLVER__IMS_PER_BATCH": 4000}, "1000 training identities with images of both"),
        ({"SOLVER__SCHED": "CosineAnnealingLR", "SOLVER__DELAY_EPOCHS": 9}, "MAX_EPOCH above 9"),
        ({"TEST__PROTOCOLS": ()}, "different protocols, at least one"),
        ({"TEST__PROTOCOLS": ("sysu-all-1shot",) * 2}, "name each protocol once"),
        ({"TEST__PROTOCOLS": ("sysu-all-1shot", "llcm-v2t")}, "llcm-v2t-paper"),
        ({"SOLVER__SELECTION": "validation"}, "TRAIN_WITH_VAL False"),
        ({"MODEL__WEIGHTS": "nowhere.pth"}, "nowhere.pth"),
        ({"INPUT__CROP__ENABLED": True, "INPUT__CROP__SIZE": [8, 8]}, "transforms of training"),
        (
            {"MODEL__BACKBONE__WITH_IBN": True, "INPUT__SIZE_TRAIN": [4, 2]},
            "a network that takes images of INPUT.SIZE_TRAIN",
        ),
        ({"MODEL__PIXEL_STD": [1e-300] * 3}, "NaN or infinity"),
        ({"MODEL__HEADS__EMBEDDING_DIM": 10**12}, "of free memory for the network"),
        ({"MODEL__HEADS__NORM": "GN"}, "a network of MODEL.META_ARCHITECTURE"),
    ],
)
def test_what_only_a_later_step_would_find(train_net, tmp_path, keys, words):
    assert words in refused(train_net, tmp_path, **keys)


def test_problems_of_the_data_are_named_together(train_net, tmp_path):
    error = refused(
        train_net,
        tmp_path,
        MODEL__HEADS__NUM_CLASSES=3,
        SOLVER__SCHED="CosineAnnealingLR",
        SOLVER__DELAY_EPOCHS=9,
        TEST__PROTOCOLS=(),
    )
    assert "without problems, got 3: (1) expected MODEL.HEADS.NUM_CLASSES" in error
    assert "(2) expected SOLVER.MAX_EPOCH above 9" in error
    assert "(3) expected different protocols" in error


def test_one_problem_is_its_own_error_and_none_is_no_error():
    problems = Problems()
    problems.raise_any()
    with problems.caught():
        raise InputError("this", "that", "do so")
    with pytest.raises(InputError, match="^expected this, got that: do so$"):
        problems.raise_any()


# ---- disk and memory


def test_a_disk_without_room_for_the_checkpoints_is_refused_with_both_numbers(
    train_net, tmp_path, monkeypatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 10**6, 10**6))
    for words in ((), ("--eval-only",)):
        error = refused(train_net, tmp_path, *words)
        assert "MB of free disk at" in error
        assert "got 1.0 MB: free the disk" in error
    each = checkpoint_bytes(outline(tiny()), "Adam")
    free = 64 * 2**20 + 100 * each
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, free))
    error = refused(train_net, tmp_path, SOLVER__MAX_EPOCH=200, SOLVER__CHECKPOINT_PERIOD=1)
    assert f"for 202 checkpoints of {each / 1e6:.1f} MB and results, got" in error
    assert train_net(SOLVER__MAX_EPOCH=1, SOLVER__CHECKPOINT_PERIOD=1) == (0, "")


def test_the_estimate_is_what_a_training_leaves(train_net, tmp_path, monkeypatch):
    keys = {"SOLVER__MAX_EPOCH": 3, "SOLVER__CHECKPOINT_PERIOD": 1}
    keys |= {"SOLVER__SELECTION": "best_on_test"}
    assert train_net(**keys) == (0, "")
    cfg = tiny(**keys)
    sizes = [path.stat().st_size for path in (tmp_path / "out").glob("model_*.pth")]
    estimated = checkpoint_bytes(outline(cfg, classes=20), cfg.SOLVER.OPT)
    assert all(size == pytest.approx(estimated, rel=0.2) for size in sizes)
    # model_0000, model_0001, final and best; and one that may be there beside the one in writing
    assert len(sizes) == kept_checkpoints(cfg) - 2 == 4
    # A resumed run needs room for what is missing alone; a new one in its place, for all.
    free = 64 * 2**20 + 3 * estimated
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, free))
    assert train_net("--resume", **keys) == (0, "")
    assert "of free disk" in train_net("--archive", **keys)[1]
    other = {"MODEL__WEIGHTS": tmp_path / "out/model_final.pth", "OUTPUT_DIR": tmp_path / "new"}
    status, error = train_net(MODEL__HEADS__EMBEDDING_DIM=4, **other)
    assert (status, "another architecture" in error) == (2, True)
    assert not (tmp_path / "new").exists()


def test_what_memory_cannot_hold_is_refused(train_net, tmp_path, monkeypatch):
    monkeypatch.setattr("cmemd.engine.room.available_memory", lambda: 1000)
    error = refused(train_net, tmp_path, TEST__RERANK__ENABLED=True)
    assert "MB of free memory for the network, got 0.0 MB" in error
    assert "of free memory to re-rank the" in error
    monkeypatch.setattr("cmemd.engine.room.available_memory", lambda: None)  # not Linux
    assert train_net(TEST__RERANK__ENABLED=True)[0] == 0


def test_a_step_that_memory_cannot_hold_is_refused_with_the_estimate(
    train_net, tmp_path, monkeypatch
):
    """40 images are 10 identities x (2 + 2); second views are 20 more. On a CPU, and on CUDA."""
    views = {"DATALOADER__VISIBLE_VIEWS": 2, "INPUT__CHANNEL_EXCHANGE__ENABLED": True}
    network = outline(tiny(), classes=20)
    weights = 4 * 4 * sum(p.numel() for p in network.parameters())  # Adam: 2 numbers each
    _, kept = rehearse(tiny(), training=True, pretrained=False)
    free = weights + 50 * kept
    monkeypatch.setattr("cmemd.engine.room.available_memory", lambda: free)
    error = refused(train_net, tmp_path, **views)
    need = weights + 60 * rehearse(tiny(**views), training=True, pretrained=False).kept
    expected = (
        f"at least {shown_bytes(need)} of free memory on cpu for a training step of 60 images"
    )
    assert f"{expected} a process with 2 views of each visible image, got" in error
    assert (
        f"got {shown_bytes(free)}: lower SOLVER.IMS_PER_BATCH or DATALOADER.VISIBLE_VIEWS" in error
    )
    assert train_net(**views, SOLVER__ACCUMULATE=2)[0] == 0
    assert train_net(OUTPUT_DIR=tmp_path / "one view")[0] == 0
    cfg = tiny(MODEL__DEVICE="cuda", **views)
    asked = []
    monkeypatch.setattr(
        torch.cuda, "mem_get_info", lambda device: asked.append(device) or (free, 9)
    )
    with pytest.raises(InputError, match="on cuda for a training step of 60 images a process with"):
        room.check_step_memory(cfg, network, kept, processes=1)
    room.check_step_memory(cfg, network, kept, processes=2)  # each has a card of its own
    room.check_step_memory(
        tiny(MODEL__DEVICE="cuda", SOLVER__AMP__ENABLED=True, **views), network, kept, processes=1
    )
    assert asked == [torch.device("cuda")] * 3


def test_the_estimate_of_an_image_is_what_autograd_keeps_of_a_batch():
    """Counted again with every kept tensor alive, on 16 images of the tiny network."""
    cfg = tiny(MODEL__HEADS__NUM_CLASSES=5)
    network = build_model(cfg).train()
    batch = {
        "images": 255 * torch.rand(16, 3, 32, 16),
        "targets": torch.arange(4).repeat_interleave(4),
        "modalities": torch.tensor([0, 0, 1, 1] * 4),
    }
    own = {p.untyped_storage().data_ptr() for p in (*network.parameters(), *network.buffers())}
    alive = []
    with EventStorage(0), saved_tensors_hooks(lambda x: alive.append(x) or x, lambda x: x):
        network(batch)
    kept = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in alive}
    expected = sum(size for place, size in kept.items() if place not in own)
    with EventStorage(0), kept_bytes(network) as counted:
        network(batch)
    assert sum(counted.values()) == pytest.approx(expected, rel=0.01)
    estimate = 16 * rehearse(cfg, training=True, pretrained=False).kept
    assert estimate == pytest.approx(expected, rel=0.05)


def test_batches_that_shared_memory_cannot_hold_are_refused(train_net, tmp_path, monkeypatch):
    """Docker gives 64 MB. Batches of 40 and 64 images of 32 x 16 take (40 + 64) x 1536 bytes."""
    each = (40 + 64) * 32 * 16 * 3
    for workers, prefetch in ((1, 2), (3, 4)):
        keys = {"DATALOADER__NUM_WORKERS": workers, "DATALOADER__PREFETCH": prefetch}
        need = (workers * prefetch + 2) * each
        for free in (need - 1, need):
            monkeypatch.setattr(
                room.shutil,
                "disk_usage",
                lambda path, free=free: Usage(0, 0, free if str(path) == "/dev/shm" else 10**12),
            )
            if free == need:
                room.check_shared_memory(tiny(**keys), training=True, processes=1)
                continue
            error = refused(train_net, tmp_path, **keys)
            assert f"{need / 1e6:.1f} MB of free shared memory in /dev/shm for" in error
            assert "--shm-size, or lower DATALOADER.NUM_WORKERS" in error
    room.check_shared_memory(tiny(), training=True, processes=1)  # no workers need none


# ---- data


@pytest.fixture
def spoilt(datasets, tmp_path, monkeypatch) -> Path:
    """A copy of the stand-in of SYSU-MM01, to spoil."""
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "data"))
    return copy_tree(datasets / "SYSU-MM01", tmp_path / "data/SYSU-MM01")


def test_images_that_only_an_evaluation_would_name_are_found(
    datasets, train_net, spoilt, tmp_path, monkeypatch
):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "data"))
    ids = map(int, (spoilt / "exp/test_id.txt").read_text().split(","))
    folders = (spoilt / f"cam1/{pid:04d}" for pid in ids)
    folder = next(folder for folder in folders if folder.is_dir())
    image = next(folder.iterdir())
    shutil.copy(image, folder / "copy of it.jpg")
    assert "an image number as file name" in refused(train_net, tmp_path)
    (folder / "copy of it.jpg").rename(folder / "0099.jpg")
    assert "as rand_perm_cam.mat lists them" in refused(train_net, tmp_path)
    (folder / "0099.jpg").unlink()
    damaged = image.read_bytes()[:200]
    image.unlink()
    image.write_bytes(damaged)
    assert image.name in refused(train_net, tmp_path)


def test_queries_without_any_positive_are_refused(make_samples):
    """A thermal query under camera 3; camera 2 shares its place, so that only camera 1 counts."""
    protocol = get_protocol("sysu-all-1shot")
    for pid, camera, fine in ((1, 1, True), (1, 2, False), (2, 1, False)):
        samples = make_samples([(1, 3, 1, 0.0), (pid, camera, 1, 0.0), (9, 1, 1, 0.0)])
        trials = sample_trials(samples, protocol, "python")
        with nullcontext() if fine else pytest.raises(InputError, match="a query whose identity"):
            check_scorable(samples, protocol, trials)


# ---- the folder


def test_what_is_in_the_way_of_a_runs_files_is_named(train_net, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("results.json", "log.txt", "model_final.pth"):
        (tmp_path / f"with {name}" / name).mkdir(parents=True)
    (tmp_path / "with evaluation/evaluation/results.json").mkdir(parents=True)
    (tmp_path / "with validation").mkdir()
    (tmp_path / "with validation/validation").write_text("")
    for name, words in (
        ("file", "Not a directory"),
        ("file/below", "Not a directory"),
        ("link", "a link to nothing"),
        ("x" * 300, "name too long"),
        ("with results.json", "results.json, got a folder: rename it"),
        ("with log.txt", "log.txt, got a folder: rename it"),
        ("with model_final.pth", "model_final.pth, got a folder: rename it"),
        ("with evaluation", "evaluation/results.json, got a folder: rename it"),
        ("with validation", "validation, got a file: rename it"),
        ("/proc/cmemd", "No such file"),
    ):
        before = sorted(tmp_path.rglob("*"))
        error = refused(train_net, tmp_path, OUTPUT_DIR=tmp_path / name)
        assert words in error, (name, error)
        assert sorted(tmp_path.rglob("*")) == before, name


def test_the_log_warns_of_what_cannot_be_meant(train_net, tmp_path):
    keys = {"SOLVER__STEPS": [50], "MODEL__LOSSES__ALIGN__WARMUP_ITERS": 9999}
    assert train_net(TEST__RANKED_GALLERY=99, **keys)[0] == 0
    log = (tmp_path / "out/log.txt").read_text()
    assert "Schedule: 1 epochs of" in log
    assert "SOLVER.STEPS 50 come after the end" in log
    assert "TEST.RANKED_GALLERY 99 is more than the" in log
    assert "MODEL.LOSSES.ALIGN.WARMUP_ITERS 9999 lasts to the end of the training, " in log
    assert "START_EPOCH 0 lasts" not in log
    keys = {"MODEL__LOSSES__ALIGN__START_EPOCH": 1, "MODEL__LOSSES__ALIGN__WARMUP_ITERS": 9999}
    assert train_net(**keys, OUTPUT_DIR=tmp_path / "late")[0] == 0
    log = (tmp_path / "late/log.txt").read_text()
    assert "MODEL.LOSSES.ALIGN.START_EPOCH 1 lasts to the end of the training, " in log
