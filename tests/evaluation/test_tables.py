import copy

import numpy as np
import pytest

from cmemd.errors import InputError
from cmemd.evaluation.protocols import get_protocol
from cmemd.evaluation.results import Column, results_document
from cmemd.evaluation.scoring import METRICS, score_all
from cmemd.evaluation.tables import format_comparison, format_counts, format_table


@pytest.fixture(scope="module")
def document(random_samples):
    protocols = [get_protocol("sysu-indoor-1shot"), get_protocol("sysu-all-1shot")]
    scores = score_all(random_samples(0), protocols)
    return results_document([Column(score, flip=False) for score in scores.values()])


def changed(document, **values):
    other = copy.deepcopy(document)
    for entry in other["scores"]:
        entry.update(values)
    return other


def test_table_shows_mean_and_spread_and_how(document):
    entry = document["scores"][1]
    lines = format_table(document).splitlines()
    assert lines[0].split()[:5] == ["Protocol", "Draw", "Metric", "Flip", "Re-ranking"]
    assert lines[0].split()[5:] == ["Rank-1", "Rank-5", "Rank-10", "Rank-20", "mAP", "mINP"]
    assert len(lines) == 4
    assert lines[3].split()[:5] == ["sysu-all-1shot", "python", "euclidean", "off", "off"]
    assert f"{entry['mean']['mAP']:.2f} ± {entry['std']['mAP']:.2f}" in lines[3]


def test_flip_and_reranking_are_labelled(document):
    for values, shown in (
        ({"flip": True}, ["on", "off"]),
        ({"flip": None}, ["unknown", "off"]),
        ({"reranking": {"k1": 20, "k2": 6, "weight": 0.3}}, ["off", "k1=20", "k2=6", "weight=0.3"]),
    ):
        line = format_table(changed(document, **values)).splitlines()[3]
        assert line.split()[3 : 3 + len(shown)] == shown, values


def test_counts_are_shown(document):
    # Eight people, two cameras: of 16 pairs (3, 2), (4, 1) and (8, 2) have no image.
    lines = format_counts(document).splitlines()
    assert "queries without positive" in lines[0]
    assert lines[2].split() == ["sysu-indoor-1shot", "39", "3", "13", "0", "0", "3"]


def test_each_way_of_scoring_has_a_table_of_its_own(document):
    alone = document | {"scores": document["scores"][1:]}
    text = format_comparison({"1e5": document, "b": alone})
    indoor, everywhere = text.split("\n\n")
    assert indoor.startswith("sysu-indoor-1shot: draw python, metric euclidean, flip off")
    assert [line.split()[0] for line in indoor.splitlines()[3:]] == ["1e5"]
    assert [line.split()[0] for line in everywhere.splitlines()[3:5]] == ["1e5", "b"]
    assert everywhere.splitlines()[-1].split()[:4] == ["b", "-", "1e5", "+0.00"]


def test_results_files_with_nothing_in_common_are_refused(document):
    for values in (
        {"draw": "official"},
        {"metric": "cosine"},
        {"flip": True},
        {"reranking": {"k1": 20, "k2": 6, "weight": 0.3}},
    ):
        with pytest.raises(InputError, match="share a protocol, draw, .* cannot be compared"):
            format_comparison({"a": document, "b": changed(document, **values)})


def test_one_results_file_needs_nothing_in_common(document):
    text = format_comparison({"a": document})
    assert "Difference" not in text
    assert "sysu-all-1shot" in text


def test_a_difference_has_an_interval_where_queries_metrics_were_saved(document):
    alone = document | {"scores": document["scores"][1:]}
    metrics = np.random.default_rng(0).uniform(0, 100, (6, 50)).astype(np.float32)
    queries = np.arange(150).reshape(50, 3)
    shifted = {"queries": queries, "metrics": metrics + 2}
    better = copy.deepcopy(alone)
    for name in METRICS:
        better["scores"][0]["mean"][name] = alone["scores"][0]["mean"][name] + 2
    per_query = {"a": [{"queries": queries, "metrics": metrics}], "b": [shifted]}
    last = format_comparison({"a": alone, "b": better}, per_query).splitlines()[-1]
    assert last.count("+2.00 [+2.00, +2.00]") == 6
    last = format_comparison({"a": alone, "b": better}, {"a": per_query["a"]}).splitlines()[-1]
    assert last.count("+2.00") == 6
    assert "[" not in last
