"""Our evaluation, and ``cmemd score`` of the features that it saved."""

import json

import numpy as np
import pytest

from cmemd.cli.main import main
from cmemd.evaluation.results import read_per_query, read_results

DATASETS = {
    "SYSUMM01": ("sysu-all-1shot", "sysu-indoor-1shot", "sysu-all-10shot"),
    "RegDB": ("regdb-v2t", "regdb-t2v"),
    "LLCM": ("llcm-v2t-paper", "llcm-t2v-released", "llcm-v2t-full-gallery"),
}


def evaluated(train_net, dataset, folder, **keys):
    names = f"('{dataset}',)"
    status, error = train_net(
        "--eval-only",
        DATASETS__NAMES=names,
        DATASETS__TESTS=names,
        TEST__PROTOCOLS=DATASETS[dataset],
        TEST__SAVE_FEATURES=True,
        OUTPUT_DIR=folder,
        SEED=0,
        **keys,
    )
    assert (status, error) == (0, "")
    return read_results(folder / "results.json")


@pytest.mark.parametrize("dataset", DATASETS)
def test_they_give_the_same_results_file_but_for_provenance(
    train_net, datasets, tmp_path, capsys, dataset
):
    """Bit by bit, with flip, re-ranking and any metric; and compare puts them side by side."""
    splits = ["--splits", str(datasets / "SYSU-MM01/exp")] if dataset == "SYSUMM01" else []
    everything = {"TEST__FLIP__ENABLED": True, "TEST__RERANK__ENABLED": True}
    everything |= {"TEST__RERANK__K1": 7, "TEST__METRIC": "euclidean"}
    for number, keys in enumerate(({}, everything)):
        own = tmp_path / f"own-{number}"
        before = evaluated(train_net, dataset, own, **keys)
        again = tmp_path / f"scored-{number}" / "results.json"
        words = [word for name in DATASETS[dataset] for word in ("--protocol", name)]
        words += ["--features", str(own / "features.npz"), "--json", str(again), *splits]
        assert main(["score", *words]) == 0
        after = read_results(again)
        assert {**after, "run": 0, "versions": 0} == {**before, "run": 0, "versions": 0}
        assert len(after["scores"]) == len(DATASETS[dataset]) * (4 if keys else 1)
        for one, other in zip(
            read_per_query(own / "results.json", before),
            read_per_query(again, after),
            strict=True,
        ):
            assert all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)
        out, err = capsys.readouterr()
        assert err == ""
        assert f" {after['scores'][0]['metric']} " in out
        assert main(["compare", str(own / "results.json"), str(again)]) == 0
        out = capsys.readouterr().out
        assert out.count("Difference") == len(after["scores"])
        assert "+0.00 [+0.00, +0.00]" in out


def test_defaults_are_the_same_and_said(train_net, tmp_path, capsys):
    """Metric and flip; without --splits, the other gallery sampling is said on stderr."""
    before = evaluated(train_net, "SYSUMM01", tmp_path / "own")["scores"][0]
    features = str(tmp_path / "own/features.npz")
    words = ["score", "--protocol", "sysu-all-1shot", "--features", features]
    assert main([*words, "--json", str(tmp_path / "r.json")]) == 0
    after = json.loads((tmp_path / "r.json").read_text())["scores"][0]
    assert (after["metric"], after["flip"]) == (before["metric"], before["flip"])
    assert (before["draw"], after["draw"]) == ("official", "python")
    assert "warning: the evaluation that saved these features used the official" in (
        capsys.readouterr().err
    )
