"""Batches: their layout, their memory, and their way to a device."""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.conftest import CONFIGS, TINY

import cmemd
from cmemd.data.build import build_dataset
from cmemd.data.collate import collate, collate_images
from cmemd.data.loader import DeviceCopies, build_loader, shut_down
from cmemd.engine.testing import build_test_loader
from cmemd.engine.trainer import Trainer


def samples(count: int, height: int = 6, width: int = 4) -> list[dict]:
    generator = np.random.default_rng(count)
    return [
        {
            "images": generator.integers(0, 256, (height, width, 3), np.uint8)[:, :: (-1) ** n],
            "targets": n,
            "camids": 0,
            "modalities": n % 2,
            "img_paths": f"{n}.jpg",
        }
        for n in range(count)
    ]


def test_a_batch_is_one_stack_of_bytes_seen_with_channels_first():
    for count in (1, 5):
        given = samples(count)
        batch = collate(given)
        images = batch["images"]
        assert (images.dtype, images.shape) == (torch.uint8, (count, 3, 6, 4))
        assert images.permute(0, 2, 3, 1).is_contiguous()
        assert images.untyped_storage().nbytes() == count * 3 * 6 * 4  # a quarter of float32's
        for n, sample in enumerate(given):
            assert np.array_equal(images[n].permute(1, 2, 0).numpy(), sample["images"])
        assert batch["targets"].tolist() == list(range(count))
        assert batch["targets"].dtype == batch["modalities"].dtype == torch.int64
        assert batch["img_paths"] == [f"{n}.jpg" for n in range(count)]


def test_tensors_of_a_users_own_transforms_are_stacked_as_they_are():
    images = [torch.rand(3, 6, 4) for _ in range(3)]
    assert torch.equal(collate_images(images), torch.stack(images))


def test_images_of_other_kinds_are_no_batch():
    for wrong in (np.zeros((6, 4, 3), np.float32), np.zeros((6, 5, 3), np.uint8)):
        with pytest.raises((TypeError, ValueError)):
            collate_images([np.zeros((6, 4, 3), np.uint8), wrong])


def test_workers_send_the_batches_of_this_process_in_shared_memory():
    given = samples(10)
    batches = [range(5), range(5, 10)]
    alone = list(build_loader(given, batches, 0))
    iterator = iter(build_loader(given, batches, 2, prefetch=3))
    for ours, theirs in zip(alone, iterator, strict=True):
        assert theirs["images"].is_shared()
        assert theirs["images"].stride() == ours["images"].stride()
        for name in ("images", "targets", "camids", "modalities"):
            assert torch.equal(ours[name], theirs[name]), name
        assert ours["img_paths"] == theirs["img_paths"]
    shut_down(iterator)


def test_a_training_and_a_test_batch_keep_bytes(datasets, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    cfg = cmemd.load_config(CONFIGS / "demo.yml", [w for pair in TINY.items() for w in pair])
    data = build_dataset(cfg, "SYSUMM01")
    for loader in (Trainer.build_train_loader(cfg, data), build_test_loader(cfg, data.query, 1)[0]):
        batch = next(iter(loader))
        assert (batch["images"].dtype, batch["images"].shape[1:]) == (torch.uint8, (3, 32, 16))


Pair = namedtuple("Pair", "first second")


class Steps:
    """Records what a copy to a device asks of PyTorch's streams, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[str] = []
        self.side = SimpleNamespace(name="side")
        self.computing = SimpleNamespace(
            name="computing", wait_stream=lambda other: self.told.append(f"wait for {other.name}")
        )
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: self.side)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self.computing)
        monkeypatch.setattr(torch.cuda, "stream", self._on)

        def to(tensor, device, non_blocking):
            assert non_blocking
            self.told.append(f"copy {tensor.flatten()[0].item()}")
            return tensor.clone()

        monkeypatch.setattr(torch.Tensor, "to", to)
        monkeypatch.setattr(
            torch.Tensor,
            "record_stream",
            lambda tensor, stream: self.told.append(
                f"{tensor.flatten()[0].item()} used on {stream.name}"
            ),
        )

    def _on(self, stream):
        told = self.told

        class Context:
            def __enter__(self):
                told.append(f"on {stream.name}")

            def __exit__(self, *error):
                told.append("off")

        return Context()


def test_a_copy_is_queued_on_its_own_stream_waited_for_and_recorded(monkeypatch):
    """No CUDA is needed: what is asked of the streams, and in which order, is the theorem."""
    steps = Steps(monkeypatch)
    host = {
        "images": torch.full((2, 3), 1),
        "targets": torch.full((2,), 2),
        "modalities": torch.full((2,), 9),
        "rows": Pair(torch.full((1, 1), 3), torch.full((1, 1), 4)),
        "img_paths": ["a", "b"],
    }
    copies = DeviceCopies(
        iter([host]), torch.device("cuda"), ("images", "targets", "rows", "absent")
    )
    batch = next(copies)
    assert steps.told == [
        "on side",
        *(f"copy {n}" for n in (1, 2, 3, 4)),
        "off",
        "wait for side",
        *(f"{n} used on computing" for n in (1, 2, 3, 4)),
    ]
    assert batch["modalities"] is host["modalities"]
    assert isinstance(batch["rows"], Pair)
    assert batch["img_paths"] == ["a", "b"]
    with pytest.raises(StopIteration):
        next(copies)
