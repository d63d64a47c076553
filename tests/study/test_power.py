"""The power of a study of paired seeds, against tables and simulated studies."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from cmemd.study.power import detectable_difference, paired_power, seeds_needed


def test_seeds_needed_are_those_of_published_tables():
    # Paired t-test, two-sided, level 5 %: pairs for small, medium and large effects (d = 0.2, 0.5,
    # 0.8) and others, as statsmodels 0.14 (TTestPower().solve_power) rounds up.
    for effect, power, expected in (
        (0.2, 0.8, 199),
        (0.5, 0.8, 34),
        (0.8, 0.8, 15),
        (0.5, 0.95, 54),
        (1.0, 0.8, 10),
    ):
        assert seeds_needed(effect, 1.0, power=power) == expected, effect
        assert seeds_needed(-2.5 * effect, 2.5, power=power) == expected, effect


def test_power_is_the_share_of_simulated_studies_that_find_the_difference():
    rng = np.random.default_rng(0)
    for difference, deviation, seeds in ((1.0, 2.5, 5), (-3.0, 2.5, 8), (1.0, 2.0, 34), (4, 2, 3)):
        studies = difference + deviation * rng.standard_normal((20000, seeds))
        share = (ttest_1samp(studies, 0, axis=1).pvalue < 0.05).mean()
        # Four standard errors of a share of 20000.
        error = 4 * math.sqrt(share * (1 - share) / 20000)
        got = paired_power(difference, deviation, seeds)
        assert got == pytest.approx(share, abs=error), (difference, deviation, seeds)


def test_a_detectable_difference_has_the_power_asked_for_and_scales_with_the_deviation():
    for seeds in (2, 3, 5, 20, 500):
        for level, power in ((0.05, 0.8), (0.01, 0.95), (0.2, 0.3)):
            found = detectable_difference(2.5, seeds, level, power)
            case = (seeds, level, power)
            assert paired_power(found, 2.5, seeds, level) == pytest.approx(power, abs=1e-6), case
            twice = detectable_difference(5.0, seeds, level, power)
            assert twice == pytest.approx(2 * found), case


def test_of_no_difference_the_level_is_claimed():
    for seeds in (2, 10):
        assert paired_power(0.0, 1.0, seeds, 0.03) == pytest.approx(0.03)


def test_one_seed_more_detects_less_and_the_number_needed_is_the_first_that_is_enough():
    found = [detectable_difference(2.0, seeds) for seeds in range(2, 40)]
    assert (np.diff(found) < 0).all()
    needed = seeds_needed(1.0, 2.0)
    assert found[needed - 2] <= 1 < found[needed - 3]


def test_degenerate_studies():
    assert detectable_difference(1.0, 1) == math.inf
    assert detectable_difference(0.0, 3) == 0
    assert seeds_needed(1.0, 0.0) == 2
    with pytest.raises(OverflowError):
        seeds_needed(1e-9, 1.0)
