import importlib.util
import re
import sys

import numpy as np
import pytest
from tests.inference.one_matrix import document, expected_embeddings, noise
from tests.inference.refusal import refusal

from cmemd.data.modality import Modality
from cmemd.errors import InputError, MissingDependencyError
from cmemd.inference import backends
from cmemd.inference.backends import OnnxBackend, TorchBackend, open_backend
from cmemd.inference.model_folder import read_model_folder, write_model_document


@pytest.mark.parametrize("backend", [OnnxBackend, TorchBackend])
def test_embeddings_are_the_networks(backend, torch_model):
    embed = backend(read_model_folder(torch_model))
    for images in (1, 2, 3, 17):
        for modality in Modality:
            found = embed(noise(images), modality)
            assert (found.shape, found.dtype) == ((images, 5), np.float32)
            np.testing.assert_allclose(
                found, expected_embeddings(noise(images), modality), atol=2e-6, err_msg=str(images)
            )


def test_auto_prefers_onnx_and_takes_what_there_is(torch_model, model, monkeypatch):
    both = read_model_folder(torch_model)
    assert isinstance(open_backend(both), OnnxBackend)
    assert isinstance(open_backend(both, runtime="torch"), TorchBackend)
    find = importlib.util.find_spec
    with monkeypatch.context() as patch:
        patch.setattr(
            importlib.util, "find_spec", lambda n, *a: None if n == "onnxruntime" else find(n, *a)
        )
        assert isinstance(open_backend(both), TorchBackend)
        # A folder without a program has to complain of the missing package.
        patch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(MissingDependencyError, match=r"pip install 'cmemd\[serve\]'"):
            open_backend(read_model_folder(model))
    (model / "model.onnx").rename(model / "graph.onnx")
    neither = write_model_document(model, document())
    with pytest.raises(InputError, match=r"expected model\.onnx in"):
        open_backend(neither)


def test_a_missing_torch_is_named(torch_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match="torch to run model.pt2"):
        open_backend(read_model_folder(torch_model), runtime="torch")


def test_other_precisions_are_other_files(model):
    (model / "model.onnx").rename(model / "model.int8.onnx")
    folder = write_model_document(model, document())
    found = open_backend(folder, precision="int8")(noise(2), Modality.THERMAL)
    np.testing.assert_allclose(found, expected_embeddings(noise(2), 1), atol=2e-6)
    with pytest.raises(InputError, match=r"expected model\.fp16\.onnx"):
        open_backend(folder, precision="float16")


def test_unknown_runtimes_precisions_and_devices_are_refused(torch_model):
    import onnxruntime
    import torch

    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    folder = read_model_folder(torch_model)
    for options, message in (
        ({"runtime": "tensorrt"}, "a runtime out of auto, onnx, torch, got 'tensorrt': name"),
        ({"precision": "int4"}, "a precision out of float32, float16, int8, got 'int4': name"),
        ({"runtime": "torch", "precision": "int8"}, "float32 with runtime torch, got 'int8': use"),
        ({"device": "gpu"}, "device that ONNX Runtime has here .*, got 'gpu': use cpu"),
        ({"device": "cuda"}, "device that ONNX Runtime has here .*, got 'cuda': use cpu"),
        ({"device": "gpu", "runtime": "torch"}, "device that PyTorch has here, got 'gpu' .*: use"),
        ({"device": "cuda", "runtime": "torch"}, "that PyTorch has here, got 'cuda' .*: use cpu"),
    ):
        if options.get("device") == "cuda" and (has_cuda or torch.cuda.is_available()):
            continue
        found = refusal(open_backend, folder, **options)
        assert re.search(message, found), options
        assert "\n" not in found, options


def test_a_file_that_is_not_a_graph_is_refused(model):
    (model / "model.onnx").write_bytes(b"no graph")
    folder = write_model_document(model, document())
    with pytest.raises(InputError, match="ONNX Runtime can run in .*model.onnx"):
        open_backend(folder)


def test_a_graph_may_not_read_files_outside(model, tmp_path):
    import onnx
    from tests.inference.one_matrix import WEIGHT

    (tmp_path / "secret.bin").write_bytes(WEIGHT.tobytes())
    graph = onnx.load(model / "model.onnx")
    tensor = graph.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    (model / "model.onnx").write_bytes(graph.SerializeToString())
    folder = write_model_document(model, document())
    with pytest.raises(InputError, match="ONNX Runtime can run"):
        open_backend(folder)


def test_after_some_small_batches_a_second_session_gives_the_same(shared_model, monkeypatch):
    opened, session = [], backends._session

    def counted(*args, spins):
        opened.append(spins)
        return session(*args, spins=spins)

    monkeypatch.setattr(backends, "_session", counted)
    embed = OnnxBackend(read_model_folder(shared_model))
    large = embed(noise(17), Modality.VISIBLE)
    for call in range(2 * backends._SETTLED):
        assert opened == ([False, True] if call > backends._SETTLED else [False]), call
        single = embed(noise(17)[:1], Modality.VISIBLE)
        np.testing.assert_allclose(single[0], large[0], atol=2e-6)
    np.testing.assert_array_equal(embed(noise(17), Modality.VISIBLE), large)
    monkeypatch.setattr(backends, "_SPIN_FROM", (10**6, 0))
    embed = OnnxBackend(read_model_folder(shared_model))
    for _ in range(2 * backends._SETTLED):
        embed(noise(1), Modality.VISIBLE)
    assert opened == [False, True, False]
