"""Ultralytics' tracker encoder and BoxMOT, against Predictor.

Both are under the AGPL. This script alone imports them: `make test-neighbours` runs it in an
environment of its own, and nothing of this project imports it: python agpl.py MODEL
"""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from open_source import BOXES, check, expected, frame_of, make_torchvision_importable

from cmemd import FrameEncoder, Predictor


def main(folder):
    kept = make_torchvision_importable()  # noqa: F841  the operator lives as long as this
    predictor = Predictor(folder)
    frame = frame_of(folder)
    height, width = predictor.folder.height, predictor.folder.width

    from ultralytics.trackers.utils.reid import ReID

    # Ultralytics adds 2 % and 10 pixels to a box. These become crops of the model's own size, which
    # need no resize: its bilinear one differs from Pillow's.
    corners = np.array([[2, 3], [40, 20], [60, 50]])
    crops = [frame[y : y + height, x : x + width] for x, y in corners]
    sides = (np.array([width, height]) + 0.02 - 10) / 1.02
    boxes = np.hstack([corners + [width / 2 + 0.5, height / 2 + 0.5], np.tile(sides, (3, 1))])
    for modality in ("visible", "thermal"):
        encoder = ReID(str(folder / f"model.{modality}.nchw.onnx"), device="cpu")
        found = np.stack([np.asarray(row) for row in encoder(frame, boxes.astype(np.float32))])
        wanted = predictor.embed(crops, modality, bgr=True)
        check(f"ultralytics {version('ultralytics')}, {modality}", found, wanted)

    import torch
    from boxmot.pipelines.perception import PerceptionPipeline, PipelineOutputs
    from boxmot.reid.protocols import EncoderRequirements
    from boxmot.structures import Boxes, Detections, Frame

    for modality in ("visible", "thermal"):
        encoder = FrameEncoder(predictor, modality, requirements=EncoderRequirements())
        PerceptionPipeline(reid=encoder, outputs=PipelineOutputs(embeddings=True))
        pixels = torch.from_numpy(frame[..., ::-1].copy()).permute(2, 0, 1).contiguous()
        ones = torch.ones(3)
        detections = Detections(Boxes(torch.from_numpy(BOXES)), ones, ones.long(), "a")
        (found,) = encoder.encode([Frame(pixels, "a")], [detections])
        wanted = expected(predictor, frame, modality)
        check(f"boxmot {version('boxmot')}, {modality}", found.numpy(), wanted)
        check("get_features", encoder.get_features(BOXES, frame), wanted)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except (ImportError, PackageNotFoundError) as error:
        print(f"skipped: {error}")
