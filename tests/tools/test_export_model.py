"""tools/export_model.py as a user runs it, on tiny networks."""

import json
import runpy
import sys

import cmemd.plugin  # noqa: F401  before torch and fastreid

import numpy as np
import pytest
import torch
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from tests.conftest import CONFIGS, REPOSITORY
from tests.export.conftest import options, save_checkpoint, tiny_config

from cmemd.data.build import build_dataset, train_dataset
from cmemd.engine.provenance import training_record
from cmemd.engine.record import RECORD
from cmemd.evaluation.results import read_results
from cmemd.export import folder
from cmemd.export.formats import by_onnxruntime
from cmemd.export.images import drawn_probes
from cmemd.inference.model_folder import read_model_folder


@pytest.fixture(scope="module")
def checkpoint(datasets, tmp_path_factory):
    """A tiny checkpoint that says that it was trained on the stand-in SYSU-MM01."""
    path = save_checkpoint(tmp_path_factory.mktemp("trained"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(datasets))
        cfg = tiny_config()
        record = training_record(cfg, build_dataset(cfg, train_dataset(cfg)))
    stored = torch.load(path, weights_only=True)
    recorded = path.with_name("recorded.pth")
    torch.save({**stored, RECORD: record.state_dict()}, recorded)
    return recorded


@pytest.fixture
def export(checkpoint, datasets, tmp_path, monkeypatch, capsys):
    """Run the tool in this process: (exit status, stdout, stderr); safetensors by default."""

    def run(*words, weights=checkpoint, config=CONFIGS / "demo.yml", **keys):
        argv = ["export_model.py", "--config-file", str(config), "--weights", str(weights)]
        if "--formats" not in words:
            words = ("--formats", "safetensors", *words)
        argv += [*words, "--output", str(tmp_path / "models/tiny"), *options(**keys)]
        monkeypatch.setattr(sys, "argv", argv)
        capsys.readouterr()
        try:
            runpy.run_path(str(REPOSITORY / "tools/export_model.py"), run_name="__main__")
        except SystemExit as end:
            return end.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    return run


def refused(export, tmp_path, *words, **keys):
    """The one line that the tool ends with; it must have left nothing behind."""
    status, _, message = export(*words, **keys)
    assert status == 2
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert not list((tmp_path / "models").glob("*"))
    assert not list((tmp_path / "models").glob(".*"))
    return message


def test_writes_a_folder_that_says_what_it_is(export, tmp_path):
    status, report, _ = export()
    assert status == 0
    assert "compared on 32 test images of SYSUMM01" in report
    assert "equal" in report
    model = read_model_folder(tmp_path / "models/tiny")
    document = model.document
    assert (model.height, model.width) == (64, 32)
    assert document["training"]["dataset"] == "sysumm01 (drawn stand-in)"
    assert document["training"]["identities"] == 16  # 20 people, a fifth of them for testing
    assert "Apache-2.0" in document["training"]["licence"]
    assert document["results"] is None
    visible, thermal = (document["channel_statistics"][m] for m in ("visible", "thermal"))
    # 16 training identities of 2 images a camera, few of them absent: four and two cameras
    assert 67 < visible["images"] <= 128
    assert 40 < thermal["images"] <= 64
    assert visible["chroma"][0] > thermal["chroma"][2]
    assert sorted(document["files"]) == [
        *("README.md", "reid_config.json", "test_thermal.png", "test_vector.json"),
        *("test_visible.png", "weights.safetensors"),
    ]
    assert str(tmp_path) not in json.dumps(document)
    card = (tmp_path / "models/tiny/README.md").read_text()
    assert "sysumm01 (drawn stand-in)" in card
    assert "No results came with the weights" in card
    assert "from cmemd import Predictor" in card


def test_without_a_data_set_people_are_drawn_and_statistics_left_out(export, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "nowhere"))
    status, report, _ = export()
    assert status == 0
    assert "32 drawn people" in report
    document = read_model_folder(tmp_path / "models/tiny").document
    assert document["channel_statistics"] is None
    assert document["training"]["licence"].startswith("SYSU-MM01's agreement")


def test_statistics_come_from_no_people_but_the_trainings(export, tmp_path):
    assert export(DATASETS__SYSUMM01__TRAIN_WITH_VAL=False)[0] == 0
    assert read_model_folder(tmp_path / "models/tiny").document["channel_statistics"] is None


def test_the_results_of_these_weights_come_along(train_net, export, tmp_path):
    assert train_net()[0] == 0
    weights = tmp_path / "out/model_final.pth"
    status, _, _ = export(weights=weights, INPUT__SIZE_TEST=[32, 16])
    assert status == 0
    results = read_model_folder(tmp_path / "models/tiny").document["results"]
    assert results["scores"] == read_results(tmp_path / "out/results.json")["scores"]
    assert results["run"]["checkpoint"]["file"] == "model_final.pth"
    assert "sysu-all-1shot" in (tmp_path / "models/tiny/README.md").read_text()


@pytest.mark.slow
def test_variants_and_scores(export, tmp_path, monkeypatch):
    file, write_int8 = folder.VARIANTS["int8"]
    calibrated_on = []

    def noticed(source, path, typical):
        calibrated_on.append(typical.source)
        write_int8(source, path, typical)

    monkeypatch.setitem(folder.VARIANTS, "int8", (file, noticed))
    words = ["--formats", "torch-export", "onnx", "--half", "--int8", "--evaluate"]
    status, report, _ = export(*words)
    assert status == 0
    assert calibrated_on == ["training images"]
    document = read_model_folder(tmp_path / "models/tiny").document
    assert {"model.pt2", "model.onnx", "model.fp16.onnx", "model.int8.onnx"} < set(
        document["files"]
    )
    size = {name: facts["bytes"] for name, facts in document["files"].items()}
    assert size["model.int8.onnx"] < size["model.fp16.onnx"] < size["model.onnx"]
    assert document["results"]["scores"][0]["protocol"] == "sysu-all-1shot"
    rows = {line.split()[0]: line.split() for line in report.splitlines() if line}
    assert float(rows["half"][2]) > 0.999
    probes = drawn_probes(64, 32)
    full, eight = (
        by_onnxruntime(tmp_path / "models/tiny" / file)(probes.images, probes.modalities)
        for file in ("model.onnx", "model.int8.onnx")
    )
    assert (eight @ full.T).argmax(axis=1).tolist() == list(range(len(full)))
    for variant in ("half", "int8"):
        assert abs(float(rows[variant][-1])) <= 100
    assert not list((tmp_path / "models/tiny").glob("*.fused*"))


def test_a_model_that_differs_leaves_no_folder(export, tmp_path, monkeypatch):
    by_weights = folder.by_weights

    def changed(*args):
        embed = by_weights(*args)
        return lambda images, modalities: embed(images, modalities) + np.float32(2e-5)

    monkeypatch.setattr(folder, "by_weights", changed)
    message = refused(export, tmp_path)
    assert "expected the safetensors model to embed as the training network does" in message


def test_an_interruption_leaves_no_folder(export, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "model_card", interrupted)
    status, _, message = export()
    assert (status, message) == (130, "stopped by SIGINT\n")
    assert not list((tmp_path / "models").iterdir())


def test_an_existing_folder_is_left_alone(export, tmp_path):
    kept = tmp_path / "models/tiny/kept.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("kept")
    status, _, message = export()
    assert status == 2
    assert "expected a new folder as --output" in message
    assert kept.read_text() == "kept"


def test_an_output_that_cannot_be_written(export, tmp_path):
    (tmp_path / "models").write_text("a file in the way")
    status, _, message = export()
    assert status == 2
    assert f"expected to write {tmp_path}/models/tiny, got " in message


def test_bad_input(export, tmp_path):
    for words, keys, message in (
        (["--formats", "tflite"], {}, "expected --formats out of safetensors"),
        (["--half"], {}, "add onnx to --formats"),
        (["--int8"], {}, "add onnx to --formats"),
        (["--evaluate"], {"DATASETS__TESTS": "()"}, "expected one data set in DATASETS.TESTS"),
        ([], {"INPUT__CROP__ENABLED": True}, "INPUT.CROP.ENABLED False, got [64, 32] and True"),
        ([], {"INPUT__SIZE_TEST": [64]}, "INPUT.SIZE_TEST two whole numbers"),
        ([], {"MODEL__META_ARCHITECTURE": "Baseline"}, "MODEL.META_ARCHITECTURE as a registered"),
        ([], {"MODEL__HEADS__EMBEDDING_DIM": 16}, "another architecture"),
        ([], {"config": "nowhere.yml"}, "a configuration file at nowhere.yml"),
        ([], {"weights": "nowhere.pth"}, "checkpoint at nowhere.pth, got no file"),
        (["--agw", "max"], {}, "expected --agw out of average, gem, got max"),
        (["--agw", "gem"], {}, "expected weights of the AGW code at"),
    ):
        assert message in refused(export, tmp_path, *words, **keys), (words, keys)


def test_a_backbone_without_the_parts_of_a_graph(export, tmp_path, monkeypatch):
    monkeypatch.setitem(BACKBONE_REGISTRY._obj_map, "build_own", lambda cfg: torch.nn.Identity())
    message = refused(export, tmp_path, MODEL__BACKBONE__NAME="build_own")
    assert "got build_own, without stems, after_stems: give your" in message


def test_evaluating_without_the_data_set(export, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "nowhere"))
    assert "no such folder" in refused(export, tmp_path, "--evaluate")


def test_files_that_are_not_weights(export, tmp_path):
    path = tmp_path / "cut.pth"
    for content in (b"", b"text"):
        path.write_bytes(content)
        found = refused(export, tmp_path, weights=path)
        assert "cut.pth, got a truncated or other file" in found, content
