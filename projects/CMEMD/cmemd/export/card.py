"""The model card: ``README.md`` of a model folder."""

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from cmemd.evaluation.tables import format_table
from cmemd.export.formats import FILES, OPSET
from cmemd.export.parity import LIMITS, Measured
from cmemd.export.variants import VARIANTS

__all__ = ["format_parity", "format_variants", "model_card"]

_RUN_WITH = {
    "safetensors": "cmemd with PyTorch and fast-reid",
    "torch-export": "PyTorch; from others, load it by `cmemd.inference.Predictor` or not at all",
    "onnx": f"ONNX Runtime, or any other runtime of opset {OPSET}",
}


def format_parity(measured: Sequence[Measured], form: str = "simple") -> str:
    """A row per format: size, largest difference to the training network, rankings and speed."""
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
    measured: Sequence[Measured], cards: Mapping[str, Mapping[str, Any]], form: str = "simple"
) -> str:
    """A row per smaller variant: size, smallest cosine, speed, and Rank-1 where it was scored.

    Args:
        measured: the variants.
        cards: result card by name, of the training network under "trained"; may lack any.
        form: of tabulate.
    """
    rows = [
        [
            m.name,
            f"{m.bytes / 1e6:.2f}",
            f"{m.cosine:.5f}",
            f"{m.images_per_second:.0f}",
            _rank1_loss(cards.get("trained"), cards.get(m.name)),
        ]
        for m in measured
    ]
    headers = ["Variant", "MB", "Smallest cosine", "Images/s", "Rank-1, its loss"]
    return tabulate(rows, headers, form, disable_numparse=True)


def model_card(
    document: Mapping[str, Any],
    measured: Sequence[Measured],
    variants: Sequence[Measured],
    cards: Mapping[str, Mapping[str, Any]],
    probes: str,
) -> str:
    """The card in Markdown.

    Args:
        document: of ``model.json``.
        measured: each format against the training network.
        variants: smaller variants, against it too.
        cards: as ``format_variants`` takes them.
        probes: which images they were compared on.
    """
    training, size = document["training"], document["input"]
    files = [[f"`{FILES[m.name]}`", _RUN_WITH[m.name]] for m in measured] + [
        [f"`{VARIANTS[m.name][0]}`", f"ONNX Runtime: {m.name}"] for m in variants
    ]
    statistics = document["channel_statistics"]
    parts = [
        f"# {document['architecture']['name']}: visible-thermal person re-identification",
        "A person's crop in, an embedding out: cosines compare people across visible and thermal "
        f"(near-infrared) images. {document['recipe']}",
        "## Training data",
        f"- data set: {training['dataset'] or 'unknown, the checkpoint does not say'}\n"
        f"- identities: {training['identities'] or 'unknown'}\n"
        f"- licence: {training['licence']}\n"
        "- channel statistics: "
        + ("in `model.json`" if statistics else "none: a wrong modality goes unnoticed"),
        "## Use",
        f"`images`: uint8 (N, {size['height']}, {size['width']}, 3), RGB, grey levels as they are "
        f"(normalisation is inside); resize with Pillow's bicubic. `modalities`: int64 (N,), 0 "
        "visible, 1 thermal. `embeddings`: float32 "
        f"(N, {document['embedding']['size']}) of length 1. The network has one stem for each "
        "modality: a wrong modality gives a plausible, useless embedding, and any number but 0 "
        "and 1 gives NaN.",
        tabulate(files, ["File", "Runs with"], "github"),
        "## Parity with the training network",
        f"On {probes}. Speed on the CPU of the machine that exported.",
        format_parity(measured, "github"),
    ]
    if variants:
        parts += ["## Smaller variants", format_variants(variants, cards, "github")]
    parts.append("## Results")
    if document["results"]:
        parts.append(f"```\n{format_table(document['results'])}\n```")
    else:
        parts.append("None came with the weights; `--evaluate` scores them.")
    parts.append("Versions: " + ", ".join(f"{k} {v}" for k, v in document["versions"].items()))
    return "\n\n".join(parts) + "\n"


def _rank1_loss(trained: Mapping[str, Any] | None, variant: Mapping[str, Any] | None) -> str:
    if trained is None or variant is None:
        return "not measured"
    before, after = (card["scores"][0]["mean"]["rank1"] for card in (trained, variant))
    return f"{after:.2f}, {before - after:+.2f}"
