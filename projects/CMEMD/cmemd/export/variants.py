"""Smaller variants of ``model.onnx``: half precision, and 8-bit convolutions."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cmemd.export.images import Probes
from cmemd.serve.backends import ONNX_FILES

__all__ = ["VARIANTS", "write_half", "write_int8"]

_CALIBRATION_BATCH = 16
# Generalised-mean pooling raises activations to the third power, beyond half precision's 65504.
_FULL_PRECISION = ("Clip", "Pow", "ReduceMean", "AveragePool", "ReduceL2")


def write_half(source: Path, path: Path, probes: Probes) -> None:
    """Writes a model's weights and convolutions in half precision, its pooling in full.

    Args:
        source: ``model.onnx``.
        path: where to.
        probes: not needed.
    """
    import onnx
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    half = convert_float_to_float16(
        onnx.load(source),
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_FULL_PRECISION],
    )
    onnx.save(half, path)


def write_int8(source: Path, path: Path, probes: Probes) -> None:
    """Writes a model with 8-bit convolutions, by ONNX Runtime's static quantiser.

    Args:
        source: ``model.onnx``.
        path: where to.
        probes: images whose activations set the ranges.
    """
    from onnxruntime.quantization import QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    fused = path.with_suffix(".fused")  # each normalisation joins its convolution before rounding
    quant_pre_process(source, fused, skip_symbolic_shape=True)
    quantize_static(
        fused,
        path,
        _Batches(probes),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
    )
    fused.unlink()


# Name -> its file, and what writes it.
VARIANTS: dict[str, tuple[str, Callable[[Path, Path, Probes], None]]] = {
    "half": (ONNX_FILES["float16"], write_half),
    "int8": (ONNX_FILES["int8"], write_int8),
}


class _Batches:
    """Feeds the quantiser, which asks until it gets None."""

    def __init__(self, probes: Probes) -> None:
        cuts = range(_CALIBRATION_BATCH, len(probes.images), _CALIBRATION_BATCH)
        self._rest: Sequence[tuple[np.ndarray, np.ndarray]] = list(
            zip(np.split(probes.images, cuts), np.split(probes.modalities, cuts), strict=True)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        if not self._rest:
            return None
        (images, modalities), *self._rest = self._rest
        return {"images": images, "modalities": modalities}
