"""What other programs take of a model folder."""

import base64
import json

import cmemd.plugin  # noqa: F401  before torch and fastreid

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tests.export.conftest import SIZE, tiny_config
from tests.inference.refusal import refusal

from cmemd.cli.main import main
from cmemd.data.modality import Modality
from cmemd.export.card import card_metadata
from cmemd.export.folder import export_model
from cmemd.export.resize import pillow_bicubic
from cmemd.inference.frames import reid_backbone
from cmemd.inference.model_folder import read_model_folder
from cmemd.inference.predictor import Predictor
from cmemd.inference.test_vector import check_client, check_folder, read_test_vector


@pytest.fixture(scope="module")
def single(checkpoint, tmp_path_factory):
    """A model folder with the graphs of one modality, and half precision."""
    root = tmp_path_factory.mktemp("single")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(root / "nowhere"))
        export_model(
            tiny_config(),
            checkpoint,
            root / "tiny",
            formats=("onnx", "onnx-nchw", "onnx-nchw-any"),
            modalities=("thermal",),
            variants=("half",),
        )
    return root / "tiny"


def run_floats(path, pixels):
    """An ONNX file's embeddings of (N, H, W, 3) uint8."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32) / 255
    return session.run(None, {session.get_inputs()[0].name: planes})[0]


def test_a_graph_of_one_modality_has_one_input_of_floats_with_normalisation_inside(single):
    import onnxruntime

    session = onnxruntime.InferenceSession(single / "model.thermal.nchw.onnx")
    (given,) = session.get_inputs()
    assert (given.type, given.shape[1:]) == ("tensor(float)", [3, *SIZE])
    pixels = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), np.uint8)
    wanted = Predictor(single, precision="float32").embed(pixels, "thermal", bgr=False)
    found = run_floats(single / "model.thermal.nchw.onnx", pixels)
    assert np.abs(found - wanted).max() < 1e-4
    assert not (single / "model.visible.nchw.onnx").exists()


def test_a_graph_of_any_size_embeds_what_it_has_resized(single):
    """Whose pixels are Pillow's: see the next test."""
    rng = np.random.default_rng(0)
    predictor = Predictor(single, precision="float32")
    for height, width in ((97, 41), (64, 32), (200, 130), (20, 11)):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 5, 3), np.uint8))
        image = np.asarray(coarse.resize((width, height), Image.Resampling.BILINEAR))
        levels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        resized = pillow_bicubic(levels, *SIZE)[0].permute(1, 2, 0).numpy().astype(np.uint8)
        wanted = predictor.embed(resized, "thermal", bgr=False)
        found = run_floats(single / "model.thermal.nchw-any.onnx", image[None])
        assert np.abs(found - wanted).max() < 1e-4, (height, width)


def test_the_resize_inside_a_graph_gives_pillows_pixels():
    rng = np.random.default_rng(0)
    for height, width in ((64, 32), (63, 33), (200, 130), (20, 11), (1, 1)):
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        wanted = Image.fromarray(image).resize(SIZE[::-1], Image.Resampling.BICUBIC)
        levels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        found = pillow_bicubic(levels, *SIZE)[0].permute(1, 2, 0).numpy()
        difference = np.abs(found - np.asarray(wanted, np.float32))
        assert difference.max() <= 1, (height, width)
        assert difference.mean() < 0.01, (height, width)


def test_the_test_vector_holds_pixels_and_embeddings(model_folder):
    folder = read_model_folder(model_folder)
    for name, image in read_test_vector(folder).items():
        with Image.open(image.path) as file:
            resized = file.convert("RGB").resize(SIZE[::-1], Image.Resampling.BICUBIC)
            assert file.size > SIZE[::-1], name
        np.testing.assert_array_equal(np.asarray(resized), image.pixels)
        found = Predictor(model_folder).embed(image.path, name)[0]
        assert np.abs(found - image.embedding).max() < 1e-4, name
        assert image.modality is Modality[name.upper()]


def test_every_graph_of_a_folder_is_checked(single, model_folder):
    for folder, names in (
        (single, {"model.onnx", "model.fp16.onnx"}),
        (model_folder, {"model.onnx", "model.pt2"}),
    ):
        measured = check_folder(read_model_folder(folder))
        assert {m.name for m in measured} == names
        assert len(measured) == 2 * len(names)
        assert all(m.passes for m in measured)


def test_a_client_that_mistakes_the_modality_or_the_channels_is_found(model_folder, tmp_path):
    folder = read_model_folder(model_folder)
    images = read_test_vector(folder)
    good = {name: (7 * image.embedding).tolist() for name, image in images.items()}
    assert all(m.passes for m in check_client(folder, good))
    swapped = {"visible": good["thermal"], "thermal": good["visible"]}
    assert not any(m.passes for m in check_client(folder, swapped))
    nothing = {"visible": [0.0] * folder.embedding_size}
    assert not check_client(folder, nothing)[0].passes
    for embeddings, status in ((good, 0), (swapped, 1)):
        path = tmp_path / "client.json"
        path.write_text(json.dumps(embeddings))
        assert main(["verify", str(model_folder), "--client", str(path)]) == status
    for bad in ({"visible": [1.0]}, {"infrared": good["visible"]}, {"visible": "x"}):
        assert "expected embeddings of" in refusal(check_client, folder, bad), bad


def test_a_damaged_test_vector_is_one_line(model_folder, tmp_path):
    path = tmp_path / "client.json"
    for content in ("[]", "{}", "no json"):
        path.write_text(content)
        with pytest.raises(SystemExit) as end:
            main(["verify", str(model_folder), "--client", str(path)])
        assert end.value.code == 2


def test_a_slim_folder_keeps_the_digest_and_half_of_the_bytes(checkpoint, single, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(tmp_path / "nowhere"))
        export_model(
            tiny_config(),
            checkpoint,
            tmp_path / "slim",
            formats=("onnx",),
            variants=("half",),
            slim=True,
        )
    slim = read_model_folder(tmp_path / "slim")
    assert {name for name in slim.document["files"] if name.startswith(("model", "weights"))} == {
        "model.fp16.onnx"
    }
    assert slim.digest == read_model_folder(single).digest
    image = read_test_vector(slim)["visible"]
    found = Predictor(tmp_path / "slim").embed(image.path, "visible")[0]
    assert float(found @ image.embedding) > 0.999


def test_reids_backbone_takes_the_weights_by_name_and_embeds_as_predictor(model_folder):
    from safetensors.torch import load_file

    backbone = reid_backbone(model_folder, "thermal")
    weights = load_file(model_folder / "weights.safetensors")
    state = backbone.state_dict()
    assert set(state) <= set(weights)
    assert len(state) > len(weights) / 2
    config = json.loads((model_folder / "reid_config.json").read_text())["preprocessing"]
    assert config["input_size"] == list(SIZE)
    pixels = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), np.uint8)
    floats = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    wanted = Predictor(model_folder, runtime="torch").embed(pixels, "thermal", bgr=False)
    np.testing.assert_allclose(backbone(floats), wanted, atol=1e-6)
    backbone.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in state.items()})
    assert not np.allclose(backbone(floats), wanted)


def test_the_card_starts_with_the_hubs_metadata(model_folder):
    text = (model_folder / "README.md").read_text()
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert text.startswith("---\n")
    assert metadata["library_name"] == "cmemd"
    assert metadata["pipeline_tag"] == "image-feature-extraction"
    assert metadata["license"] == "other"  # of the data set's agreement
    assert metadata["license_name"]


def test_the_index_of_results_has_the_hubs_form():
    score = {"protocol": "sysu-all-1shot", "mean": {"rank1": 1.234, "mAP": 2.0, "mINP": 3.0}}
    document = {
        "architecture": {"name": "CMEMDNet"},
        "training": {"dataset": "sysumm01 (drawn stand-in)", "licence": "Apache-2.0"},
        "results": {"scores": [score]},
    }
    metadata = card_metadata(document)
    assert metadata["license"] == "apache-2.0"
    assert metadata["datasets"] == ["drawn-people"]
    (entry,) = metadata["model-index"]
    (result,) = entry["results"]
    assert set(result) == {"task", "dataset", "metrics"}
    assert {m["type"]: m["value"] for m in result["metrics"]}["rank1"] == 1.23
    assert {"name", "type"} <= set(result["dataset"])
    base64.b64encode(yaml.safe_dump(metadata).encode())  # it is plain yaml
