import json
from dataclasses import fields

import numpy as np
import pytest

from cmemd.errors import InputError
from cmemd.evaluation.samples import Samples
from cmemd.study.plan_mass import measure_plans, read_views

VIEWS = ("front", "left", "back", "right")


def stand_in(feature_of, people=3, per_view=2):
    """Every person from every side, in both modalities."""
    rows = [
        (pid, modality, view, n)
        for pid in range(people)
        for modality in (0, 1)
        for view in VIEWS
        for n in range(per_view)
    ]
    paths = [f"cam{1 + 2 * m}/{p:04d}/{view}{n}.jpg" for p, m, view, n in rows]
    rng = np.random.default_rng(0)
    samples = Samples(
        features=np.array([feature_of(*row, rng) for row in rows], dtype=np.float64),
        pids=[row[0] for row in rows],
        camids=[1 + 2 * row[1] for row in rows],
        modalities=[row[1] for row in rows],
        frames=[row[3] for row in rows],
        paths=[f"/data/cam1/{path}" for path in paths],
    )
    return samples, {path: row[2] for path, row in zip(paths, rows, strict=True)}


def by_view(pid, modality, view, n, rng):
    """A direction for each view, a little of each person and of the modality."""
    return [*(5 * (view == v) for v in VIEWS), pid, 0.3 * modality]


def test_features_of_the_view_put_as_much_mass_on_it_as_there_are_pairs():
    # A subset is all 8 images of each modality: two of each view, which a plan can pair wholly.
    samples, views = stand_in(by_view)
    measures = measure_plans(samples, views, images=8, subsets=2)
    assert measures.same_view_mass == pytest.approx(1)
    assert measures.uniform_mass == pytest.approx(1 / 4)


def test_features_that_know_no_view_put_a_random_share_on_it():
    samples, views = stand_in(lambda pid, m, view, n, rng: rng.normal(size=6), people=40)
    measures = measure_plans(samples, views, images=4, subsets=10)
    assert measures.uniform_mass == pytest.approx(1 / 4, abs=0.01)
    assert measures.same_view_mass == pytest.approx(1 / 4, abs=0.03)


def test_gap_and_ratio_by_hand():
    # Unit vectors: visible (1, 0) and thermal (0, 1) of person 0, (-1, 0) and (0, 1) of person 1.
    # Centres of the modalities (0, 0) and (0, 1): gap 1. Persons' centres (1/2, 1/2), (-1/2, 1/2):
    # within 1/2 for each image, between 1/4: ratio 2.
    samples, views = stand_in(
        lambda pid, m, view, n, rng: (0, 1) if m else (1 - 2 * pid, 0), people=2
    )
    measures = measure_plans(samples, views, images=8, subsets=1)
    assert measures.modality_gap == pytest.approx(1)
    assert measures.variance_ratio == pytest.approx(2)


def test_queries_of_their_own_and_of_other_views_by_hand():
    # An image is nearest to its person's from its own side; from other sides, to the next person's,
    # who looks there as this one does here: turns of 10 degrees a person, 10 a side. Only the first
    # person seen in later sides has no other that is nearer, and the last one in earlier sides:
    # each in 6 of 12 pairs of sides, so (6 + 0 + 6) of 36.
    def turned(pid, m, view, n, rng):
        angle = np.radians(10 * (pid + VIEWS.index(view)) + m)
        return np.cos(angle), np.sin(angle)

    samples, views = stand_in(turned)
    measures = measure_plans(samples, views)
    assert measures.same_view_rank1 == 1
    assert measures.other_view_rank1 == pytest.approx(1 / 3)


def test_features_that_know_no_view_find_as_often_in_other_views():
    # With more candidates from other views, the best of them would be right more often.
    def noisy(pid, m, view, n, rng):
        return np.eye(20)[pid] + 0.3 * rng.normal(size=20)

    samples, views = stand_in(noisy, people=20, per_view=4)
    measures = measure_plans(samples, views)
    assert 0.3 < measures.same_view_rank1 < 0.8
    assert measures.same_view_rank1 == pytest.approx(measures.other_view_rank1, abs=0.03)


def test_people_without_a_visible_image_of_some_view_are_in_no_gallery():
    samples, views = stand_in(lambda pid, m, *_: [np.cos(pid + m), np.sin(pid + m)], people=4)
    unseen = (samples.modalities == 0) & ["left" in path for path in samples.paths]

    def shares(kept):
        rows = {field.name: getattr(samples, field.name) for field in fields(samples)}
        part = Samples(**{name: of if of is None else of[kept] for name, of in rows.items()})
        measures = measure_plans(part, views, images=2)
        return measures.same_view_rank1, measures.other_view_rank1

    without_one = shares(~(unseen & (samples.pids == 3)))
    assert without_one == shares(samples.pids != 3) != shares(samples.pids >= 0)
    assert np.isnan(shares(~unseen)).all()


def test_the_same_seed_gives_the_same_measures():
    samples, views = stand_in(lambda pid, m, view, n, rng: rng.normal(size=6))
    assert measure_plans(samples, views, seed=1) == measure_plans(samples, views, seed=1)
    assert measure_plans(samples, views, seed=1) != measure_plans(samples, views, seed=2)


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(InputError, match="got no meta.jsonl"):
        read_views(tmp_path)
    samples, views = stand_in(by_view)
    with pytest.raises(InputError, match="got .*, which is not there: give"):
        measure_plans(samples, {})
    with pytest.raises(InputError, match="with 9 images of each modality, got none"):
        measure_plans(samples, views, images=9)


def test_views_are_read_from_the_stand_ins_own_file(tmp_path):
    lines = [{"standin": "SYSU-MM01"}, {"path": "cam1/0001/0001.jpg", "view": "left", "id": 1}]
    (tmp_path / "meta.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_views(tmp_path) == {"cam1/0001/0001.jpg": "left"}
