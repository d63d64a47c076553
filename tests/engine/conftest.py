"""The samples that the evaluation's tests use."""

from tests.evaluation.conftest import (
    golden_expected,
    golden_perm_path,
    golden_samples,
    llcm_samples,
    make_samples,
    random_samples,
)

__all__ = [
    "golden_expected",
    "golden_perm_path",
    "golden_samples",
    "llcm_samples",
    "make_samples",
    "random_samples",
]
