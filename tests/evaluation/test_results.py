import json

import jsonschema
import numpy as np
import pytest

import cmemd.evaluation.results as results_module
from cmemd.errors import InputError
from cmemd.evaluation.protocols import get_protocol
from cmemd.evaluation.results import (
    Column,
    read_per_query,
    read_results,
    results_document,
    write_results,
)
from cmemd.evaluation.scoring import METRICS, Reranking, score, score_all
from cmemd.version import __version__


@pytest.fixture(scope="module")
def samples(random_samples):
    return random_samples(0)


@pytest.fixture(scope="module")
def columns(samples):
    protocols = [get_protocol("sysu-indoor-1shot"), get_protocol("sysu-all-1shot")]
    return [Column(score, flip=False) for score in score_all(samples, protocols).values()]


@pytest.fixture
def document(columns):
    return results_document(columns, {"seed": 7})


def test_results_are_what_their_schema_says(document, samples):
    schema_file = results_module.__file__.replace("results.py", "results.schema.json")
    with open(schema_file) as file:
        schema = json.load(file)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema)
    assert (document["schema"], document["version"]) == ("cmemd-results", 1)
    assert [entry["protocol"] for entry in document["scores"]] == [
        "sysu-indoor-1shot",
        "sysu-all-1shot",
    ]
    reranked = score(samples, get_protocol("sysu-all-1shot"), reranking=Reranking(k1=5, k2=2))
    reranked = results_document([Column(reranked, flip=None)])
    jsonschema.validate(reranked, schema)
    assert reranked["scores"][0]["reranking"] == {"k1": 5, "k2": 2, "weight": 0.3}


def test_what_a_results_file_says(document):
    entry = document["scores"][1]
    assert set(entry["mean"]) == set(entry["std"]) == set(entry["per_trial"]) == set(METRICS)
    assert entry["trials"] == 10 == len(entry["per_trial"]["mAP"])
    how = ("draw", "metric", "cmc", "flip", "reranking")
    assert [entry[name] for name in how] == ["python", "euclidean", "identities", False, None]
    assert (entry["counts"]["queries"], entry["counts"]["gallery"]) == (39, 26)
    assert document["run"] == {"seed": 7}
    assert document["versions"]["cmemd"] == __version__
    assert document["versions"]["numpy"] == np.__version__


def test_metrics_are_percent_and_not_rounded(document, columns, tmp_path):
    write_results(document, tmp_path / "results.json")
    stored = read_results(tmp_path / "results.json")
    assert stored == document
    entry, result = stored["scores"][1], columns[1].score
    assert entry["mean"]["mAP"] == 100 * result.mean()["mAP"]
    assert entry["std"]["mINP"] == 100 * result.std()["mINP"]
    assert entry["mean"]["mAP"] != round(entry["mean"]["mAP"], 6)


def test_each_querys_metrics_are_beside_the_results_file(document, columns, samples, tmp_path):
    path = tmp_path / "a.json"
    write_results(document, path, columns, samples)
    stored = read_results(path)
    assert stored["per_query"] == "a.per_query.npz"
    of_scores = read_per_query(path, stored)
    assert len(of_scores) == 2
    for entry, queries in zip(stored["scores"], of_scores, strict=True):
        assert queries["queries"].shape == (39, 3)
        means = np.nanmean(queries["metrics"].astype(float), axis=1)
        np.testing.assert_allclose(means, [entry["mean"][name] for name in METRICS], rtol=1e-6)
    first = columns[0].score.query_rows[0]
    assert of_scores[0]["queries"][0].tolist() == [
        samples.pids[first],
        samples.camids[first],
        samples.frames[first],
    ]


def test_a_results_file_alone_has_no_querys_metrics(document, columns, samples, tmp_path):
    write_results(document, tmp_path / "a.json", columns, samples)
    (tmp_path / "a.per_query.npz").unlink()
    assert read_per_query(tmp_path / "a.json", read_results(tmp_path / "a.json")) == []
    assert read_per_query(tmp_path / "a.json", document) == []
    (tmp_path / "a.per_query.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="expected each query's metrics in .* got a damaged file"):
        read_per_query(tmp_path / "a.json", read_results(tmp_path / "a.json"))


def test_a_results_file_cannot_name_a_file_elsewhere(document, columns, samples, tmp_path):
    write_results(document, tmp_path / "a.json", columns, samples)
    stored = read_results(tmp_path / "a.json") | {"per_query": "../a.per_query.npz"}
    (tmp_path / "b").mkdir()
    assert read_per_query(tmp_path / "b" / "a.json", stored) == []


def test_writing_makes_the_folder_and_leaves_nothing_else(document, tmp_path):
    write_results(document, tmp_path / "new" / "results.json")
    write_results(document, tmp_path / "new" / "results.json")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["results.json"]


def test_a_failed_write_leaves_the_old_file(document, tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(InputError, match="choose another output folder"):
        write_results(document, path / "results.json")  # the folder is a file

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(InputError, match="No space left on device: choose another output folder"):
        write_results(document, path)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def broken(document, key, value):
    copy = json.loads(json.dumps(document))
    copy["scores"][1][key] = value
    return json.dumps(copy)


def test_other_files_are_refused(document, tmp_path):
    path = tmp_path / "results.json"
    for content, message in (
        (lambda _: "{", "expected JSON in .* got an unreadable file"),
        (lambda _: "[]", r"of version 1 in .* got a problem at \$: \[\] is not of type 'object'"),
        (lambda _: '{"protocols": {}}', "'schema' is a required property|not allowed"),
        (lambda d: json.dumps(d | {"version": 2}), r"at \$.version: 1 was expected"),
        (lambda d: broken(d, "mean", {"mAP": "high"}), r"at \$.scores\[1\].mean"),
        (lambda d: broken(d, "std", {}), r"at \$.scores\[1\].std"),
        (lambda d: broken(d, "draw", None), r"at \$.scores\[1\].draw"),
        (lambda d: broken(d, "draw", "lots"), r"at \$.scores\[1\].draw: 'lots' is not one of"),
    ):
        path.write_text(content(document))
        with pytest.raises(InputError, match=message):
            read_results(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="expected JSON"):
        read_results(path)
    path.unlink()
    with pytest.raises(InputError, match="No such file"):
        read_results(path)
