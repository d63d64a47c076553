"""Every format of a model folder is the network that was trained."""

import sys

import cmemd.plugin  # noqa: F401  before torch and fastreid

import numpy as np
import onnx
import pytest
from tests.export.conftest import SIZE, save_checkpoint, tiny_config

from cmemd.engine.provenance import Weights
from cmemd.errors import InputError, MissingDependencyError
from cmemd.export.formats import (
    OPSET,
    by_onnxruntime,
    by_program,
    by_weights,
    check_formats,
    trace,
    write_onnx,
)
from cmemd.export.images import drawn_probes
from cmemd.export.network import inference_config, read_network
from cmemd.export.parity import by_training_network
from cmemd.export.variants import write_int8
from cmemd.export.wrapper import EmbeddingGraph
from cmemd.inference.model_folder import read_model_folder

LIMITS = {"safetensors": 1e-5, "torch-export": 1e-5, "onnx": 1e-4}


def batch(modalities, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (len(modalities), *SIZE, 3), np.uint8)
    return images, np.array(modalities, dtype=np.int64)


@pytest.fixture(scope="module")
def trained(checkpoint):
    return by_training_network(
        read_network(inference_config(tiny_config()), Weights.read(checkpoint))
    )


@pytest.fixture(scope="module")
def formats(model_folder):
    document = read_model_folder(model_folder).document
    return {
        "safetensors": by_weights(model_folder / "weights.safetensors", document["architecture"]),
        "torch-export": by_program(model_folder / "model.pt2"),
        "onnx": by_onnxruntime(model_folder / "model.onnx"),
    }


def test_any_batch_embeds_as_the_training_network_does(formats, trained):
    mixed = [1, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0]
    for given in ([0], [1], [0, 0, 0], [1, 1], [0, 1], mixed):
        images, modalities = batch(given)
        expected = trained(images, modalities)
        for name, limit in LIMITS.items():
            embeddings = formats[name](images, modalities)
            assert embeddings.dtype == np.float32, (name, given)
            assert np.abs(embeddings - expected).max() <= limit, (name, given)
            lengths = np.linalg.norm(embeddings, axis=1)
            assert lengths == pytest.approx(np.ones(len(images)), abs=1e-5), (name, given)


def test_each_modality_has_its_own_stem(formats):
    images, _ = batch([0])
    for name in LIMITS:
        visible, thermal = (formats[name](images, np.array([m])) for m in (0, 1))
        assert np.abs(visible - thermal).max() > 1e-3, name


def test_an_unknown_modality_gives_nan_and_leaves_the_other_rows_alone(formats):
    images, modalities = batch([0, 1, 0])
    unknown = np.array([0, 2, 0])
    for name in LIMITS:
        known = formats[name](images, modalities)
        embeddings = formats[name](images, unknown)
        assert np.isnan(embeddings[1]).all(), name
        assert np.abs(embeddings[[0, 2]] - known[[0, 2]]).max() < 1e-6, name


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        {"MODEL__BACKBONE__WITH_IBN": True},
        {"MODEL__HEADS__GRANULARITIES": "('global',)"},
        {"MODEL__HEADS__LOCAL_WEIGHTS": "image", "MODEL__HEADS__TEST_ACCUMULATED": True},
        {"MODEL__HEADS__POOL_LAYER": "GeneralizedMeanPoolingP", "MODEL__HEADS__STRIPES": 4},
    ],
)
def test_other_networks_and_heads_export_too(keys, tmp_path):
    cfg = inference_config(tiny_config(**keys))
    network = read_network(cfg, Weights.read(save_checkpoint(tmp_path, **keys)))
    write_onnx(trace(EmbeddingGraph(network), *SIZE), tmp_path / "model.onnx")
    images, modalities = batch([1, 0, 0])
    expected = by_training_network(network)(images, modalities)
    got = by_onnxruntime(tmp_path / "model.onnx")(images, modalities)
    assert np.abs(got - expected).max() <= LIMITS["onnx"]


def test_the_onnx_contract(model_folder):
    model = onnx.load(model_folder / "model.onnx")
    onnx.checker.check_model(model)
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    size = read_model_folder(model_folder).embedding_size
    assert shapes == {
        "images": ["batch", *SIZE, 3],
        "modalities": ["batch"],
        "embeddings": ["batch", size],
    }
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]


def test_files_hold_no_path_of_the_exporting_machine(model_folder):
    for file in ("model.onnx", "model.pt2"):
        content = (model_folder / file).read_bytes()
        assert b"site-packages" not in content, file
        assert b"cmemd/export" not in content, file


def test_an_unknown_format():
    with pytest.raises(
        InputError,
        match="--formats out of safetensors, torch-export, onnx, .*got tensorrt: leave",
    ):
        check_formats(["onnx", "tensorrt"])
    for formats, modalities in ((["onnx-nchw"], []), (["onnx"], ["thermal"])):
        with pytest.raises(InputError, match="--modality together with the formats onnx-nchw"):
            check_formats(formats, modalities)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    check_formats(["safetensors"])
    with pytest.raises(MissingDependencyError, match=r"onnxruntime.*cmemd\[export\]"):
        check_formats(["onnx"])


def test_a_model_of_8_bits_finds_each_image_as_the_whole_one_does(model_folder, tmp_path):
    probes = drawn_probes(*SIZE)
    write_int8(model_folder / "model.onnx", tmp_path / "model.int8.onnx", probes)
    assert [path.name for path in tmp_path.iterdir()] == ["model.int8.onnx"]
    few = probes.images[:16], probes.modalities[:16]
    whole = by_onnxruntime(model_folder / "model.onnx")(*few)
    eight = by_onnxruntime(tmp_path / "model.int8.onnx")(*few)
    assert (eight @ whole.T).argmax(axis=1).tolist() == list(range(16))
