"""Where a metric comes from: the facts of a run that its ``results.json`` carries."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.config import CfgNode

from cmemd.data.items import ImageItem
from cmemd.data.naming import licences_of, people_of, person_of, place_of, record_name, title_of
from cmemd.engine.checkpoint import Checkpoint, read_checkpoint
from cmemd.engine.record import TrainingRecord, check_people, people_digests
from cmemd.files import file_sha256

__all__ = [
    "SELECTED_BY",
    "UNTRAINED",
    "Weights",
    "config_sha256",
    "describe_run",
    "files_sha256",
    "guard",
    "labels_sha256",
    "training_record",
]

SELECTED_BY = "selected_by"  # entry of a checkpoint that a selection rule chose


@dataclass(frozen=True)
class Weights:
    """What is known of the weights under evaluation; by default nothing.

    Attributes:
        file: their checkpoint, or None where they are scored as they are in memory.
        record: their training record.
        trained: False for a network as training starts it.
        rule: how they were chosen: a ``SOLVER.SELECTION``, or "given" for a checkpoint that is
            neither its run's last nor selected by a rule.
        epoch: number of epochs that they were trained for.
        score: what the rule compared, (Rank-1 + mAP) / 2 in percent.
        final: whether this is the evaluation that a training ends with.
        ema: the decay of EMA weights; None for weights as they were trained.
        checkpoint: the content of the file, where it was read.
    """

    file: Path | None = None
    record: TrainingRecord | None = None
    trained: bool = True
    rule: str = "given"
    epoch: int | None = None
    score: float | None = None
    final: bool = False
    ema: float | None = None
    checkpoint: Checkpoint | None = field(default=None, compare=False, repr=False)

    @classmethod
    def read(cls, path: str | Path, final: bool = False) -> "Weights":
        """Read a checkpoint, and what it says of itself.

        Raises:
            InputError: it cannot be read.
        """
        checkpoint = read_checkpoint(path)
        record, entries = checkpoint.record, checkpoint.entries
        last = record is not None and checkpoint.epoch == record.epochs
        return cls(
            file=checkpoint.path,
            record=record,
            rule=entries.get(SELECTED_BY, "last" if last else "given"),
            epoch=checkpoint.epoch,
            score=entries.get("metric") if SELECTED_BY in entries else None,
            final=final,
            ema=checkpoint.ema,
            checkpoint=checkpoint,
        )

    @property
    def sha256(self) -> str:
        """SHA-256 of the file in hex."""
        if self.checkpoint:
            return self.checkpoint.sha256
        assert self.file is not None, "weights in memory have no digest"
        return file_sha256(self.file)


UNTRAINED = Weights(trained=False, rule="untrained")


def config_sha256(cfg: CfgNode) -> str:
    """Return the digest of a configuration as it was given, OUTPUT_DIR aside."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = ""
    return hashlib.sha256(cfg.dump().encode()).hexdigest()


def training_record(cfg: CfgNode, data: Any) -> TrainingRecord:
    """Return what a run of this configuration trains on, start-up weights aside.

    Args:
        cfg: the configuration as it was given.
        data: the data set to train on.
    """

    def digests(items: Sequence[ImageItem]) -> list[str]:
        return sorted(people_digests(people_of(data, items)))

    return TrainingRecord(
        dataset=record_name(data),
        trial=data.trial,
        identities=digests(data.train),
        validation=digests(data.validation),
        protocols=list(cfg.TEST.PROTOCOLS),
        seed=cfg.SEED,
        epochs=cfg.SOLVER.MAX_EPOCH,
        selection=cfg.SOLVER.SELECTION,
        config_sha256=config_sha256(cfg),
        licences=licences_of(data),
    )


def guard(
    cfg: CfgNode, data: Any, items: Sequence[ImageItem], split: str, weights: Weights
) -> dict[str, Any]:
    """Return the leak guard's outcome for one evaluation; see ``check_people``.

    Raises:
        InputError: the weights were trained on identities under test, and ``TEST.ALLOW_LEAK`` is
            off.
    """
    if not weights.trained:
        return {"outcome": "untrained", "overlap": 0, "training_identities": 0}
    trial = "" if data.trial is None else f" trial {data.trial}"
    return check_people(
        weights.record,
        people_of(data, items),
        where=f"{title_of(data)}{trial}" + ("" if split == "test" else f", {split}"),
        allow=cfg.TEST.ALLOW_LEAK,
    )


def describe_run(
    cfg: CfgNode,
    data: Any,
    items: Sequence[ImageItem],
    *,
    split: str,
    weights: Weights,
    leak_guard: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the facts of an evaluation, as JSON can hold them.

    Args:
        cfg: the configuration as it was given.
        data: the data set.
        items: its images under test.
        split: "test" or "validation".
        weights: what is known of the weights.
        leak_guard: outcome of ``guard``.

    Returns:
        ``config`` (its digest), ``checkpoint`` (file and digest, or None), ``dataset`` (name,
        trial, split, counts, ``files_sha256`` over each image's path in the data set and size,
        ``identities_sha256``), ``seed`` of the training (None: from the clock, or unknown),
        ``selection`` (rule, epoch, score, final; ema, the decay of EMA weights, where they are
        tested) and ``leak_guard``.
    """
    record = weights.record
    seed = record.seed if record else -1 if weights.trained else cfg.SEED
    checkpoint = weights.file and {"file": str(weights.file), "sha256": weights.sha256}
    return {
        "config": {"sha256": config_sha256(cfg)},
        "checkpoint": checkpoint,
        "dataset": {
            "name": title_of(data),
            "trial": data.trial,
            "split": split,
            "images": len(items),
            "identities": len({item.pid for item in items}),
            "files_sha256": files_sha256(items, data),
            "identities_sha256": _digest(
                f"{naming}/{identity}" for naming, identity in people_of(data, items)
            ),
        },
        "seed": None if seed < 0 else seed,
        "selection": {
            "rule": weights.rule,
            "epoch": weights.epoch,
            "score": weights.score,
            "final": weights.final,
            **({} if weights.ema is None else {"ema": weights.ema}),
        },
        "leak_guard": dict(leak_guard),
    }


def files_sha256(items: Sequence[ImageItem], data: Any) -> str:
    """Return the digest of images: of each one's place in the data set and its file's size.

    Args:
        items: the images, in any order.
        data: their data set.
    """
    sizes = {path: os.stat(path).st_size for path in {item.path for item in items}}
    return _digest(f"{place_of(data, item)} {sizes[item.path]}" for item in items)


def labels_sha256(items: Sequence[ImageItem], data: Any) -> str:
    """Return the digest of images' labels: of each one's place, identity, modality and camera.

    Args:
        items: the images, in any order.
        data: their data set.
    """
    people = {pid: "/".join(map(str, person_of(data, pid))) for pid in {i.pid for i in items}}
    return _digest(
        f"{place_of(data, item)} {people[item.pid]} {int(item.modality)} {item.camid}"
        for item in items
    )


def _digest(words: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(set(words))).encode()).hexdigest()
