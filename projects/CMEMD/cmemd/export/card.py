"""Write the model card: ``README.md`` of a model folder."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from tabulate import tabulate

from cmemd.evaluation.tables import format_table
from cmemd.export.formats import FILES, OPSET
from cmemd.export.parity import LIMITS, Measured
from cmemd.export.variants import VARIANTS

__all__ = ["card_metadata", "format_parity", "format_variants", "model_card"]

_METRICS = {"rank1": "Rank-1", "mAP": "mAP", "mINP": "mINP"}

_RUN_WITH = {
    "safetensors": "cmemd with PyTorch and fast-reid",
    "torch-export": "PyTorch; load another person's file only with `cmemd.Predictor`",
    "onnx": f"ONNX Runtime, or any other runtime of opset {OPSET}",
    "onnx-nchw": "trackers: one modality, floats (N, 3, H, W) in [0, 1]",
    "onnx-nchw-any": "ONNX Runtime: one modality, floats in [0, 1] of any size, resized inside",
}


def format_parity(measured: Sequence[Measured], form: str = "simple") -> str:
    """Return a table of formats: size, largest difference, rankings and speed.

    Args:
        measured: the formats, compared with the training network.
        form: table format of tabulate.
    """
    rows = [
        [
            m.name,
            f"{m.bytes / 1e6:.2f}",
            f"{m.difference:.1e}",
            f"{LIMITS[m.name]:.0e}",
            "equal" if m.rankings else "differ",
            f"{m.images_per_second:.0f}",
        ]
        for m in measured
    ]
    headers = ["Format", "MB", "Largest difference", "Limit", "Rankings", "Images/s"]
    return tabulate(rows, headers, form, disable_numparse=True)


def format_variants(
    measured: Sequence[Measured], results: Mapping[str, Mapping[str, Any]], form: str = "simple"
) -> str:
    """Return a table of smaller variants: size, smallest cosine, speed, and Rank-1 if scored.

    Args:
        measured: the variants, compared with the training network.
        results: results by name, of the training network under "trained"; any may be absent.
        form: table format of tabulate.
    """
    rows = [
        [
            m.name,
            f"{m.bytes / 1e6:.2f}",
            f"{m.cosine:.5f}",
            f"{m.images_per_second:.0f}",
            _rank1_loss(results.get("trained"), results.get(m.name)),
        ]
        for m in measured
    ]
    headers = ["Variant", "MB", "Smallest cosine", "Images/s", "Rank-1, its loss"]
    return tabulate(rows, headers, form, disable_numparse=True)


def card_metadata(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata that the Hugging Face hub reads from the head of a model card.

    Args:
        document: content of ``model.json``.
    """
    training = document["training"]
    name = document["architecture"]["name"]
    free = "Apache-2.0" in (training["licence"] or "")
    licence = {"license": "apache-2.0"}
    if not free:  # the weights' terms are those of the data set
        licence = {"license": "other", "license_name": "data-set-agreement"}
    metadata: dict[str, Any] = {
        "library_name": "cmemd",
        "pipeline_tag": "image-feature-extraction",
        **licence,
        "tags": ["person-re-identification", "visible-thermal", "cross-modality", "onnx"],
    }
    if training["dataset"]:
        drawn = "stand-in" in training["dataset"]
        metadata["datasets"] = ["drawn-people" if drawn else training["dataset"]]
    if document["results"]:
        metadata["metrics"] = list(_METRICS)
        metadata["model-index"] = [
            {
                "name": name,
                "results": [
                    {
                        "task": {
                            "type": "image-feature-extraction",
                            "name": "visible-thermal person re-identification",
                        },
                        "dataset": {
                            "type": training["dataset"] or "unknown",
                            "name": f"{training['dataset'] or 'unknown'}, {score['protocol']}",
                        },
                        "metrics": [
                            {"type": key, "name": label, "value": round(score["mean"][key], 2)}
                            for key, label in _METRICS.items()
                        ],
                    }
                    for score in document["results"]["scores"]
                ],
            }
        ]
    return metadata


def model_card(
    document: Mapping[str, Any],
    measured: Sequence[Measured],
    variants: Sequence[Measured],
    results: Mapping[str, Mapping[str, Any]],
    probes: str,
) -> str:
    """Return the model card in Markdown, with the hub's metadata at its head.

    Args:
        document: content of ``model.json``.
        measured: each format, compared with the training network.
        variants: smaller variants, compared with it too.
        results: as ``format_variants`` takes them.
        probes: the images on which they were compared, in words.
    """
    training, size = document["training"], document["input"]
    files = [[f"`{m.file or FILES[m.name]}`", _RUN_WITH[m.name]] for m in measured] + [
        [f"`{VARIANTS[m.name][0]}`", f"ONNX Runtime: {m.name}"] for m in variants
    ]
    statistics = document["channel_statistics"]
    parts = [
        f"---\n{yaml.safe_dump(card_metadata(document), sort_keys=False)}---",
        f"# {document['architecture']['name']}: visible-thermal person re-identification",
        "The model turns the crop of a person into an embedding. Cosines of embeddings compare "
        f"people across visible and thermal (near-infrared) images. {document['recipe']}",
        "## Training data",
        f"- data set: {training['dataset'] or 'unknown (the checkpoint does not say)'}\n"
        f"- identities: {training['identities'] or 'unknown'}\n"
        f"- licence: {training['licence']}\n"
        "- channel statistics: "
        + ("in `model.json`" if statistics else "none: a wrong modality goes unnoticed"),
        "## Use",
        "```python\nfrom cmemd import Predictor\n\n"
        'embeddings = Predictor("path/to/this/folder").embed(["a.jpg"], "thermal")\n```',
        "Without cmemd, give a graph these inputs. "
        f"`images`: uint8 (N, {size['height']}, {size['width']}, 3), RGB, resized with Pillow's "
        "bicubic; the graph normalises them. `modalities`: int64 (N,), 0 visible, 1 thermal. It "
        f"returns `embeddings`: float32 (N, {document['embedding']['size']}) of length 1. The "
        "network has one stem per modality. A wrong modality gives a plausible, useless "
        "embedding; a number other than 0 and 1 gives NaN.",
        tabulate(files, ["File", "Runs with"], "github"),
        "`test_visible.png` and `test_thermal.png` are drawn people. `test_vector.json` has their "
        "pixels after the resize, and their embeddings: `cmemd verify` checks a client by it.",
    ]
    if measured:
        parts += [
            "## Parity with the training network",
            f"Compared on {probes}. Speed is that of the exporting machine's CPU.",
            format_parity(measured, "github"),
        ]
    if variants:
        parts += ["## Smaller variants", format_variants(variants, results, "github")]
    parts.append("## Results")
    if document["results"]:
        parts.append(f"```\n{format_table(document['results'])}\n```")
    else:
        parts.append("No results came with the weights; `--evaluate` scores them.")
    parts.append("Versions: " + ", ".join(f"{k} {v}" for k, v in document["versions"].items()))
    return "\n\n".join(parts) + "\n"


def _rank1_loss(trained: Mapping[str, Any] | None, variant: Mapping[str, Any] | None) -> str:
    if trained is None or variant is None:
        return "not measured"
    before, after = (results["scores"][0]["mean"]["rank1"] for results in (trained, variant))
    return f"{after:.2f}, {before - after:+.2f}"
