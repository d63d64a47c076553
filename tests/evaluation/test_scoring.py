from dataclasses import replace

import numpy as np
import pytest

from cmemd.errors import InputError
from cmemd.evaluation.draws import gallery_rows, query_rows
from cmemd.evaluation.protocols import PROTOCOLS, get_protocol
from cmemd.evaluation.ranking import score_queries
from cmemd.evaluation.samples import Samples
from cmemd.evaluation.scoring import FIGURES, distance_matrix, score, score_all

COLUMNS = ("features", "pids", "camids", "modalities", "frames", "paths")
TOLERANCE = 1e-6  # the golden figures are printed with ten digits, some come from float32


def take(samples, rows):
    return Samples(**{name: getattr(samples, name)[rows] for name in COLUMNS})


@pytest.fixture(scope="module")
def official(golden_samples, golden_perm):
    return score_all(golden_samples, list(PROTOCOLS.values()), "official", golden_perm)


@pytest.mark.parametrize("setting", ["all_1shot", "all_10shot", "indoor_1shot", "indoor_10shot"])
def test_official_figures_are_reproduced(official, golden_expected, setting):
    result = official["sysu-" + setting.replace("_", "-")]
    expected = golden_expected[setting]
    np.testing.assert_allclose(result.trials["mAP"], expected["map_trials"], atol=TOLERANCE)
    np.testing.assert_allclose(result.trials["rank1"], expected["rank1_trials"], atol=TOLERANCE)
    np.testing.assert_allclose(
        [result.mean()[f"rank{rank}"] for rank in expected["rank"]],
        expected["cmc_mean"],
        atol=TOLERANCE,
    )
    np.testing.assert_allclose(result.mean()["mAP"], expected["map_mean"], atol=TOLERANCE)
    assert (result.gallery, result.queries) == (expected["gallery"], expected["probe"])
    assert result.draw == "official"


@pytest.mark.parametrize("setting", ["all", "indoor"])
def test_python_protocol_is_reproduced(golden_samples, golden_expected_python, setting):
    result = score(golden_samples, get_protocol(f"sysu-{setting}-1shot"), "python")
    expected = golden_expected_python[f"sysu_python_{setting}_1shot"]
    assert len(expected["trials"]) == 10
    for trial, figures in enumerate(expected["trials"]):
        wanted = dict(zip((f"rank{rank}" for rank in figures["rank"]), figures["cmc"], strict=True))
        wanted |= {"mAP": figures["mAP"], "mINP": figures["mINP"]}
        assert wanted.keys() == set(FIGURES)
        for name, value in wanted.items():
            np.testing.assert_allclose(result.trials[name][trial], value, atol=TOLERANCE)
    np.testing.assert_allclose(result.mean()["mINP"], expected["mean"]["mINP"], atol=TOLERANCE)


def test_without_the_cam2_cam3_rule_the_figures_are_others(official, golden_samples, golden_perm):
    protocol = get_protocol("sysu-indoor-1shot")
    lax = score(golden_samples, replace(protocol, ignored_pairs=()), "official", golden_perm)
    right = official[protocol.name]
    assert abs(lax.mean()["mAP"] - right.mean()["mAP"]) > 0.005
    assert lax.queries_without_positive != right.queries_without_positive


def test_cam3_queries_ignore_cam2_by_hand(make_samples):
    # Query of id 1 at 0. Its nearest, under camera 2, does not exist for camera 3; then comes id 2
    # at 2, then id 1 under camera 1 at 3. A camera 6 query at the same place sees all three.
    gallery = [(1, 2, 1, 1.0), (2, 1, 1, 2.0), (1, 1, 1, 3.0)]
    protocol = get_protocol("sysu-all-1shot")
    cam3 = score(make_samples([*gallery, (1, 3, 1, 0.0)]), protocol, "python").mean()
    assert (cam3["rank1"], cam3["rank5"], cam3["mAP"], cam3["mINP"]) == (0, 1, 0.5, 0.5)
    cam6 = score(make_samples([*gallery, (1, 6, 1, 0.0)]), protocol, "python").mean()
    assert cam6["rank1"] == 1
    assert cam6["mAP"] == pytest.approx((1 + 2 / 3) / 2)


def test_queries_without_positive_are_counted_apart(make_samples):
    samples = make_samples([(1, 1, 1, 1.0), (1, 3, 1, 0.0), (2, 6, 1, 5.0), (3, 6, 1, 5.0)])
    result = score(samples, get_protocol("sysu-all-1shot"), "python")
    assert (result.queries, result.queries_without_positive, result.gallery) == (3, 2, 1)
    assert result.mean()["rank1"] == 1


def test_no_query_with_a_positive_is_an_error(make_samples):
    # Id 1 is in the gallery, but under camera 2 only, which a camera 3 query ignores.
    samples = make_samples([(1, 2, 1, 1.0), (1, 3, 1, 0.0), (2, 6, 1, 0.0)])
    with pytest.raises(InputError, match="expected a query whose identity is in the gallery"):
        score(samples, get_protocol("sysu-all-1shot"), "python")


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_samples_does_not_matter(random_samples, shuffled_perm, seed, metric):
    samples = random_samples(seed)
    perm = shuffled_perm(samples, seed)
    rows = np.random.default_rng(seed).permutation(len(samples.pids))
    first = score_all(samples, list(PROTOCOLS.values()), "auto", perm, metric)
    second = score_all(take(samples, rows), list(PROTOCOLS.values()), "auto", perm, metric)
    for name in PROTOCOLS:
        for figure in FIGURES:
            assert first[name].trials[figure].tolist() == second[name].trials[figure].tolist()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_equal_features_are_scored_alike_in_every_order(random_samples, metric):
    # Matrix products of equal rows differ in the last bit by where the rows stand.
    samples = random_samples(0)
    rng = np.random.default_rng(0)
    look = np.repeat(rng.normal(size=(1, 67)), len(samples.pids), axis=0)
    alike = replace(samples, features=look)
    protocol = get_protocol("sysu-all-1shot")
    means = [
        score(take(alike, rng.permutation(len(look))), protocol, metric=metric).mean()
        for _ in range(5)
    ]
    assert means == [means[0]] * 5


def test_scoring_together_is_scoring_apart(official, golden_samples, golden_perm):
    for name, protocol in PROTOCOLS.items():
        alone = score(golden_samples, protocol, "official", golden_perm)
        for figure in FIGURES:
            np.testing.assert_allclose(alone.trials[figure], official[name].trials[figure])


def test_spread_is_the_population_standard_deviation(official):
    result = official["sysu-all-1shot"]
    values = result.trials["mAP"]
    assert result.std()["mAP"] == pytest.approx(
        np.sqrt(sum((v - values.mean()) ** 2 for v in values) / 10)
    )
    assert result.std()["mAP"] > 0


def test_multi_shot_cmc_counts_identities_not_images(official, golden_samples, golden_perm):
    protocol = get_protocol("sysu-all-10shot")
    pids, camids = golden_samples.pids, golden_samples.camids
    asking = query_rows(golden_samples, protocol)
    searched = gallery_rows(golden_samples, protocol, "official", golden_perm)[0]
    distances = distance_matrix(
        golden_samples.features[asking], golden_samples.features[searched], "euclidean"
    )
    # The wrong way: every image takes a rank.
    distances[np.outer(camids[asking] == 3, camids[searched] == 2)] = np.inf
    nearest = searched[np.argsort(distances, axis=1)[:, :10]]
    by_images = np.mean((pids[nearest] == pids[asking][:, None]).any(axis=1))
    assert official[protocol.name].trials["rank10"][0] - by_images > 0.03


def test_python_draw_is_not_for_ten_shots(random_samples):
    with pytest.raises(InputError, match="expected the official draw for sysu-all-10shot"):
        score(random_samples(0), get_protocol("sysu-all-10shot"), "python")


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_distances_rank_as_their_definition(metric):
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(3, 5)), rng.normal(size=(4, 5))
    expected = np.array(
        [
            [
                np.sum((q - g) ** 2)
                if metric == "euclidean"
                else 1 - q @ g / np.linalg.norm(q) / np.linalg.norm(g)
                for g in gallery
            ]
            for q in queries
        ]
    )
    distances = distance_matrix(queries, gallery, metric)
    np.testing.assert_allclose(distances, expected, atol=1e-12)
    single = distance_matrix(queries.astype(np.float32), gallery.astype(np.float32), metric)
    assert single.dtype == np.float64


def test_the_metric_matters_and_cosine_ignores_length(random_samples):
    samples = random_samples(0)
    longer = replace(samples, features=samples.features * samples.frames[:, None])
    protocol = get_protocol("sysu-all-1shot")
    cosine = score(samples, protocol, metric="cosine")
    assert score(longer, protocol, metric="cosine").mean() == pytest.approx(cosine.mean())
    assert score(longer, protocol).mean()["mAP"] != pytest.approx(cosine.mean()["mAP"])


def test_bad_metric_and_zero_features_are_refused():
    with pytest.raises(InputError, match="expected a metric out of euclidean, cosine; got 'l1'"):
        distance_matrix(np.ones((1, 2)), np.ones((1, 2)), "l1")
    with pytest.raises(InputError, match="got 1 zero features"):
        distance_matrix(np.ones((1, 2)), np.array([[0.0, 0.0], [1.0, 0.0]]), "cosine")


def test_a_trial_agrees_with_the_ranking_of_its_gallery(random_samples):
    samples = random_samples(2, images=1)  # one image each: every trial draws all
    result = score(samples, get_protocol("sysu-indoor-1shot"), "python")
    asking = np.flatnonzero(np.isin(samples.camids, (3, 6)))
    searched = np.flatnonzero(np.isin(samples.camids, (1, 2)))
    scores = score_queries(
        distance_matrix(samples.features[asking], samples.features[searched], "euclidean"),
        samples.pids[asking],
        samples.pids[searched],
        np.outer(samples.camids[asking] == 3, samples.camids[searched] == 2),
    )
    np.testing.assert_allclose(result.trials["mAP"], np.nanmean(scores.ap))
