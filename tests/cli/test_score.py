import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cmemd.cli import score
from cmemd.cli.main import main
from cmemd.errors import InputError
from cmemd.evaluation.results import read_per_query, read_results

GOLDEN = Path(__file__).parents[1] / "golden"
SYSU, REGDB, LLCM = (GOLDEN / f"{name}_small" for name in ("sysu", "regdb", "llcm"))


def run(*words):
    parser = argparse.ArgumentParser()
    score.add_arguments(parser)
    return score.run(parser.parse_args([str(word) for word in words]))


def protocols(*names):
    return [word for name in names for word in ("--protocol", name)]


def test_the_official_metrics_come_out_as_a_table_and_a_results_file(tmp_path, capsys):
    features = ["--features", SYSU / "features.npz", "--splits", SYSU]
    names = protocols("sysu-all-1shot", "sysu-indoor-10shot")
    assert run(*names, *features, "--json", tmp_path / "r.json") == 0
    stored = read_results(tmp_path / "r.json")
    expected = json.loads((SYSU / "expected.json").read_text())
    for entry, setting in zip(stored["scores"], ("all_1shot", "indoor_10shot"), strict=True):
        assert entry["draw"] == "official"
        assert entry["mean"]["mAP"] == pytest.approx(100 * expected[setting]["map_mean"], abs=1e-4)
    assert stored["run"]["features"]["file"] == "features.npz"
    assert len(stored["run"]["features"]["sha256"]) == 64
    assert len(read_per_query(tmp_path / "r.json", stored)) == 2
    text = capsys.readouterr().out
    assert "sysu-indoor-10shot" in text
    assert "queries without positive" in text
    assert f"{stored['scores'][0]['mean']['rank1']:.2f} ±" in text


def test_without_splits_the_python_sampling_is_used_and_said(tmp_path):
    run(*protocols("sysu-all-1shot"), "--features", SYSU / "features.npz", "--json", tmp_path / "c")
    assert read_results(tmp_path / "c")["scores"][0]["draw"] == "python"


def test_regdb_and_llcm(tmp_path):
    run(
        *protocols("regdb-v2t", "regdb-t2v"),
        "--features",
        REGDB / "features.npz",
        "--json",
        tmp_path / "r",
    )
    expected = json.loads((REGDB / "expected.json").read_text())
    mean = read_results(tmp_path / "r")["scores"][1]["mean"]
    assert mean["mAP"] == pytest.approx(100 * expected["regdb_thermal_to_visible"]["mAP"], abs=1e-4)
    run(*protocols("llcm-v2t"), "--features", LLCM / "features.npz", "--json", tmp_path / "l")
    expected = json.loads((LLCM / "expected.json").read_text())["llcm_visible_to_thermal"]["mean"]
    entry = read_results(tmp_path / "l")["scores"][0]
    assert entry["protocol"] == "llcm-v2t-paper"
    assert entry["mean"]["mAP"] == pytest.approx(100 * expected["mAP"], abs=1e-4)


def test_reranking_is_a_row_of_its_own(tmp_path, capsys):
    words = [*protocols("regdb-v2t"), "--features", REGDB / "features.npz"]
    run(*words, "--rerank", "--json", tmp_path / "r")
    plain, reranked = read_results(tmp_path / "r")["scores"]
    assert plain["reranking"] is None
    assert reranked["reranking"] == {"k1": 20, "k2": 6, "weight": 0.3}
    assert plain["mean"] != reranked["mean"]
    capsys.readouterr()
    run(*words)
    assert "k1" not in capsys.readouterr().out


def test_the_metric_is_the_one_asked_for(tmp_path):
    words = [*protocols("regdb-v2t"), "--features", REGDB / "features.npz"]
    run(*words, "--metric", "cosine", "--json", tmp_path / "c")
    run(*words, "--json", tmp_path / "e")
    cosine, euclidean = (read_results(tmp_path / name)["scores"][0] for name in "ce")
    assert (cosine["metric"], euclidean["metric"]) == ("cosine", "euclidean")
    assert cosine["mean"] != euclidean["mean"]


def test_mistakes_are_told(tmp_path):
    features = dict(np.load(SYSU / "features.npz").items())
    np.savez(tmp_path / "f.npz", **features)
    del features["paths"]
    np.savez(tmp_path / "without_paths.npz", **features)
    one, ten, official = protocols("sysu-all-1shot"), protocols("sysu-all-10shot"), "official"
    for words, message in (
        (protocols("sysu-all"), "expected a protocol out of"),
        (protocols("sysu-all-1shot", "regdb-v2t"), "expected protocols of one data set"),
        (ten, "no rand_perm_cam.mat"),
        ([*one, "--draw", official], "expected rand_perm_cam.mat"),
        (
            [*one, "--draw", official, "--splits", REGDB],
            "expected rand_perm_cam.mat at .*regdb_small",
        ),
        ([*ten, "--draw", "python", "--splits", SYSU], "expected the official sampling"),
        (protocols("llcm-v2t"), ": add paths$"),
        (protocols("regdb-v2t"), ": add modality$"),
    ):
        name = "without_paths.npz" if words[1] == "llcm-v2t" else "f.npz"
        with pytest.raises(InputError, match=message):
            run(*words, "--features", tmp_path / name, "--json", tmp_path / "out.json")
        assert not (tmp_path / "out.json").exists(), words


def test_splits_of_another_data_set_are_refused(tmp_path):
    stored = dict(np.load(SYSU / "features.npz"))
    stored["pids"] = stored["pids"] + 1
    del stored["paths"]  # which name other identities
    np.savez(tmp_path / "f.npz", **stored)
    with pytest.raises(InputError, match="expected features of the test identities in .* only"):
        run(*protocols("sysu-all-1shot"), "--features", tmp_path / "f.npz", "--splits", SYSU)
    (tmp_path / "rand_perm_cam.mat").write_bytes((SYSU / "rand_perm_cam.mat").read_bytes())
    with pytest.raises(InputError, match="as rand_perm_cam.mat lists them"):
        run(*protocols("sysu-all-1shot"), "--features", tmp_path / "f.npz", "--splits", tmp_path)
    with pytest.raises(InputError, match="expected --splits for .* only, got regdb-v2t: leave"):
        run(*protocols("regdb-v2t"), "--features", REGDB / "features.npz", "--splits", SYSU)


def test_explicit_splits_must_be_there_and_have_what_is_read(tmp_path):
    words = [*protocols("sysu-all-1shot"), "--features", SYSU / "features.npz"]
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for splits, more, message in (
        ("/nonexistent", [], "SYSU-MM01's exp folder at --splits /nonexistent, got no such folder"),
        (tmp_path / "file", [], "got a file"),
        (tmp_path / "empty", [], "rand_perm_cam.mat at .*, got no file"),
        (tmp_path / "empty", ["--draw", "python"], "test_id.txt or test_id.mat in --splits"),
        ("/nonexistent", ["--draw", "python"], "got no such folder"),
    ):
        with pytest.raises(InputError, match=message):
            run(*words, "--splits", splits, *more)


def test_features_of_another_data_set_are_refused(tmp_path):
    """By the array layout, by paths, or by cameras; whatever arrays the protocol itself needs."""
    shapes = {"sysu": (SYSU, "sysu-all-1shot"), "regdb": (REGDB, "regdb-v2t")}
    shapes["llcm"] = LLCM, "llcm-v2t"
    for own, (folder, _) in shapes.items():
        arrays = dict(np.load(folder / "features.npz"))
        images = len(arrays["feats"])
        for name in ("pids", "camids", "frames", "modality"):
            arrays.setdefault(name, np.ones(images, dtype=np.int64))
        arrays.setdefault("paths", np.full(images, "Visible/1/a.bmp"))
        without = {name: array for name, array in arrays.items() if name != "paths"}
        for other, (_, protocol) in shapes.items():
            for case in (arrays, arrays | {"layout": own}, without | {"layout": own}):
                if other == own or (other == "llcm" and "paths" not in case):
                    continue
                np.savez(tmp_path / "f.npz", **case)
                with pytest.raises(InputError, match="expected features of .* for its protocols"):
                    run(*protocols(protocol), "--features", tmp_path / "f.npz")
    arrays = dict(np.load(SYSU / "features.npz"))
    del arrays["paths"]
    arrays["modality"] = np.isin(arrays["camids"], (3, 6)).astype(int)
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(InputError, match="expected one camera of each modality in camids"):
        run(*protocols("regdb-v2t"), "--features", tmp_path / "f.npz")


def test_labels_that_the_paths_contradict_are_refused(tmp_path):
    arrays = dict(np.load(SYSU / "features.npz"))
    for name in ("pids", "frames"):
        np.savez(tmp_path / "f.npz", **arrays | {name: arrays[name][::-1]})
        with pytest.raises(InputError, match="expected arrays of .* that agree with its paths"):
            run(*protocols("sysu-all-1shot"), "--features", tmp_path / "f.npz")


def test_what_the_file_says_of_its_evaluation_is_the_default(tmp_path, capsys, recwarn):
    arrays = dict(np.load(REGDB / "features.npz"))
    said = {"layout": "regdb", "metric": "cosine", "flip": 0, "reranking": [12, 5, 0.25]}
    np.savez(tmp_path / "f.npz", **arrays | said | {"feats_flip": arrays["feats"] + 1})
    words = [*protocols("regdb-v2t"), "--features", tmp_path / "f.npz", "--json", tmp_path / "r"]
    run(*words)
    scores = read_results(tmp_path / "r")["scores"]
    flips = [entry["flip"] for entry in scores]
    assert flips == [False, False, True, True]
    assert {type(flip) for flip in flips} == {bool}
    assert {entry["metric"] for entry in scores} == {"cosine"}
    assert scores[1]["reranking"] == {"k1": 12, "k2": 5, "weight": 0.25}
    run(*words, "--metric", "euclidean", "--no-rerank")
    scores = read_results(tmp_path / "r")["scores"]
    assert [(e["metric"], e["reranking"]) for e in scores] == [("euclidean", None)] * 2
    assert not recwarn
    for name, bad in (
        ("layout", "market"),
        ("metric", "manhattan"),
        ("metric", ["cosine", "cosine"]),
        ("flip", 2),
        ("draw", "lots"),
        ("reranking", [1, 2]),
        ("reranking", [1, 2, np.nan]),
        ("feats_flip", arrays["feats"][:, :1]),
        ("feats_flip", arrays["feats"].astype(int)),
    ):
        np.savez(tmp_path / "bad.npz", **arrays | {name: bad})
        with pytest.raises(InputError, match="expected .*(feats|features|" + name + ")"):
            run(*words[:3], tmp_path / "bad.npz")


def test_another_gallery_sampling_than_the_evaluations_is_told(tmp_path):
    np.savez(tmp_path / "f.npz", **dict(np.load(SYSU / "features.npz")) | {"draw": "official"})
    words = [*protocols("sysu-all-1shot"), "--features", tmp_path / "f.npz"]
    with pytest.warns(UserWarning, match="used the official gallery sampling, this score .*python"):
        run(*words)


def test_a_file_of_another_kind_is_not_overwritten(tmp_path):
    words = [*protocols("regdb-v2t"), "--features", REGDB / "features.npz", "--json"]
    mine = tmp_path / "notes.txt"
    mine.write_text("mine")
    beside = tmp_path / "r.per_query.npz"
    beside.write_text("mine")
    for path, message in (
        (mine, "got a file of another kind"),
        (tmp_path / "r.json", "got a file of another kind"),
        (tmp_path, "got a link, a folder or a device"),
        (mine / "r.json", "Not a directory"),
    ):
        with pytest.raises(InputError, match=message):
            run(*words, path)
    assert (mine.read_text(), beside.read_text()) == ("mine", "mine")
    assert sorted(tmp_path.iterdir()) == [mine, beside]
    for _ in range(2):  # its own results file is replaced
        run(*words, tmp_path / "new" / "r.json")


def test_a_user_sees_one_line(tmp_path, capsys):
    words = ["score", *protocols("regdb-v2t"), "--features", str(tmp_path / "none.npz")]
    with pytest.raises(SystemExit, match="2"):
        main(words)
    error = capsys.readouterr().err
    assert error.startswith("error: expected features at")
    assert error.count("\n") == 1


def test_scoring_needs_neither_torch_nor_fastreid():
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('torch', 'fastreid', 'yacs', 'cv2')))\n"
        "from cmemd.cli.main import main\n"
        "main(['score', '--protocol', 'regdb-v2t', '--features', sys.argv[1]])\n"
        "assert not {'scipy', 'matplotlib', 'jsonschema'} & set(sys.modules)\n"
    )
    words = [sys.executable, "-c", program, REGDB / "features.npz"]
    subprocess.run(words, check=True, capture_output=True)
