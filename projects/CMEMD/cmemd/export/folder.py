"""Write a model folder: every format, checked against the training network, or nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import cmemd.plugin  # noqa: F401  before fastreid

from fastreid.config import CfgNode
from fastreid.data.datasets.bases import ImageDataset

from cmemd.data.build import build_dataset, build_training, test_dataset
from cmemd.data.joined import JoinedData
from cmemd.data.naming import parts_of, people_of, title_of
from cmemd.engine.preflight import check_values
from cmemd.engine.provenance import Weights
from cmemd.engine.record import TrainingRecord, people_digests
from cmemd.errors import InputError
from cmemd.export.agw import AGW, agw_config
from cmemd.export.card import format_parity, format_variants, model_card
from cmemd.export.client_files import write_reid_config, write_test_vector
from cmemd.export.document import describe, results_beside
from cmemd.export.evaluate import evaluate_model
from cmemd.export.formats import (
    FILES,
    ONE_MODALITY,
    Embed,
    by_one_modality,
    by_onnxruntime,
    by_program,
    by_weights,
    check_formats,
    one_modality_file,
    trace,
    write_one_modality,
    write_onnx,
    write_program,
    write_weights,
)
from cmemd.export.images import Probes, channel_statistics, drawn_probes, probes_of
from cmemd.export.network import CMEMD, inference_config, read_network
from cmemd.export.parity import (
    Measured,
    by_training_network,
    check_finite,
    check_parity,
    measure_parity,
)
from cmemd.export.variants import VARIANTS
from cmemd.export.wrapper import EmbeddingGraph
from cmemd.files import file_sha256, whole_folder
from cmemd.inference.model_folder import write_model_document
from cmemd.modeling.cmemd_net import CMEMDNet

__all__ = ["export_model"]


def export_model(
    cfg: CfgNode,
    weights: Path | str,
    output: Path | str,
    *,
    formats: Sequence[str] = tuple(FILES),
    variants: Sequence[str] = (),
    modalities: Sequence[str] = (),
    slim: bool = False,
    evaluate: bool = False,
    agw: str | None = None,
) -> str:
    """Write a checkpoint as a model folder and return what was measured, as tables.

    Every format is read back and compared with the training network on the same images. If one
    differs, no folder is left. ``weights.safetensors`` is always written: its digest names the
    model.

    Args:
        cfg: the configuration with which the weights were trained.
        weights: their checkpoint.
        output: the folder, which must not exist.
        formats: out of ``FILES`` and ``ONE_MODALITY``.
        variants: out of ``VARIANTS``; they need the format onnx and have no limit to keep.
        modalities: "visible", "thermal" or both, of the formats of ``ONE_MODALITY``.
        slim: whether to leave out the weights and the graphs from which the variants were made;
            the model's digest stays that of the weights.
        evaluate: whether to score the network and its variants on the test set, for the model card.
        agw: pooling of weights of the released AGW code, out of ``AGW_POOLINGS``; else None.

    Raises:
        InputError: bad input, or a format that differs from the training network.
        MissingDependencyError: a package that a format needs is not installed.
    """
    check_formats(formats, modalities)
    check_values(cfg)
    if variants and "onnx" not in formats:
        raise InputError(
            "the format onnx, from which --half and --int8 are made",
            ", ".join(formats),
            "add onnx to --formats",
        )
    if slim and not variants:
        raise InputError(
            "--slim with --half or --int8, which it keeps", "neither", "add one of the two"
        )
    output = Path(output)
    if output.exists():
        raise InputError("a new folder as --output", output, "remove it, or name another")
    try:
        with whole_folder(output) as folder:
            return _export(
                folder,
                cfg,
                Path(weights),
                formats,
                variants,
                modalities,
                slim=slim,
                evaluate=evaluate,
                agw=agw,
            )
    except OSError as error:
        raise InputError(
            f"to write {output}",
            error.strerror or error,
            "choose an --output in a folder of yours, with enough room",
        ) from None


def _export(
    folder: Path,
    cfg: CfgNode,
    weights: Path,
    formats: Sequence[str],
    variants: Sequence[str],
    modalities: Sequence[str],
    *,
    slim: bool,
    evaluate: bool,
    agw: str | None,
) -> str:
    """Fill an empty folder as ``export_model`` says."""
    plain = inference_config(agw_config(cfg, agw) if agw else cfg)
    name = AGW if agw else CMEMD
    known = Weights(file=weights) if agw else Weights.read(weights)
    network = read_network(plain, known, name)
    probes = _probes(cfg, needed=evaluate)
    by_network = by_training_network(network)
    reference = by_network(probes.images, probes.modalities)
    architecture = {"name": name, "config": plain.dump()}

    def measured(of: str, file: str, embed: Embed) -> Measured:
        size = (folder / file).stat().st_size
        return replace(measure_parity(of, size, embed, probes, reference), file=file)

    exported = []
    for of, embed in _write(folder, network, architecture, formats, plain.INPUT.SIZE_TEST):
        exported.append(measured(of, FILES[of], embed))
        check_parity(exported[-1])
    for of in (name for name in ONE_MODALITY if name in formats):
        for modality in modalities:
            file = one_modality_file(of, modality)
            write_one_modality(network, of, folder / file, modality, plain.INPUT.SIZE_TEST)
            embed = by_one_modality(folder / file, modality, reference)
            exported.append(measured(of, file, embed))
            check_parity(exported[-1])
    trained_on = _trained_on(cfg, known.record)
    typical = probes
    if variants and trained_on:
        typical = probes_of(trained_on.train, cfg, "training images")
    smaller = _write_variants(folder, variants, typical)
    compared = [measured(of, VARIANTS[of][0], embed) for of, embed in smaller.items()]
    check_finite(compared)
    results = {}
    if evaluate:
        scored = {"trained": by_network, **smaller}
        results = {of: evaluate_model(embed, cfg, known) for of, embed in scored.items()}
    document = describe(
        plain,
        architecture,
        known.record,
        reference.shape[1],
        standin=trained_on is not None and _all_drawn(trained_on),
        statistics=None if trained_on is None else channel_statistics(trained_on.train, cfg),
        results=results.get("trained") or results_beside(weights),
    )
    write_test_vector(folder, by_network, *plain.INPUT.SIZE_TEST)
    write_reid_config(folder, *plain.INPUT.SIZE_TEST)
    digest = file_sha256(folder / FILES["safetensors"])
    if slim:
        for done in exported:
            (folder / done.file).unlink()
        exported = []
    card = model_card(document, exported, compared, results, probes.source)
    (folder / "README.md").write_text(card, encoding="utf-8")
    write_model_document(folder, document, digest)
    report = [f"compared on {len(probes.images)} {probes.source}"]
    report += [format_parity(exported)] if exported else []
    return "\n".join(report + ([format_variants(compared, results)] if compared else []))


def _write(
    folder: Path,
    network: CMEMDNet,
    architecture: Mapping[str, str],
    formats: Sequence[str],
    size: Sequence[int],
) -> Iterator[tuple[str, Embed]]:
    """Write one format after the other; yield each name and a function that runs its file."""
    paths = {name: folder / file for name, file in FILES.items()}
    write_weights(network, paths["safetensors"])
    yield "safetensors", by_weights(paths["safetensors"], architecture)
    if not {"torch-export", "onnx"} & set(formats):
        return
    program = trace(EmbeddingGraph(network), *size)
    if "torch-export" in formats:
        write_program(program, paths["torch-export"])
        yield "torch-export", by_program(paths["torch-export"])
    if "onnx" in formats:
        write_onnx(program, paths["onnx"])
        yield "onnx", by_onnxruntime(paths["onnx"])


def _write_variants(folder: Path, variants: Sequence[str], typical: Probes) -> dict[str, Embed]:
    """Write the variants; return what runs each, by name."""
    made = {}
    for name in variants:
        file, write = VARIANTS[name]
        write(folder / FILES["onnx"], folder / file, typical)
        made[name] = by_onnxruntime(folder / file)
    return made


def _probes(cfg: CfgNode, needed: bool) -> Probes:
    """Return test images, or drawn ones if the test set is absent and not needed."""
    data = _found(_test_data, cfg) if not needed else _test_data(cfg)
    if data is None:
        return drawn_probes(*cfg.INPUT.SIZE_TEST)
    return probes_of(data.query + data.gallery, cfg, f"test images of {title_of(data)}")


def _trained_on(cfg: CfgNode, record: TrainingRecord | None) -> ImageDataset | JoinedData | None:
    """Return the training set if it is on disk and has the record's identities, else None."""
    data = _found(build_training, cfg)
    if data is None or record is None:
        return data
    digests = people_digests(people_of(data, data.train))
    return data if sorted(digests) == record.identities else None


def _all_drawn(data: ImageDataset | JoinedData) -> bool:
    """Return whether all images are drawn stand-ins, as ``cmemd synth`` writes them."""
    return all((part.folder / "meta.jsonl").is_file() for part in parts_of(data))


def _test_data(cfg: CfgNode) -> ImageDataset:
    return build_dataset(cfg, test_dataset(cfg))


_Data = TypeVar("_Data")


def _found(build: Callable[[CfgNode], _Data], cfg: CfgNode) -> _Data | None:
    """Return a data set if it is on disk, else None."""
    try:
        return build(cfg)
    except InputError:
        return None
