"""roboflow's reid, supervision, OpenVINO and the hub's card, against Predictor.

`make test-neighbours` runs this in an environment of its own: python open_source.py MODEL
"""

import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from cmemd import FrameEncoder, Predictor, reid_backbone

BOXES = np.array([[5.5, 3.2, 70.9, 140.0], [-9, 20, 48, 116], [60, 2, 400, 300]], np.float32)


def frame_of(folder):
    """A BGR frame of 160 x 120 with the model's drawn people."""
    from PIL import Image

    frame = np.zeros((160, 120, 3), np.uint8)
    for name, left in (("visible", 0), ("thermal", 55)):
        image = Image.open(folder / f"test_{name}.png").convert("RGB").resize((60, 150))
        frame[5:155, left : left + 60] = np.asarray(image)[..., ::-1]
    return frame


def expected(predictor, frame, modality):
    """Embeddings of the crops, cut by hand."""
    crops = [frame[3:140, 5:70], frame[20:116, 0:48], frame[2:160, 60:120]]
    return predictor.embed(crops, modality, bgr=True)


def check(name, found, wanted, limit=0.999):
    found = found / np.linalg.norm(found, axis=1, keepdims=True)
    cosine = float((found * wanted).sum(1).min())
    assert found.shape == wanted.shape, (name, found.shape)
    assert cosine > limit, (name, cosine)
    print(f"ok: {name}, smallest cosine {cosine:.6f}")


def make_torchvision_importable():
    """Declare the operators whose absence stops torchvision beside a PyTorch of another build."""
    import torch

    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None


def main(folder):
    kept = make_torchvision_importable()  # noqa: F841  the operator lives as long as this
    predictor = Predictor(folder)
    frame = frame_of(folder)

    import supervision as sv

    detections = sv.Detections(xyxy=BOXES)
    for modality in ("visible", "thermal"):
        encoder = FrameEncoder(predictor, modality)
        wanted = expected(predictor, frame, modality)
        found = encoder.extract_embeddings(detections, frame)
        check(f"supervision {version('supervision')}, {modality}", found, wanted)

    from reid import ReIDModel

    for modality in ("visible", "thermal"):
        model = ReIDModel.from_pretrained(
            str(folder), architecture=reid_backbone(folder, modality), device="cpu"
        )
        found = model.extract_embeddings(detections, frame)
        wanted = expected(predictor, frame, modality)
        check(f"reid {version('reid')}, {modality}", found, wanted)

    import onnxruntime
    import openvino

    core = openvino.Core()
    images = np.random.default_rng(0).integers(0, 256, (5, *frame_size(predictor), 3), np.uint8)
    inputs = {"images": images, "modalities": np.array([0, 1, 1, 0, 1])}
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    wanted = session.run(None, inputs)[0]
    for precision in ("f32", None):
        hint = {"INFERENCE_PRECISION_HINT": precision} if precision else {}
        compiled = core.compile_model(str(folder / "model.onnx"), "CPU", hint)
        difference = float(np.abs(compiled(inputs)[0] - wanted).max())
        assert difference < 1e-4 or not precision, difference
        print(f"ok: openvino {version('openvino')}, {precision or 'default'}: {difference:.1e}")

    from huggingface_hub import ModelCard

    card = ModelCard.load(folder / "README.md")
    card.data.to_dict()
    assert card.data.eval_results or not json.loads((folder / "model.json").read_text())["results"]
    assert card.data.library_name == "cmemd"
    print(f"ok: huggingface_hub {version('huggingface_hub')}")


def frame_size(predictor):
    return predictor.folder.height, predictor.folder.width


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except (ImportError, PackageNotFoundError) as error:
        print(f"skipped: {error}")
