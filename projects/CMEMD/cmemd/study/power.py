"""What a study of paired seeds can see: its power, before and after.

Two variants train with the same seeds, so each seed gives one difference of their metrics. Whether
the mean difference is real is asked of a t-test of those differences, paired and two-sided. Its
power follows from the noncentral t distribution [Cohen 1988, Statistical Power Analysis, chapter
2]: with n seeds and a deviation s of the differences, a true difference d gives the statistic n - 1
degrees of freedom and noncentrality sqrt(n) d / s. Its square has the noncentral F distribution,
which SciPy computes without loss in the tails.

The level of 5 % and the power of 80 % are the field's habit [C]: of true differences of the size
named here, one in five is missed, and of no differences one in twenty is claimed.
"""

import math

from scipy.optimize import brentq
from scipy.stats import ncf, t

__all__ = ["LEVEL", "POWER", "detectable_difference", "paired_power", "seeds_needed"]

LEVEL, POWER = 0.05, 0.8
_MOST_SEEDS = 10**8


def paired_power(difference: float, deviation: float, seeds: int, level: float = LEVEL) -> float:
    """Return the probability that the test finds a true difference.

    Args:
        difference: the true mean of the differences, of either sign.
        deviation: standard deviation of the differences between seeds, positive.
        seeds: number of paired seeds, at least 2.
        level: probability of finding a difference where there is none.
    """
    if not difference:
        return level  # SciPy's noncentral F is wrong at noncentrality 0
    freedom = seeds - 1
    edge = t.ppf(1 - level / 2, freedom)
    return float(ncf.sf(edge**2, 1, freedom, seeds * (difference / deviation) ** 2))


def detectable_difference(
    deviation: float, seeds: int, level: float = LEVEL, power: float = POWER
) -> float:
    """Return the smallest true difference that the test finds with this power.

    It is infinite for fewer than two seeds, and proportional to the deviation.

    Args:
        deviation: standard deviation of the differences between seeds, not negative.
        seeds: number of paired seeds.
        level: probability of finding a difference where there is none.
        power: probability of finding the difference, between ``level`` and 1.
    """
    if seeds < 2:
        return math.inf
    # As many deviations as the t distribution's own quantiles add up to are more than enough.
    enough = t.ppf(1 - level / 2, seeds - 1) + t.ppf(power, seeds - 1)
    high = 2 * enough / math.sqrt(seeds)
    return deviation * brentq(lambda d: paired_power(d, 1.0, seeds, level) - power, 0.0, high)


def seeds_needed(
    difference: float, deviation: float, level: float = LEVEL, power: float = POWER
) -> int:
    """Return the smallest number of paired seeds that finds a true difference with this power.

    Args:
        difference: the true mean of the differences, not 0.
        deviation: standard deviation of the differences between seeds, not negative.
        level: probability of finding a difference where there is none.
        power: probability of finding the difference, between ``level`` and 1.

    Raises:
        OverflowError: more than a hundred million seeds.
    """
    low, high = 1, 2  # too few, perhaps enough
    while detectable_difference(deviation, high, level, power) > abs(difference):
        low, high = high, 2 * high
        if high > _MOST_SEEDS:
            raise OverflowError("more than a hundred million seeds")
    while high - low > 1:
        middle = (low + high) // 2
        if detectable_difference(deviation, middle, level, power) > abs(difference):
            low = middle
        else:
            high = middle
    return high
