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

import numpy as np

from cmemd.evaluation.distances import check_distance, distance_matrix
from cmemd.evaluation.rank_counting import Doubt
from cmemd.evaluation.threads import in_threads, parts_of

__all__ = ["Products", "Side"]

_TESTS, _MARGIN = 32, 4  # k and m above
_ROWS_AT_ONCE = 128  # features in float64 at a time, by each thread
_QUERIES_AT_ONCE = 512  # of a matrix product
_PAIRS_AT_ONCE = 16  # their features in float64 stay in the processor's cache
_COLUMNS_AT_ONCE = 1024


class Side:
    """The features of the queries or of the gallery, prepared for float32 products.

    Args:
        features: ``(N, D)`` of all images, not changed.
        rows: ``(V,)`` row numbers of this side's images.
        distance: ``euclidean`` or ``cosine``.
        times: ``(D, k)``, what to multiply the features by; None for the Gaussian ``(k, V)``.

    Attributes:
        bad: ``(V,)`` whether a feature is not finite.
        squares: ``(V,)`` squared lengths; infinite where float64 cannot hold them.
        scale: ``(V,)`` a power of two next to each length: what the feature is divided by, so that
            products neither overflow nor vanish. Cosine distances take lengths of 1.
        single: ``(V, D)`` float32, the scaled features.
        projected: of the scaled features in float64: ``(V, k)`` their product with ``times``, or
            ``(D, k)`` that of their transpose with the Gaussian.
    """

    def __init__(
        self,
        features: np.ndarray,
        rows: np.ndarray,
        distance: str,
        times: np.ndarray | None = None,
    ) -> None:
        check_distance(distance)
        self.features, self.rows, self.distance = features, rows, distance
        images, dimension = len(rows), features.shape[1]
        self.single = np.empty((images, dimension), np.float32)
        self.bad = np.empty(images, dtype=bool)
        self.squares, self.scale = np.empty(images), np.ones(images)
        self.gaussian: np.ndarray | None = None
        if times is None:
            self.gaussian = np.random.default_rng(0).standard_normal((images, _TESTS))
            self.projected = np.zeros((dimension, _TESTS))
        else:
            self.projected = np.empty((images, _TESTS))

        def project(part: slice) -> np.ndarray:
            wide = self._load(part)
            self.single[part] = wide
            return wide @ times if self.gaussian is None else wide.T @ self.gaussian[part]

        parts = parts_of(images, _ROWS_AT_ONCE)
        for part, projected in zip(parts, in_threads(project, parts), strict=True):
            if times is None:
                self.projected += projected
            else:
                self.projected[part] = projected

    def _load(self, part: slice) -> np.ndarray:
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
            return wide
        self.scale[part] = np.exp2(np.round(np.log2(lengths)))
        if (self.scale[part] != 1).any():
            wide /= self.scale[part, None]
        return wide

    def wide(self, numbers: np.ndarray) -> np.ndarray:
        """Return features of this side in float64, of length 1 for cosine distances."""
        wide = self.features[self.rows[numbers]].astype(np.float64)
        if self.distance == "cosine":
            squares = self.squares[numbers]
            wide /= np.sqrt(np.where(squares == 0, 1, squares))[:, None]
        return wide


class Products:
    """Distances of some queries to a gallery.

    Args:
        features: ``(N, D)`` of all images.
        rows: ``(Q,)`` row numbers of the queries.
        gallery: the gallery.
    """

    def __init__(self, features: np.ndarray, rows: np.ndarray, gallery: Side) -> None:
        self.gallery = gallery
        self.queries = Side(features, rows, gallery.distance, gallery.projected)
        self.products = np.empty((len(rows), len(gallery.rows)), np.float32)
        self._errors = np.empty(len(rows))
        for _ in in_threads(self._multiply, parts_of(len(rows), _QUERIES_AT_ONCE)):
            pass
        self.tolerance = self._tolerance()

    def _multiply(self, part: slice) -> None:
        """Compute the products of some queries, and measure their error."""
        gallery, products = self.gallery, self.products[part]
        assert gallery.gaussian is not None, "a gallery, not queries"
        np.matmul(self.queries.single[part], gallery.single.T, out=products)
        errors = -self.queries.projected[part]
        for columns in parts_of(len(gallery.rows), _COLUMNS_AT_ONCE):
            errors += products[:, columns].astype(np.float64) @ gallery.gaussian[columns]
        self._errors[part] = _MARGIN * np.sqrt(np.mean(np.square(errors), axis=1))

    def _tolerance(self) -> np.ndarray:
        """Return the bound of the error of each query's distances, ``(Q,)``."""
        gallery, queries = self.gallery, self.queries
        # Distances that agree in all but their last bits count as equal (``rank_order``), and
        # float64 rounds too: neither is more than this part of the largest terms.
        last_bits = 4 * len(gallery.rows) * np.finfo(np.float64).eps
        if gallery.distance == "cosine":
            return self._errors + 2 * last_bits
        with np.errstate(over="ignore", invalid="ignore"):
            largest = queries.scale * gallery.scale.max()
            terms = queries.squares + gallery.squares.max()
            return 2 * largest * self._errors + last_bits * terms

    def block(self, numbers: np.ndarray, positives: np.ndarray) -> tuple[np.ndarray, Doubt]:
        """Return distances of queries of one identity, and how to settle close ones.

        Args:
            numbers: ``(b,)`` numbers of queries.
            positives: ``(P,)`` columns of their identity.

        Returns:
            ``(b, V)`` distances in float64, whose error is at most the doubt's tolerance; those of
            positives are computed in float64.
        """
        gallery, queries = self.gallery, self.queries
        wide = queries.wide(numbers)  # (b, D)

        def exact(of_block: np.ndarray, columns: np.ndarray) -> np.ndarray:
            products = np.empty(len(columns))
            edges = np.flatnonzero(np.diff(of_block, prepend=-1, append=-1))
            for start, end in zip(edges[:-1], edges[1:], strict=True):
                for first in range(start, end, _PAIRS_AT_ONCE):
                    part = slice(first, min(first + _PAIRS_AT_ONCE, end))
                    # Equal features get equal products here, unlike in a matrix product.
                    products[part] = np.einsum(
                        "pd,d->p", gallery.wide(columns[part]), wide[of_block[start]]
                    )
            return self._finish(numbers[of_block], columns, products)

        def everything() -> np.ndarray:
            features, of_queries = gallery.features, queries.rows[numbers]
            parts = [
                distance_matrix(features[of_queries], features[gallery.rows[of]], gallery.distance)
                for of in parts_of(len(gallery.rows), _COLUMNS_AT_ONCE)
            ]
            return np.concatenate(parts, axis=1)

        scaled = np.multiply(self.products[numbers], queries.scale[numbers, None], dtype=np.float64)
        if (gallery.scale != 1).any():
            scaled *= gallery.scale
        distances = self._finish(numbers[:, None], slice(None), scaled)
        products = wide @ gallery.wide(positives).T
        distances[:, positives] = self._finish(numbers[:, None], positives, products)
        return distances, Doubt(self.tolerance[numbers], exact, everything)

    def _finish(
        self, numbers: np.ndarray, columns: np.ndarray | slice, products: np.ndarray
    ) -> np.ndarray:
        """Turn products into distances, in place: infinity where a feature is not finite."""
        gallery, queries = self.gallery, self.queries
        if gallery.distance == "cosine":
            np.subtract(1, products, out=products)
        else:
            products *= -2
            products += queries.squares[numbers]
            products += gallery.squares[columns]
        bad = queries.bad[numbers] | gallery.bad[columns]
        if bad.any():
            products[bad] = np.inf
        return products
