"""Write smaller variants of ``model.onnx``: half precision, and 8-bit convolutions."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cmemd.export.images import Probes
from cmemd.inference.backends import ONNX_FILES

__all__ = ["VARIANTS", "write_half", "write_int8"]

_CALIBRATION_BATCH = 16


def write_half(source: Path, path: Path, typical: Probes) -> None:
    """Write a model's convolutional part in half precision, and the head after it in full.

    Generalised-mean pooling raises activations to the third power, beyond half precision's 65504.

    Args:
        source: ``model.onnx``.
        path: the new file.
        typical: unused; the 8-bit variant needs it.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.load(source)
    last = max(at for at, node in enumerate(model.graph.node) if node.op_type == "Conv")
    head = [node.name for node in model.graph.node[last + 1 :]]
    half = OnnxModel(convert_float_to_float16(model, keep_io_types=True, node_block_list=head))
    half.remove_cascaded_cast_nodes()  # else the head rounds between any two operations
    half.save_model_to_file(str(path))


def write_int8(source: Path, path: Path, typical: Probes) -> None:
    """Write a model with 8-bit convolutions, with ONNX Runtime's static quantiser.

    Args:
        source: ``model.onnx``.
        path: the new file.
        typical: images whose activations set the ranges; not the test images.
    """
    from onnxruntime.quantization import QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # Merge each normalisation into its convolution before rounding.
    fused = path.with_suffix(".fused")
    quant_pre_process(source, fused, skip_symbolic_shape=True)
    quantize_static(
        fused,
        path,
        _Batches(typical),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
    )
    fused.unlink()


# Name -> its file, and the function that writes it.
VARIANTS: dict[str, tuple[str, Callable[[Path, Path, Probes], None]]] = {
    "half": (ONNX_FILES["float16"], write_half),
    "int8": (ONNX_FILES["int8"], write_int8),
}


class _Batches:
    """Feed batches to the quantiser, until None ends them."""

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
