import itertools
from dataclasses import replace

import numpy as np
import pytest

from cmemd.errors import InputError
from cmemd.evaluation.distances import DISTANCES, distance_matrix
from cmemd.evaluation.protocols import PROTOCOLS, get_protocol
from cmemd.evaluation.ranking import score_queries
from cmemd.evaluation.samples import Samples
from cmemd.evaluation.scoring import METRICS, Reranking, score, score_all

SYSU = [p for p in PROTOCOLS.values() if p.dataset == "sysu" and not p.mixture]
COLUMNS = ("features", "pids", "camids", "modalities", "frames", "paths")
TOLERANCE = 1e-6  # the golden metrics are printed with ten digits, some come from float32


def take(samples, rows):
    return Samples(**{name: getattr(samples, name)[rows] for name in COLUMNS})


def test_official_metrics_are_reproduced(official, golden_expected):
    for setting in ("all_1shot", "all_10shot", "indoor_1shot", "indoor_10shot"):
        result = official["sysu-" + setting.replace("_", "-")]
        expected = golden_expected[setting]
        means = result.mean()
        for got, wanted in (
            (result.trials["mAP"], expected["map_trials"]),
            (result.trials["rank1"], expected["rank1_trials"]),
            ([means[f"rank{rank}"] for rank in expected["rank"]], expected["cmc_mean"]),
            (means["mAP"], expected["map_mean"]),
        ):
            np.testing.assert_allclose(got, wanted, atol=TOLERANCE, err_msg=setting)
        counts = result.counts
        sizes = expected["gallery"], expected["probe"]
        assert (counts["gallery"], counts["queries"]) == sizes, setting
        assert result.sampling == "official", setting


def test_the_python_protocol_is_reproduced(golden_samples, golden_expected_python):
    for setting in ("all", "indoor"):
        result = score(golden_samples, get_protocol(f"sysu-{setting}-1shot"), "python")
        expected = golden_expected_python[f"sysu_python_{setting}_1shot"]
        assert len(expected["trials"]) == 10
        assert_reproduced(result, expected["trials"])
        wanted = expected["mean"]["mINP"]
        np.testing.assert_allclose(result.mean()["mINP"], wanted, atol=TOLERANCE, err_msg=setting)


DIRECTIONS = {"v2t": "visible_to_thermal", "t2v": "thermal_to_visible"}


def test_regdb_is_reproduced(regdb_samples, golden_expected_of):
    for short, direction in DIRECTIONS.items():
        result = score(regdb_samples, get_protocol(f"regdb-{short}"))
        assert_reproduced(result, [golden_expected_of("regdb")[f"regdb_{direction}"]])


def test_llcm_is_reproduced(llcm_scores, golden_expected_of):
    for short, direction in DIRECTIONS.items():
        result = llcm_scores[f"llcm-{short}-paper"]
        expected = golden_expected_of("llcm")[f"llcm_{direction}"]
        assert len(expected["trials"]) == 10
        assert_reproduced(result, expected["trials"])
        assert result.counts["queries"] == expected["n_query"], direction
        mean = expected["mean"]
        np.testing.assert_allclose(
            [result.mean()[name] for name in METRICS],
            [*mean["cmc"], mean["mAP"], mean["mINP"]],
            atol=TOLERANCE,
            err_msg=direction,
        )


def assert_reproduced(result, expected_trials):
    assert len(expected_trials) == result.protocol.trials
    for trial, expected in enumerate(expected_trials):
        ranks = (f"rank{rank}" for rank in expected["rank"])
        wanted = dict(zip(ranks, expected["cmc"], strict=True))
        wanted |= {"mAP": expected["mAP"], "mINP": expected["mINP"]}
        assert wanted.keys() == set(METRICS)
        for name, value in wanted.items():
            np.testing.assert_allclose(
                result.trials[name][trial],
                value,
                atol=TOLERANCE,
                err_msg=f"{result.protocol.name}, trial {trial}: {name}",
            )


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
    names = ("queries", "queries_without_positive", "gallery")
    assert [result.counts[name] for name in names] == [3, 2, 1]
    assert result.mean()["rank1"] == 1
    assert result.per_query["rank1"].tolist()[0] == 1
    assert np.isnan(result.per_query["mAP"][1:]).all()


def test_no_query_with_a_positive_is_an_error(make_samples):
    # Id 1 is in the gallery, but under camera 2 only, which a camera 3 query ignores.
    samples = make_samples([(1, 2, 1, 1.0), (1, 3, 1, 0.0), (2, 6, 1, 0.0)])
    with pytest.raises(InputError, match="expected a query whose identity is in the gallery"):
        score(samples, get_protocol("sysu-all-1shot"), "python")


def test_the_order_of_the_samples_does_not_matter(random_samples, shuffled_perm):
    for seed, distance in itertools.product(range(3), DISTANCES):
        samples = random_samples(seed)
        perm = shuffled_perm(samples, seed)
        rows = np.random.default_rng(seed).permutation(len(samples.pids))
        first = score_all(samples, SYSU, "auto", perm, distance)
        second = score_all(take(samples, rows), SYSU, "auto", perm, distance)
        for name, metric in itertools.product(first, METRICS):
            values = [of[name].trials[metric].tolist() for of in (first, second)]
            assert values[0] == values[1], (seed, distance, name, metric)


def test_equal_features_are_scored_alike_in_every_order(random_samples):
    # Matrix products of equal rows differ in the last bit by the place of the rows.
    samples = random_samples(0)
    protocol = get_protocol("sysu-all-1shot")
    for distance in DISTANCES:
        rng = np.random.default_rng(0)
        look = np.repeat(rng.normal(size=(1, 67)), len(samples.pids), axis=0)
        alike = replace(samples, features=look)
        means = [
            score(take(alike, rng.permutation(len(look))), protocol, distance=distance).mean()
            for _ in range(5)
        ]
        assert means == [means[0]] * 5, distance


def test_scoring_together_is_scoring_apart(official, golden_samples, golden_perm, llcm_samples):
    llcm = [protocol for protocol in PROTOCOLS.values() if protocol.dataset == "llcm"]
    few = take(llcm_samples, llcm_samples.pids < np.median(llcm_samples.pids))
    together = score_all(few, llcm)
    assert list(together) == [protocol.name for protocol in llcm]
    together |= official
    for protocol in [*SYSU, *llcm]:
        of_sysu = golden_samples, protocol, "official", golden_perm
        alone = score(*(of_sysu if protocol.dataset == "sysu" else (few, protocol)))
        for name in METRICS:
            np.testing.assert_allclose(
                alone.trials[name],
                together[protocol.name].trials[name],
                err_msg=f"{protocol.name}: {name}",
            )


def test_spread_is_the_population_standard_deviation(official):
    result = official["sysu-all-1shot"]
    values = result.trials["mAP"]
    assert result.std()["mAP"] == pytest.approx(
        np.sqrt(sum((v - values.mean()) ** 2 for v in values) / 10)
    )
    assert result.std()["mAP"] > 0


def test_the_distance_matters_and_cosine_ignores_length(random_samples):
    samples = random_samples(0)
    longer = replace(samples, features=samples.features * samples.frames[:, None])
    protocol = get_protocol("sysu-all-1shot")
    cosine = score(samples, protocol, distance="cosine")
    assert score(longer, protocol, distance="cosine").mean() == pytest.approx(cosine.mean())
    assert score(longer, protocol).mean()["mAP"] != pytest.approx(cosine.mean()["mAP"])


def test_a_bad_distance_or_sampling_is_refused(random_samples):
    with pytest.raises(InputError, match="got 'l1'"):
        score(random_samples(0), get_protocol("sysu-all-1shot"), distance="l1")
    with pytest.raises(InputError, match="expected the official sampling for sysu-all-10shot"):
        score(random_samples(0), get_protocol("sysu-all-10shot"), "python")


def test_a_zero_feature_is_orthogonal_to_everything_under_cosine_and_counted(make_samples):
    rows = [(1, 1, 1, [1, 0]), (2, 1, 1, [0, 0]), (3, 1, 1, [-1, 0]), (2, 3, 1, [1, 0])]
    samples = make_samples(rows)
    distances = distance_matrix(samples.features[3:], samples.features[:3], "cosine")
    assert distances.tolist() == [[0, 1, 2]]
    result = score(samples, get_protocol("sysu-all-1shot"), distance="cosine")
    assert result.mean()["mAP"] == 0.5
    assert result.counts["zero_features"] == 1
    assert np.isfinite(list(result.mean().values())).all()


def test_a_query_that_is_not_finite_gets_the_worst_metrics(random_samples):
    samples = random_samples(0)
    protocol = get_protocol("sysu-all-1shot")
    row = int(np.flatnonzero(samples.camids == 3)[0])
    for distance in DISTANCES:
        good = score(samples, protocol, distance=distance)
        assert good.counts["non_finite_features"] == 0
        for value in (np.nan, np.inf, -np.inf):
            features = samples.features.copy()
            features[row, 1] = value
            bad = score(replace(samples, features=features), protocol, distance=distance)
            assert bad.counts["non_finite_features"] == 1, (distance, value)
            place = bad.query_rows.tolist().index(row)
            for name in METRICS:
                expected = good.per_query[name].copy()
                expected[place] = 0  # not left out: the mean is over as many queries
                np.testing.assert_allclose(
                    bad.per_query[name], expected, err_msg=f"{distance}, {value}: {name}"
                )


def test_a_gallery_image_that_is_not_finite_ranks_behind_all_others(make_samples):
    # Positives at 0 and NaN, others at 1 and 2: ranks 1 and 4.
    rows = [(1, 1, 1, 0.0), (1, 4, 1, np.nan), (2, 1, 1, 1.0), (3, 1, 1, 2.0), (1, 6, 1, 0.0)]
    result = score(make_samples(rows), get_protocol("sysu-all-1shot"))
    assert result.mean()["mAP"] == pytest.approx((1 + 2 / 4) / 2)
    assert result.mean()["mINP"] == pytest.approx(2 / 4)
    assert result.counts["non_finite_features"] == 1


def test_a_trial_agrees_with_the_ranking_of_its_gallery(random_samples):
    samples = random_samples(2, images=1)  # one image each: every trial samples all
    result = score(samples, get_protocol("sysu-indoor-1shot"), "python")
    queries = np.flatnonzero(np.isin(samples.camids, (3, 6)))
    gallery = np.flatnonzero(np.isin(samples.camids, (1, 2)))
    scores = score_queries(
        distance_matrix(samples.features[queries], samples.features[gallery], "euclidean"),
        samples.pids[queries],
        samples.pids[gallery],
        np.outer(samples.camids[queries] == 3, samples.camids[gallery] == 2),
    )
    np.testing.assert_allclose(result.trials["mAP"], np.nanmean(scores.ap))


def test_sets_that_go_in_parts_score_as_in_one(golden_samples, golden_perm, official, monkeypatch):
    monkeypatch.setattr("cmemd.evaluation.scoring._PRODUCTS_AT_ONCE", 100_000)
    parts = score_all(golden_samples, SYSU, "official", golden_perm)
    for protocol, whole in official.items():
        for name in METRICS:
            np.testing.assert_allclose(
                parts[protocol].trials[name], whole.trials[name], err_msg=f"{protocol}: {name}"
            )


def test_per_query_metrics_average_to_the_mean(official):
    for result in official.values():  # a query counts in all trials or in none
        for name in METRICS:
            mean = np.nanmean(result.per_query[name])
            np.testing.assert_allclose(mean, result.mean()[name])


def test_sampled_queries_are_counted_in_their_own_trials(llcm_scores):
    result = llcm_scores["llcm-t2v-released"]
    assert result.counts["queries"] == 201  # the gallery of the paper's variant, as queries
    assert result.counts["gallery"] == 1171
    assert 201 < len(result.query_rows) <= 1033


def test_reranking_is_another_ranking_and_is_said(regdb_samples):
    protocol = get_protocol("regdb-v2t")
    plain, reranked = (
        score(regdb_samples, protocol, reranking=settings) for settings in (None, Reranking())
    )
    assert abs(reranked.mean()["rank1"] - plain.mean()["rank1"]) > 0.01
    assert (plain.reranking, reranked.reranking) == (None, Reranking(20, 6, 0.3))


def test_reranking_goes_trial_by_trial(llcm_samples):
    # Each trial samples queries of its own, and their metrics stay apart.
    few = take(llcm_samples, llcm_samples.pids < np.median(llcm_samples.pids))
    result = score(few, get_protocol("llcm-t2v-released"), reranking=Reranking(4, 2))
    assert len(result.per_query["mAP"]) == len(result.query_rows)
    assert len(set(result.trials["mAP"].tolist())) == 10


def test_reranking_refuses_features_that_are_not_finite(random_samples):
    samples = random_samples(0)
    features = samples.features.copy()
    features[0] = np.nan
    with pytest.raises(InputError, match="expected finite features for re-ranking"):
        score(
            replace(samples, features=features),
            get_protocol("sysu-all-1shot"),
            reranking=Reranking(),
        )
