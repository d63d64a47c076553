"""Protocols of one's own: their rules on galleries worked by hand, and loops as oracles."""

from dataclasses import replace

import numpy as np
import pytest
from tests.cases import cases

from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.evaluation.det import draw_scores
from cmemd.evaluation.open_set import TOP, OperatingPoint, det_curve, operating_points
from cmemd.evaluation.own_samples import check_disjoint, own_samples
from cmemd.evaluation.protocols import Options, Protocol, get_protocols, with_options
from cmemd.evaluation.results import Column, read_results, results_document, write_results
from cmemd.evaluation.samples import Samples
from cmemd.evaluation.sampling import check_scorable, sample_trials
from cmemd.evaluation.scoring import Reranking, score
from cmemd.evaluation.searches import OpenSetScores
from cmemd.evaluation.tables import format_open_set, format_table


def own(**options: object) -> Protocol:
    return with_options(get_protocols(["own-t2v"]), Options(**options))[0]


def line(rows) -> Samples:
    """Samples on a line, from rows (identity, camera, thermal, place, time, tracklet, role)."""
    pids, camids, thermal, places, times, tracklets, roles = zip(*rows, strict=True)
    return Samples(
        features=np.array(places, dtype=float)[:, None],
        pids=np.array(pids),
        camids=np.array(camids),
        modalities=np.array(thermal).astype(int),
        frames=np.arange(len(pids)),
        paths=np.array([f"{row}.png" for row in range(len(pids))]),
        roles=np.array(roles),
        times=np.array(times, dtype=float),
        tracklets=np.array(tracklets),
    )


# A thermal query of person 1 at 0, camera 1, second 100, tracklet a. The gallery from near to far:
GALLERY = [
    (1, 1, False, 1, 100, "a", "gallery"),  # its own tracklet
    (2, 1, False, 2, 101, "", "gallery"),
    (1, 1, False, 3, 150, "b", "gallery"),  # its own camera
    (2, 2, False, 4, 500, "c", "gallery"),
    (3, 2, False, 5, 102, "c", "gallery"),
    (1, 2, False, 6, 130, "a", "gallery"),  # another camera's tracklet of that name
]
SAMPLES = line([(1, 1, True, 0, 100, "a", "query"), *GALLERY])


@cases(
    ("options", "rank", "ap"),
    [
        ({}, 1, (1 / 1 + 2 / 3 + 3 / 6) / 3),
        ({"ignore_same_tracklet": True}, 2, (1 / 2 + 2 / 5) / 2),
        ({"ignore_same_camera": True}, 3, 1 / 4),  # identities 2 and 3 come first
        ({"ignore_same_camera": True, "cmc": "images"}, 4, 1 / 4),
        ({"within": 30}, 1, (1 / 1 + 2 / 4) / 2),  # left: places 1, 2, 5, 6
        ({"within": 30, "ignore_same_camera": True}, 3, 1 / 3),  # left: 2, 5, 6
    ],
)
def test_rules_remove_gallery_images_as_worked_by_hand(options, rank, ap):
    found = score(SAMPLES, own(**options))
    assert [found.mean()[f"rank{n}"] for n in (1, 5)] == [rank == 1, rank <= 5]
    assert found.mean()["mAP"] == pytest.approx(ap)


def test_trials_take_one_image_per_identity_and_camera_and_follow_the_seed():
    rows = [
        (p, c, False, 10 * p + i, 0, "", "gallery")
        for p in (1, 2)
        for c in (1, 2)
        for i in range(6)
    ]
    samples = line([(1, 3, True, 0, 0, "", "query"), *rows])
    chosen = {}
    for seed in (0, 1):
        trials = sample_trials(samples, own(trials=4, seed=seed))
        again = sample_trials(samples, own(trials=4, seed=seed))
        chosen[seed] = [trial.gallery.tolist() for trial in trials]
        assert chosen[seed] == [trial.gallery.tolist() for trial in again]
        for trial in trials:
            pairs = list(
                zip(samples.pids[trial.gallery], samples.camids[trial.gallery], strict=True)
            )
            assert pairs == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert len({tuple(gallery) for of_seed in chosen.values() for gallery in of_seed}) > 4


def test_results_carry_the_name_and_the_rules(tmp_path):
    protocol = own(name="Harbour", trials=3, seed=7, within=60.0)
    samples = line([(1, 1, True, 0, 0, "", "query"), (1, 2, False, 1, 1, "", "gallery")])
    columns = [Column(score(samples, protocol), None)]
    write_results(results_document(columns), tmp_path / "r.json", columns, samples)
    entry = read_results(tmp_path / "r.json")["scores"][0]
    assert entry["description"] == "Harbour: thermal query, visible gallery"
    assert entry["trials"] == 3
    assert entry["rules"] == {
        "seed": 7, "ignore_same_camera": False, "ignore_same_tracklet": False, "within": 60.0,
    }  # fmt: skip
    assert "own-t2v (seed 7, within 60)" in format_table({"scores": [entry]})


# ---- open set


def crowd(people: int = 30, known: int = 20, seed: int = 0) -> Samples:
    """Several thermal queries of each person; only some people are in the gallery."""
    generator = np.random.default_rng(seed)
    places = generator.normal(size=(people, 3))
    rows = []
    for person in range(people):
        rows += [(person, 1, True, "query")] * 3
        rows += [(person, 2, False, "gallery")] * 2 * (person < known)
    pids, camids, thermal, roles = zip(*rows, strict=True)
    features = places[list(pids)] + generator.normal(scale=0.5, size=(len(pids), 3))
    return Samples(
        features=features,
        pids=np.array(pids),
        camids=np.array(camids),
        modalities=np.array(thermal).astype(int),
        frames=np.arange(len(pids)),
        paths=np.array([f"{row}.png" for row in range(len(pids))]),
        roles=np.array(roles),
    )


def test_open_set_rates_equal_a_plain_loop():
    samples = crowd()
    for metric in ("euclidean", "cosine"):
        found = score(samples, own(), distance=metric)
        gallery = [g for g, role in enumerate(samples.roles) if role == "gallery"]
        best, mates = [], []
        for query in (q for q, role in enumerate(samples.roles) if role == "query"):
            a = samples.features[query]
            scores = []
            for g in gallery:
                b = samples.features[g]
                cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
                scores.append(cosine if metric == "cosine" else -np.linalg.norm(a - b))
            mine = [
                s
                for s, g in zip(scores, gallery, strict=True)
                if samples.pids[g] == samples.pids[query]
            ]
            if mine:
                rank = 1 + sum(
                    s > max(mine) and samples.pids[g] != samples.pids[query]
                    for s, g in zip(scores, gallery, strict=True)
                )
                mates.append((max(mine), rank))
            else:
                best.append(max(scores))
        for point in operating_points(found.open_set, found.open_set_pids, (0.1, 0.5)):
            threshold = next(
                t for t in sorted(best) if np.mean([b > t for b in best]) <= point.rate + 1e-12
            )
            assert point.threshold == pytest.approx(threshold)
            assert point.fpir == np.mean([b > threshold for b in best])
            assert point.fnir == pytest.approx(
                np.mean([s <= threshold or rank > TOP for s, rank in mates])
            )
            low, high = point.fnir_interval
            assert low <= point.fnir <= high


def test_a_rate_below_one_false_positive_has_no_threshold():
    found = score(crowd(), own())  # 30 non-mated queries
    none, some = operating_points(found.open_set, found.open_set_pids, (0.01, 0.1))
    assert none == OperatingPoint(0.01)
    assert some.fpir == pytest.approx(0.1)


def test_open_set_metrics_only_where_queries_lack_a_gallery_identity():
    assert score(crowd(known=30), own()).open_set is None
    assert score(crowd(), own(), reranking=Reranking(5, 2, 0.3)).open_set is None


def test_det_curve_by_hand_and_monotone():
    # Best scores of two unknown probes .2 and .6; mates of three known ones .1, .5, .9.
    scores = OpenSetScores(
        np.array([0.2, 0.6, 0.1, 0.5, 0.9]),
        np.array([-np.inf, -np.inf, 0.1, 0.5, 0.9]),
        np.array([1, 1, 1, 1, 1]),
    )
    fpir, fnir = det_curve(scores)  # thresholds -inf, .1, .2, .5, .6, .9
    np.testing.assert_allclose(fpir, [1, 1, 0.5, 0.5, 0, 0])
    np.testing.assert_allclose(fnir, np.array([0, 1, 1, 2, 2, 3]) / 3)
    found = score(crowd(), own()).open_set
    fpir, fnir = det_curve(found)
    assert (np.diff(fpir) <= 0).all()
    assert (np.diff(fnir) >= 0).all()


def test_a_query_that_is_no_number_is_never_an_open_set_success():
    samples = crowd()
    queries = np.flatnonzero(samples.roles == "query")
    for row in (queries[0], queries[-1]):  # a mated one and a non-mated one
        features = samples.features.copy()
        features[row] = np.nan
        bad = score(replace(samples, features=features), own()).open_set
        place = list(queries).index(row)
        if bad.mated[place]:
            assert bad.mate[place] == np.finfo(float).min
        else:
            assert bad.best[place] == np.inf


def test_results_and_picture_of_open_set_searches(tmp_path):
    found = score(crowd(), own(name="Harbour"))
    columns = [Column(found, None)]
    write_results(results_document(columns), tmp_path / "r.json")
    document = read_results(tmp_path / "r.json")
    assert document["scores"][0]["open_set"]["non_mated"] == 30
    assert "non-mated" in format_open_set(document).lower()
    assert draw_scores([found], "Harbour", tmp_path / "det.png")
    assert (tmp_path / "det.png").read_bytes().startswith(b"\x89PNG")
    assert not draw_scores([score(crowd(known=30), own())], "", tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


# ---- embeddings as samples, and bad input


def embeddings(*rows, model: str = "m") -> dict[str, np.ndarray]:
    """Columns from rows (path, modality, identity, camera, time)."""
    paths, modalities, identities, cameras, times = zip(*rows, strict=True)
    generator = np.random.default_rng(0)
    vectors = {path: generator.normal(size=4).astype(np.float32) for path in sorted(paths)}
    return {
        "vector": np.array([vectors[path] for path in paths]),
        "path": np.array(paths),
        "modality": np.array(modalities),
        "identity": np.array(identities),
        "camera": np.array(cameras),
        "time": np.array(times),
        "tracklet": np.full(len(paths), ""),
        "model": np.full(len(paths), model),
    }


QUERIES = embeddings(("/q.png", "thermal", "ann", "", "1970-01-01T00:01:00+00:00"))
ROWS = embeddings(("/g.png", "visible", "ann", "north", ""), ("/h.png", "visible", "bob", "", "5"))


def test_texts_become_numbers_in_the_order_of_names():
    samples = own_samples(QUERIES, ROWS)
    assert samples.pids.tolist() == [1, 1, 2]
    assert samples.camids.tolist() == [2, 1, 3]  # north, thermal, visible
    assert samples.modalities.tolist() == [Modality.THERMAL, Modality.VISIBLE, Modality.VISIBLE]
    assert samples.roles.tolist() == ["query", "gallery", "gallery"]
    np.testing.assert_array_equal(samples.times, [60, np.nan, 5])


def test_an_image_of_both_sides_is_there_once():
    both = own_samples(ROWS, ROWS)
    assert both.roles.tolist() == ["test", "test"]


@cases(
    ("queries", "gallery", "message"),
    [
        (QUERIES, {**ROWS, "model": np.array(["n", "n"])}, "embeddings of one model"),
        ({**QUERIES, "identity": np.array([""])}, ROWS, "an identity for every image of the que"),
        (QUERIES, {**ROWS, "identity": np.array(["ann", ""])}, "identity for every image of the g"),
        (QUERIES, {k: v[:0] for k, v in ROWS.items()}, "expected embeddings as gallery"),
        (QUERIES, {k: v[[0, 0]] for k, v in ROWS.items()}, "each image of the gallery once"),
        (ROWS, {**ROWS, "camera": np.array(["x", "y"])}, "another camera for /g.png"),
        ({**QUERIES, "time": np.array(["noon"])}, ROWS, "a time such as"),
    ],
)
def test_sides_that_do_not_fit_are_refused(queries, gallery, message):
    with pytest.raises(InputError, match=message):
        own_samples(queries, gallery)


def test_validation_people_are_not_under_test():
    with pytest.raises(InputError, match="1 that are, such as 'bob'"):
        check_disjoint(embeddings(("/v.png", "visible", "bob", "", "")), QUERIES, ROWS)


def check(samples: Samples, protocol) -> None:
    check_scorable(samples, protocol, sample_trials(samples, protocol))


@cases(
    ("rows", "options", "message"),
    [
        (GALLERY, {}, "thermal queries for own-t2v, got 6 .*visible and 0 thermal"),
        ([(1, 1, True, 0, 0, "", "query")], {}, "gallery images for own-t2v"),
        ([(1, 1, True, 0, 0, "", "gallery"), *GALLERY], {}, "thermal queries .*none of them for"),
        ([(1, 1, True, 0, np.nan, "", "query"), *GALLERY], {"within": 5}, "a time of each image"),
        (
            [(1, 1, True, 0, 0, "", "query"), (1, 1, False, 1, 0, "", "gallery")],
            {"ignore_same_tracklet": True},
            "no image with a tracklet",
        ),
        (
            [
                (1, 1, True, 0, 0, "", "query"),
                (1, 1, True, 0, 9999, "", "query"),
                (1, 2, False, 0, 1, "", "gallery"),
            ],
            {"within": 5},
            "a gallery image for each query of own-t2v after within, got none for 1 of 2, such as",
        ),
        ([(9, 1, True, 0, 0, "", "query"), *GALLERY], {}, "a query whose identity is in the gal"),
    ],
)
def test_samples_that_a_protocol_cannot_use_are_refused(rows, options, message):
    with pytest.raises(InputError, match=message):
        check(line(rows), own(**options))


def test_samples_without_times_are_refused_for_a_window():
    with pytest.raises(InputError, match="none for 7 of 7"):
        check(replace(SAMPLES, times=None), own(within=5.0))


@cases(
    ("names", "options", "message"),
    [
        (["own-t2v"], {"trials": -1}, "trials of at least 0"),
        (["own-t2v"], {"seed": -1}, "a seed of at least 0"),
        (["own-t2v"], {"within": float("nan")}, "a time window"),
        (["own-t2v"], {"cmc": "people"}, "a CMC over identities or images, got 'people'"),
        (["own-t2v"], {"fpir": (1.0,)}, "rates of false positives"),
        (["own-t2v"], {"fpir": ()}, "rates of false positives"),
        (["own-mixed"], {"ratio": 1.5}, "a ratio from 0 to 1"),
        (["own-t2v"], {"ratio": 0.2}, "a ratio for mixed protocols only"),
        (["regdb-v2t"], {"cmc": "identities", "within": 3.0}, "within for protocols of one's own"),
        (["sysu-mixed"], {"name": "x"}, "name for protocols of one's own"),
    ],
)
def test_options_that_cannot_work_are_refused(names, options, message):
    with pytest.raises(InputError, match=message):
        with_options(get_protocols(names), Options(**options))
