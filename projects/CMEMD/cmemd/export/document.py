"""Describe a model for ``model.json``: everything but its files."""

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.config import CfgNode

from cmemd.data.modality import Modality
from cmemd.data.naming import UNKNOWN, published_licence
from cmemd.data.transform import build_sensor
from cmemd.engine.record import TrainingRecord
from cmemd.evaluation.results import read_results
from cmemd.evaluation.versions import versions
from cmemd.export.formats import OPSET
from cmemd.files import file_sha256
from cmemd.inference.model_folder import SCHEMA_VERSION

__all__ = ["describe", "portable", "results_beside"]

_STANDIN_LICENCE = "drawn stand-in people, no photographs: that of cmemd, Apache-2.0"
_PACKAGES = ("safetensors", "onnx", "onnxscript", "onnxruntime")


def describe(
    cfg: CfgNode,
    architecture: Mapping[str, str],
    record: TrainingRecord | None,
    size: int,
    *,
    standin: bool,
    statistics: Mapping[str, Any] | None,
    results: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return ``model.json`` without files and digest.

    Args:
        cfg: of ``inference_config``.
        architecture: its name, and the configuration as yaml.
        record: training record of the weights, or None.
        size: D, numbers in an embedding.
        standin: whether the training images are drawn stand-ins.
        statistics: channel statistics of the training images, or None.
        results: content of a results file, or None.
    """
    height, width = cfg.INPUT.SIZE_TEST
    name = record and record.dataset
    return {
        "schema_version": SCHEMA_VERSION,
        "architecture": dict(architecture),
        "input": {
            "height": height,
            "width": width,
            "colour": "RGB",
            "layout": "NHWC",
            "dtype": "uint8",
            "resize": "bicubic, Pillow, no antialias flag",
            "thermal": build_sensor(cfg).to_dict(),
        },
        "normalisation": {
            "mean": list(cfg.MODEL.PIXEL_MEAN),
            "std": list(cfg.MODEL.PIXEL_STD),
            "inside_graph": True,
        },
        "embedding": {"size": size, "dtype": "float32", "l2_normalised": True},
        "modalities": {modality.name.lower(): int(modality) for modality in Modality},
        "recipe": _recipe(cfg.MODEL.HEADS),
        "training": {
            "dataset": name and name + (" (drawn stand-in)" if standin else ""),
            "identities": record and len(record.known),
            "licence": _STANDIN_LICENCE if standin else _licence(record),
        },
        "channel_statistics": statistics,
        "results": results and portable(results),
        "versions": _versions(),
    }


def _licence(record: TrainingRecord | None) -> str:
    """Return the licence of all images that the weights were ever trained on, in one line."""
    if record is None:
        return UNKNOWN
    licences = record.licences or {record.dataset: published_licence(record.dataset)}
    parts = [f"{name}: {licence}" for name, licence in licences.items()]
    if not record.complete:
        parts.append(f"start-up weights: {UNKNOWN}")
    return "; ".join(parts) if len(parts) > 1 else next(iter(licences.values()))


def results_beside(weights: Path) -> dict[str, Any] | None:
    """Return the results file in a checkpoint's folder if it is of this checkpoint, else None.

    Raises:
        InputError: ``results.json`` is damaged.
    """
    path = weights.with_name("results.json")
    if not path.is_file():
        return None
    results = read_results(path)
    checkpoint = results["run"].get("checkpoint") or {}
    digest = file_sha256(weights)
    return results if checkpoint.get("sha256") == digest else None


def portable(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return results without paths of the machine that scored."""
    run = dict(results["run"])
    if run.get("checkpoint"):
        run["checkpoint"] = {**run["checkpoint"], "file": Path(run["checkpoint"]["file"]).name}
    return {**results, "run": run, "per_query": None}


def _recipe(heads: CfgNode) -> str:
    """Return which features make the embedding, in words."""
    if "local" not in heads.GRANULARITIES:
        return "The embedding is the global feature, of length 1."
    local = f"{heads.STRIPES} local features" + (
        " and the accumulated ones" if heads.TEST_ACCUMULATED else ""
    )
    return (
        f"The embedding joins {heads.TEST_BETA:g} x the part of {local} and "
        f"{1 - heads.TEST_BETA:g} x the global feature, scaled to length 1."
    )


def _versions() -> dict[str, Any]:
    installed: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            installed[package] = None
    return {**versions(), **installed, "opset": OPSET}
