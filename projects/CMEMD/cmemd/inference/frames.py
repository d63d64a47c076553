"""Embed the boxes of video frames, in the forms in which trackers ask for it.

No tracker is imported: these are the method names and shapes that BoxMOT, supervision and others
use. docs/neighbours.md shows each.

Shape legend: ``N`` boxes, ``D`` numbers in an embedding.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.inference.backends import PROGRAM
from cmemd.inference.model_folder import WEIGHTS, read_model_folder
from cmemd.inference.predictor import Predictor, as_modality

if TYPE_CHECKING:
    from torch import nn

__all__ = ["FrameEncoder", "reid_backbone"]


class FrameEncoder:
    """Embed boxes of frames of one modality.

    A crop is the box within the frame, cut at whole pixels, at least one pixel wide and high.

    Args:
        predictor: the model.
        modality: "visible" or "thermal", of all frames.
        bgr: whether arrays hold their channels as blue, green, red, as OpenCV's do. Frames with an
            ``image`` attribute are RGB tensors.
        requirements: BoxMOT's ``EncoderRequirements()``, which it compares by its own type.

    Attributes:
        embedding_dim: D.
        requirements: as given.
    """

    def __init__(
        self,
        predictor: Predictor,
        modality: Modality | str,
        *,
        bgr: bool = True,
        requirements: object = None,
    ) -> None:
        self.predictor = predictor
        self.modality = as_modality(modality)
        self.bgr = bgr
        self.requirements = requirements
        self.embedding_dim = predictor.size

    def get_features(self, xyxys: np.ndarray, img: np.ndarray) -> np.ndarray:
        """Return embeddings (N, D) float32 of length 1.

        Args:
            xyxys: (N, 4) left, top, right, bottom in pixels; further columns are ignored.
            img: (H, W, 3) uint8.

        Raises:
            InputError: the boxes have another shape or are not finite, or the frame is no image.
        """
        return self._embed(xyxys, img, self.bgr)

    def extract_embeddings(self, detections: Any, frame: np.ndarray) -> np.ndarray:
        """Return embeddings (N, D) of supervision's ``Detections`` in a frame (H, W, 3).

        Raises:
            InputError: as ``get_features``.
        """
        return self.get_features(detections.xyxy, frame)

    def encode(self, frames: Sequence[Any], detections: Sequence[Any]) -> list[Any]:
        """Return one (N, D) float32 array for each frame.

        Args:
            frames: arrays (H, W, 3); or BoxMOT's frames, for which the results are tensors.
            detections: of each frame: boxes (N, 4), an object that has them as ``xyxy``, or one of
                BoxMOT's, whose ``geometry`` has them as ``values``.

        Raises:
            InputError: as ``get_features``; or another number of frames than of detections.
        """
        if len(frames) != len(detections):
            raise InputError(
                "as many detections as frames", f"{len(detections)} and {len(frames)}", "pair them"
            )
        return [self._encode(*pair) for pair in zip(frames, detections, strict=True)]

    def _encode(self, frame: Any, detections: Any) -> Any:
        if hasattr(detections, "geometry"):
            boxes = np.asarray(detections.geometry.values)
        else:
            boxes = np.asarray(getattr(detections, "xyxy", detections))
        if not hasattr(frame, "image"):
            return self._embed(boxes, frame, self.bgr)
        import torch  # such a frame is a tensor

        pixels = np.ascontiguousarray(frame.image.permute(1, 2, 0).cpu().numpy())
        return torch.from_numpy(self._embed(boxes, pixels, bgr=False))

    def _embed(self, boxes: np.ndarray, frame: np.ndarray, bgr: bool) -> np.ndarray:
        boxes = np.asarray(boxes, dtype=np.float64)
        if boxes.size == 0:
            return np.empty((0, self.embedding_dim), np.float32)
        if boxes.ndim != 2 or boxes.shape[1] < 4 or not np.isfinite(boxes[:, :4]).all():
            raise InputError(
                "finite boxes (N, 4): left, top, right, bottom",
                f"shape {boxes.shape}",
                "give one row per box",
            )
        crops = [_crop(frame, *box) for box in boxes[:, :4]]
        return self.predictor.embed(crops, self.modality, bgr=bgr)


def _crop(frame: np.ndarray, left: float, top: float, right: float, bottom: float) -> np.ndarray:
    height, width = frame.shape[:2]
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    right, bottom = min(max(right, left + 1), width), min(max(bottom, top + 1), height)
    return frame[int(top) : int(bottom), int(left) : int(right)]


def reid_backbone(model_dir: str | os.PathLike[str], modality: Modality | str) -> "nn.Module":
    """Return a model folder's network as the backbone that roboflow's ``reid`` takes.

    ``ReIDModel.from_pretrained(model_dir, architecture=reid_backbone(model_dir, "thermal"))`` reads
    the preprocessing from ``reid_config.json``. It needs PyTorch, and no fast-reid.

    Args:
        model_dir: a model folder with ``weights.safetensors`` and ``model.pt2``.
        modality: "visible" or "thermal", of all images.

    Returns:
        A module of images (N, 3, H, W) in [0, 1] -> embeddings (N, D), whose state has the names of
        ``weights.safetensors``.

    Raises:
        InputError: the folder is damaged or lacks one of the files.
    """
    import torch
    from torch import nn

    from cmemd.inference.program import load_program

    folder = read_model_folder(os.fspath(model_dir))
    names = _tensor_names(folder.file(WEIGHTS))
    program = load_program(folder.file(PROGRAM), torch.device("cpu"))
    number = int(as_modality(modality))

    class Backbone(nn.Module):
        """Run the program of one modality."""

        def __init__(self) -> None:
            super().__init__()
            self.program = program

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            levels = (images * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
            modalities = torch.full((len(images),), number, device=images.device)
            embeddings: torch.Tensor = self.program(levels, modalities)
            return embeddings

        def state_dict(self, *_: Any, **__: Any) -> Any:  # declared by overloads
            state = self.program.state_dict()
            flat = {f"network_{name.replace('.', '_')}": name for name in names}
            return {flat[name]: tensor for name, tensor in state.items() if name in flat}

        def load_state_dict(self, state_dict: Mapping[str, Any], *_: Any, **__: Any) -> Any:
            own = self.state_dict()
            for name, tensor in state_dict.items():
                own[name].copy_(tensor)

        def eval(self) -> "Backbone":
            return self  # a program has one mode, which is this

    return Backbone().requires_grad_(False)


def _tensor_names(path: Path) -> list[str]:
    """Return the names in a safetensors file: a length in 8 bytes, then JSON."""
    with path.open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
    return [name for name in json.loads(header) if name != "__metadata__"]
