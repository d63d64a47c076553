"""Mixed-modality galleries: limits, values worked by hand, and what the remedies do."""

from dataclasses import replace

import numpy as np
import pytest
from tests.cases import cases

from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.evaluation.mixed import centre, fit_centring, own_modality_first
from cmemd.evaluation.protocols import Options, get_protocol, get_protocols, with_options
from cmemd.evaluation.remedies import GRID, check_remedies, choose_remedies
from cmemd.evaluation.rerank import k_reciprocal_distances
from cmemd.evaluation.results import Column, results_document
from cmemd.evaluation.samples import Samples
from cmemd.evaluation.sampling import sample_trials
from cmemd.evaluation.scoring import METRICS, BalancedReranking, Reranking, score
from cmemd.evaluation.tables import format_table


def mixed(name: str = "own-mixed", ratio: float = 0.5, **options: object):
    return with_options(get_protocols([name]), Options(ratio=ratio, **options))[0]


def analytic(people, shift: float, images: int = 1) -> Samples:
    """Identity + shift x modality: each person under cameras 1 and 2, of both modalities."""
    rows = [
        (person, camera, modality)
        for person in range(len(people))
        for camera in (1, 2)
        for modality in Modality
        for _ in range(images)
    ]
    pids, camids, modalities = map(np.array, zip(*rows, strict=True))
    places = np.array(people, dtype=float)[pids]
    return Samples(
        features=np.stack([places, shift * modalities], axis=1),
        pids=pids,
        camids=camids,
        modalities=modalities.astype(int),
        frames=np.arange(len(pids)),
        paths=np.array([f"{row}.png" for row in range(len(pids))]),
    )


def test_ratios_0_and_1_are_the_protocols_of_one_direction(
    golden_samples, golden_perm, regdb_samples, llcm_samples
):
    own = analytic([0, 1, 3, 7], 0.3)
    for samples, perm, name, at_0, at_1 in (
        (golden_samples, golden_perm, "sysu-mixed", "sysu-all-1shot", None),
        (golden_samples, None, "sysu-mixed", "sysu-all-1shot", None),
        (regdb_samples, None, "regdb-mixed", "regdb-t2v", "regdb-v2t"),
        (llcm_samples, None, "llcm-mixed", "llcm-t2v-paper", "llcm-v2t-paper"),
        (own, None, "own-mixed", "own-t2v", "own-v2t"),
    ):
        for ratio, base in ((0.0, at_0), (1.0, at_1)):
            if base is None:
                continue
            one, two = (score(samples, p, "auto", perm) for p in (
                mixed(name, ratio), get_protocol(base)))  # fmt: skip
            for metric in METRICS:
                np.testing.assert_array_equal(one.trials[metric], two.trials[metric], base)
                np.testing.assert_array_equal(one.per_query[metric], two.per_query[metric], base)
            assert one.counts == two.counts, base


def test_sysu_at_ratio_1_searches_thermal_images_and_keeps_the_rule_of_one_place(golden_samples):
    protocol = mixed("sysu-mixed", 1.0)
    trials = sample_trials(golden_samples, protocol)
    assert set(golden_samples.camids[trials[0].queries]) <= {1, 2, 4, 5}
    assert set(golden_samples.camids[trials[0].gallery]) <= {3, 6}
    assert set(protocol.ignored_pairs) == {(3, 2), (2, 3)}


def test_sides_hold_the_stated_ratio_and_each_identity_its_share():
    samples = analytic(range(6), 0.0, images=5)  # 60 of each modality
    for ratio in (0.1, 0.25, 0.5, 0.7, 0.9):
        trial = sample_trials(samples, mixed(ratio=ratio))[0]
        for rows, of in ((trial.gallery, Modality.THERMAL), (trial.queries, Modality.VISIBLE)):
            chosen = samples.modalities[rows] == of
            assert abs(chosen.sum() - ratio * len(rows)) <= 1, ratio
            assert max((chosen.sum()), (~chosen).sum()) == 60, ratio  # no more than needed is lost
            for side in (rows[chosen], rows[~chosen]):
                each = np.bincount(samples.pids[side], minlength=6)
                assert each.max() - each.min() <= 1, ratio
        again = sample_trials(samples, mixed(ratio=ratio))[0]
        np.testing.assert_array_equal(trial.gallery, again.gallery)


# People at 0, 1 and 3 on a line; a second axis is shift x modality. Under ratio 1/2 every image is
# a query and in the gallery; a query's own modality and camera is not searched for its own person.
# Wrong matches: own modality at distance 1 (or 2 for the person at 3), the other at
# sqrt(1 + shift^2): so with any shift the first wrong match has the query's own modality.
# Right matches: own modality, other camera at 0; other modality, both cameras at |shift|.
# Shift 1/2: right at 0, .5, .5, before the first wrong one at 1: AP 1.
# Shift 3/2, person at 0: right 0, then two wrong at 1 (own modality, both cameras), then right at
# 1.5 twice: ranks 1, 4, 5. Person at 1: two wrong at 1, too (the person at 3 is at 2): the same.
# Person at 3: right 0, 1.5, 1.5, then wrong at 2: ranks 1, 2, 3.
@cases(
    ("shift", "ap", "inp"),
    [
        (0.5, 1.0, 1.0),
        (
            1.5,
            (2 * (1 + 2 / 4 + 3 / 5) / 3 + 1) / 3,
            (2 * 3 / 5 + 1) / 3,
        ),
    ],
)
def test_identity_plus_modality_gives_the_values_worked_by_hand(shift, ap, inp):
    found = score(analytic([0, 1, 3], shift), mixed())
    assert found.mean()["mAP"] == pytest.approx(ap)
    assert found.mean()["mINP"] == pytest.approx(inp)
    assert found.own_modality_first.tolist() == [1.0]


def test_the_share_is_a_half_of_two_kinds_of_queries_and_0_where_the_other_is_nearer():
    distances = np.array([[1.0, 2, 3, np.nan], [2, 1, 3, np.nan], [1, 2, 0, np.nan]])
    right = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=bool)
    gallery = np.array([0, 1, 1, 0])
    first = own_modality_first(distances, right, np.array([0, 0, 1]), gallery)
    np.testing.assert_array_equal(first, [1, 0, np.nan])


def test_the_share_equals_a_plain_loop():
    generator = np.random.default_rng(1)
    samples = analytic(range(8), 0.0, images=2)
    samples = replace(samples, features=generator.normal(size=(len(samples.pids), 3)))
    protocol = mixed(ratio=0.4)
    found = score(samples, protocol)
    for share, trial in zip(
        found.own_modality_first, sample_trials(samples, protocol), strict=True
    ):
        hits = []
        for q in trial.queries:
            wrong = [g for g in trial.gallery if samples.pids[g] != samples.pids[q]]
            near = min(
                wrong, key=lambda g: np.sum((samples.features[q] - samples.features[g]) ** 2)
            )
            hits.append(samples.modalities[near] == samples.modalities[q])
        assert share == pytest.approx(np.mean(hits))


def test_one_direction_has_no_such_share(regdb_samples):
    assert score(regdb_samples, get_protocol("regdb-v2t")).own_modality_first is None


def test_centred_distances_take_the_shift_away():
    # The squared distance of two modalities is that of one + shift^2; centring removes just that.
    validation, test = analytic([0, 2, 5], 4.0), analytic([0, 1, 3], 4.0)
    centring = fit_centring(validation, "euclidean")
    table = centring.table
    np.testing.assert_allclose(table - table[0, 0], 16.0 * (1 - np.eye(2)))
    squares = np.array([[0.0, 16.0]])
    centred = centre(squares, np.array([0]), np.array([0, 1]), centring)
    assert centred[0, 0] == pytest.approx(centred[0, 1])
    plain, remedied = (score(test, mixed(), reranking=r).mean() for r in (None, centring))
    assert plain["mAP"] < 1
    assert remedied["mAP"] == pytest.approx(1)


def test_balanced_neighbours_equal_plain_ones_for_one_group():
    generator = np.random.default_rng(0)
    points = generator.normal(size=(12, 3))
    d = np.linalg.norm(points[:, None] - points, axis=2)
    parts = d[:4, 4:], d[:4, :4], d[4:, 4:]
    plain = k_reciprocal_distances(*parts, k1=4, k2=2)
    one = k_reciprocal_distances(*parts, k1=4, k2=2, groups=np.zeros(12, dtype=int))
    two = k_reciprocal_distances(*parts, k1=4, k2=2, groups=np.arange(12) % 2)
    np.testing.assert_array_equal(plain, one)
    assert not np.array_equal(plain, two)


def test_remedies_are_chosen_on_validation_identities_and_are_rows_of_their_own():
    generator = np.random.default_rng(3)

    def noisy(people):
        samples = analytic(people, 1.0, images=2)
        noise = generator.normal(scale=0.3, size=samples.features.shape)
        return replace(samples, features=samples.features + noise)

    validation, test = noisy(range(5)), noisy(range(6))
    protocol = mixed()
    chosen = choose_remedies(validation, protocol, "auto", None, "euclidean")
    for remedy, kind in zip(chosen, (Reranking, BalancedReranking), strict=False):
        best = score(validation, protocol, reranking=remedy).mean()["mAP"]
        assert type(remedy) is kind
        assert best == max(
            score(validation, protocol, reranking=kind(*settings)).mean()["mAP"]
            for settings in GRID
        )
    columns = [Column(score(test, protocol, reranking=r), None) for r in (None, *chosen)]
    document = results_document(columns)
    names = [entry.get("remedy", {}).get("name") for entry in document["scores"]]
    assert names == [None, None, "balanced", "centred"]
    table = format_table(document)
    for words in ("Own modality first", "balanced k1=", "centred"):
        assert words in table


def test_remedies_belong_to_mixed_protocols_and_need_people_of_both_modalities():
    with pytest.raises(InputError, match="remedies with mixed protocols only, got own-t2v"):
        check_remedies([get_protocol("own-t2v")])
    with pytest.raises(InputError, match="at least two validation identities in each modality"):
        fit_centring(analytic([0], 1.0), "cosine")


def test_a_ratio_that_leaves_one_modality_no_image_is_refused():
    with pytest.raises(InputError, match="images of both modalities for ratio 0.001"):
        sample_trials(analytic([0, 1], 0.0), mixed(ratio=0.001))
