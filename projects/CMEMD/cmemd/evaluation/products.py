r"""Distances by float32 products, computed again in float64 where their error could change a rank.

A float32 product takes half the time of a float64 one. It can misplace a gallery image against a
positive only if the two distances are closer than its error. Few pairs are that close.

**The error is measured, not assumed.** Take features ``X`` and ``Y``, a computed product ``S`` and
a Gaussian matrix ``W`` of ``k`` columns. ``Z = S W - X (Y^T W)`` costs little in float64. Row ``q``
of ``Z`` holds ``k`` normal numbers whose standard deviation is the length of row ``q`` of the error
``S - X Y^T``. So ``m`` times their root mean square is a bound of each error in that row. It fails
with probability :math:`P(\chi^2_k < k / m^2) < \exp(-\frac k2 (2 \ln m - 1 + m^{-2}))`, which is
below 2e-13 a query for k = 32 and m = 4. The norm-based bound of a sum of ``D`` products,
``D 2^-24 |x| |y|``, is thousands of times larger than the error; it would leave 770 images a query
to compute again. The measured bound also covers features that float32 rounds or cannot hold, and
BLAS libraries that round more than float32 does.

Shape legend: ``N`` = images, ``D`` = feature dimension, ``Q`` = queries, ``V`` = gallery images,
``b`` = queries of a block, ``P`` = positives.
"""

from collections.abc import Iterable
from typing import overload

import numpy as np

from cmemd.evaluation.distances import check_distance, distance_matrix
from cmemd.evaluation.rank_counting import Doubt
from cmemd.evaluation.threads import in_threads, parts_of

__all__ = ["Gallery", "Products"]

_TESTS, _MARGIN = 32, 4  # k and m above
_ROWS_AT_ONCE = 128  # features in float64 at a time, by each thread
_PAIRS_AT_ONCE = 16  # their features in float64 stay in the processor's cache
_COLUMNS_AT_ONCE = 1024
_LARGEST = 2.0**100  # values beyond it are not computed in float32


class Side:
    """The features of the queries or of the gallery, prepared for float32 products.

    Args:
        features: ``(N, D)`` of all images, not changed.
        rows: ``(V,)`` row numbers of this side's images.
        distance: ``euclidean`` or ``cosine``.

    Attributes:
        bad: ``(V,)`` whether a feature is not finite.
        squares: ``(V,)`` squared lengths; infinite where float64 cannot hold them.
        scale: ``(V,)`` a power of two next to each length: what the feature is divided by, so that
            products neither overflow nor vanish. Cosine distances take lengths of 1.
        single: ``(V, D)`` float32, the scaled features.
    """

    def __init__(self, features: np.ndarray, rows: np.ndarray, distance: str) -> None:
        check_distance(distance)
        self.features, self.rows, self.distance = features, rows, distance
        images = len(rows)
        self.single = np.empty((images, features.shape[1]), np.float32)
        self.bad = np.empty(images, dtype=bool)
        self.squares, self.scale = np.empty(images), np.ones(images)

    def load(self, part: slice) -> np.ndarray:
        """Return scaled features in float64, zeros for bad ones; keep what is known of them."""
        wide = self.features[self.rows[part]].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("nd,nd->n", wide, wide)
        known = np.isfinite(squares)
        self.bad[part] = False
        if not known.all():  # a finite feature may have a square that is not
            self.bad[part] = ~np.isfinite(wide).all(axis=1)
            wide[~known] = 0
            squares[self.bad[part]] = 0
        self.squares[part] = squares
        lengths = np.sqrt(np.where(known & (squares > 0), squares, 1))
        if self.distance == "cosine":
            wide /= lengths[:, None]
        else:
            self.scale[part] = np.exp2(np.round(np.log2(lengths)))
            if (self.scale[part] != 1).any():
                wide /= self.scale[part, None]
        self.single[part] = wide
        return wide

    def wide(self, numbers: np.ndarray) -> np.ndarray:
        """Return features of this side in float64, of length 1 for cosine distances."""
        wide = self.features[self.rows[numbers]].astype(np.float64)
        if self.distance == "cosine":
            squares = self.squares[numbers]
            wide /= np.sqrt(np.where(squares == 0, 1, squares))[:, None]
        return wide


class Gallery(Side):
    """The gallery, in sections of which queries may skip some.

    Args:
        features: ``(N, D)`` of all images, not changed.
        rows: ``(V,)`` row numbers of its images, in the order of the columns of distances.
        distance: ``euclidean`` or ``cosine``.
        sections: ``(V,)`` integers; None for one section. Columns of products are sorted by them.

    Attributes:
        ends: of each section, the place behind its last column of products.
        column: ``(V,)`` each image's column of products; None where it is the same.
        gaussian: ``(V, k)``, one row for each column of products.
        projected: ``(sections, D, k)``, the product of the transposed scaled features of each
            section with the Gaussian.
        largest: the largest scale.
        half: ``(V,)`` half of each squared length over that of ``largest``, by columns of products.
        term: the same in float32.
        shrink: ``(V,)`` float32, each scale over the largest one; None where all are equal.
    """

    def __init__(
        self,
        features: np.ndarray,
        rows: np.ndarray,
        distance: str,
        sections: np.ndarray | None = None,
    ) -> None:
        order = np.arange(len(rows)) if sections is None else np.argsort(sections, kind="stable")
        super().__init__(features, rows[order], distance)
        lengths = [len(rows)] if sections is None else np.unique(sections, return_counts=True)[1]
        self.ends = np.cumsum(lengths).tolist()
        self.column = None
        if (np.diff(order) != 1).any():
            self.column = np.empty(len(rows), np.intp)
            self.column[order] = np.arange(len(rows))
        self.gaussian = np.random.default_rng(0).standard_normal((len(rows), _TESTS))
        self.projected = np.zeros((len(self.ends), features.shape[1], _TESTS))
        parts = [
            (section, slice(start + part.start, start + part.stop))
            for section, (start, end) in enumerate(zip([0, *self.ends], self.ends, strict=False))
            for part in parts_of(end - start, _ROWS_AT_ONCE)
        ]
        done = in_threads(lambda part: self.load(part[1]).T @ self.gaussian[part[1]], parts)
        for (section, _), projected in zip(parts, done, strict=True):
            self.projected[section] += projected
        self.any_bad = bool(self.bad.any())
        largest = self.scale.max()
        self.largest = float(largest)
        self.half = self.squares / largest / largest / 2
        with np.errstate(over="ignore"):  # then the tolerance is infinite
            self.term = self.half.astype(np.float32)
        self.shrink = None
        if (self.scale != largest).any():
            self.shrink = (self.scale / largest).astype(np.float32)

    @overload
    def columns_of(self, numbers: np.ndarray) -> np.ndarray: ...

    @overload
    def columns_of(self, numbers: slice) -> np.ndarray | slice: ...

    def columns_of(self, numbers: np.ndarray | slice) -> np.ndarray | slice:
        """Return the columns of products of images."""
        return numbers if self.column is None else self.column[numbers]


class Products:
    """Distances of some queries to a gallery.

    Args:
        features: ``(N, D)`` of all images.
        rows: ``(Q,)`` row numbers of the queries.
        gallery: the gallery.
        searched: numbers of queries, and how many sections of the gallery these search, counted
            from the first; together all queries. None: all search everything.
    """

    def __init__(
        self,
        features: np.ndarray,
        rows: np.ndarray,
        gallery: Gallery,
        searched: Iterable[tuple[np.ndarray, int]] | None = None,
    ) -> None:
        self.gallery = gallery
        if searched is None:
            searched = [(np.arange(len(rows)), len(gallery.ends))]
        groups = [group for group in searched if len(group[0])]
        order = np.concatenate([of_group for of_group, _ in groups])
        self.row = np.empty(len(rows), np.intp)  # of each query, in the arrays below
        self.row[order] = np.arange(len(rows))
        self.queries = Side(features, rows[order], gallery.distance)
        self.products = np.empty((len(rows), len(gallery.rows)), np.float32)
        self._errors = np.empty(len(rows))
        start = 0
        for of_group, sections in groups:
            end = start + len(of_group)
            self._multiply(slice(start, end), sections)
            start = end
        self.tolerance = self._tolerance()

    @property
    def bad(self) -> np.ndarray:
        """``(Q,)`` booleans: the queries whose features are not all finite."""
        return self.queries.bad[self.row]

    def _multiply(self, part: slice, sections: int) -> None:
        """Compute the products of some queries, and measure their error."""
        gallery, products = self.gallery, self.products[part]
        times, end = gallery.projected[:sections].sum(axis=0), gallery.ends[sections - 1]
        errors = np.empty((len(products), _TESTS))
        for of_part in parts_of(len(products), _ROWS_AT_ONCE):
            of_all = slice(part.start + of_part.start, part.start + of_part.stop)
            errors[of_part] = -self.queries.load(of_all) @ times
        np.matmul(self.queries.single[part], gallery.single[:end].T, out=products[:, :end])
        products[:, end:] = 0  # the caller ignores these
        for columns in parts_of(end, _COLUMNS_AT_ONCE):
            errors += products[:, columns].astype(np.float64) @ gallery.gaussian[columns]
        self._errors[part] = _MARGIN * np.sqrt(np.mean(np.square(errors), axis=1))

    def _tolerance(self) -> np.ndarray:
        """Return the bound of the error of each query's values, ``(Q,)``."""
        gallery, queries = self.gallery, self.queries
        # Distances that agree in all but their last bits count as equal (``rank_order``), and
        # float64 rounds too: neither is more than this part of the largest terms.
        last_bits = 4 * len(gallery.rows) * np.finfo(np.float64).eps
        rounding = 2.0**-24  # of float32: of the term, of the value, and of a positive's value
        if gallery.distance == "cosine":
            return self._errors + 2 * last_bits + 2 * rounding
        with np.errstate(over="ignore", invalid="ignore"):
            term = gallery.half.max() * (gallery.largest / queries.scale)
            terms = term + queries.squares / gallery.largest / queries.scale / 2
            tolerance = self._errors + last_bits * terms + rounding * (3 * term + 4)
        tolerance[~(term < _LARGEST)] = np.inf
        return tolerance

    def block(self, numbers: np.ndarray, positives: np.ndarray) -> tuple[np.ndarray, Doubt]:
        """Return values that order as distances do, and how to settle close ones.

        Args:
            numbers: ``(b,)`` numbers of queries, all of one identity.
            positives: ``(P,)`` columns of their identity, in rising order.

        Returns:
            ``(b, V)`` values in float32, which are distances but for a factor and a constant of
            each query. Their error is at most the doubt's tolerance. Those of positives are
            computed in float64, then rounded.
        """
        gallery, queries = self.gallery, self.queries
        numbers = self.row[numbers]
        of_positives = gallery.columns_of(positives)
        wide, wide_positives = queries.wide(numbers), gallery.wide(of_positives)  # (b, D), (P, D)

        def exact(of_block: np.ndarray, columns: np.ndarray) -> np.ndarray:
            products = np.empty(len(columns))
            place = np.searchsorted(positives, columns)  # among the positives
            known = np.isin(columns, positives)
            columns = gallery.columns_of(columns)
            edges = np.flatnonzero(np.diff(of_block, prepend=-1, append=-1))
            for start, end in zip(edges[:-1], edges[1:], strict=True):
                for first in range(start, end, _PAIRS_AT_ONCE):
                    pairs = np.arange(first, min(first + _PAIRS_AT_ONCE, end))
                    old, new = pairs[known[pairs]], pairs[~known[pairs]]
                    # Equal features get equal products here, unlike in a matrix product.
                    for of, features in (
                        (old, wide_positives[place[old]]),
                        (new, gallery.wide(columns[new])),
                    ):
                        products[of] = np.einsum("pd,d->p", features, wide[of_block[start]])
            return self._distances(numbers[of_block], columns, products)

        def everything() -> np.ndarray:
            features, of_queries = gallery.features, queries.rows[numbers]
            rows = gallery.rows[gallery.columns_of(slice(None))]
            parts = [
                distance_matrix(features[of_queries], features[rows[of]], gallery.distance)
                for of in parts_of(len(rows), _COLUMNS_AT_ONCE)
            ]
            return np.concatenate(parts, axis=1)

        values = self.products[numbers]
        if gallery.shrink is not None:
            values *= gallery.shrink
        products = wide @ wide_positives.T
        if gallery.distance == "cosine":
            np.negative(values, out=values)
            np.negative(products, out=products)
        else:
            ratio = gallery.largest / queries.scale[numbers, None]
            with np.errstate(over="ignore", invalid="ignore"):  # where the tolerance is infinite
                short = np.float32(1) if (ratio == 1).all() else ratio.astype(np.float32)
                np.subtract(gallery.term * short, values, out=values)
                products *= ratio / gallery.largest / gallery.largest
                products = gallery.half[of_positives] * ratio - products
        values[:, of_positives] = products
        if gallery.any_bad or queries.bad[numbers].any():
            values[queries.bad[numbers][:, None] | gallery.bad] = np.inf
        if gallery.column is not None:
            values = np.take(values, gallery.column, axis=1)
        return values, Doubt(self.tolerance[numbers], exact, everything)

    def _distances(
        self, numbers: np.ndarray, columns: np.ndarray, products: np.ndarray
    ) -> np.ndarray:
        """Turn exact products into distances: infinity where a feature is not finite."""
        gallery, queries = self.gallery, self.queries
        if gallery.distance == "cosine":
            distances = 1 - products
        else:
            distances = -2 * products + queries.squares[numbers] + gallery.squares[columns]
        distances[queries.bad[numbers] | gallery.bad[columns]] = np.inf
        return distances
