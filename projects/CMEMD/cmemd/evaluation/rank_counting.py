"""Counting of ranks: each query's images are sorted once, each trial reads its ranks off that.

Counters of several trials share a 64-bit word, so that one addition counts in all of them. What
the ranks mean is written in ``cmemd.evaluation.ranking``.

Shape legend: ``Q`` = queries, ``b`` = queries of a block, all of one identity, ``V`` = gallery
images of all trials, ``P`` = positives among them, ``T`` = trials, ``I`` = identities of a trial.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

__all__ = ["Doubt", "Galleries", "PositiveRanks", "positive_ranks", "query_blocks", "rank_order"]

# A block's arrays of (b, V) stay in the processor's cache.
_QUERIES_AT_ONCE = 48
# An 8-bit counter counts so many images; 64-bit words hold eight counters.
_COUNTED_AT_ONCE = 255
_SHORT = (1 << 32) - 1  # the low bits of a float32's key
# Beyond these, computing all distances again is faster than computing pairs.
_NEIGHBOURS, _SHARE = 64, 1 / 32


class Doubt(NamedTuple):
    """How exact the distances of a block of queries are, and how to get exact ones.

    They may be any values that order as distances do.

    Attributes:
        tolerance: ``(b,)`` how close to a positive's an image's value can be and yet stand on the
            other side of it.
        exact: from numbers of queries in the block and columns, ``(n,)`` each, to ``(n,)`` exact
            distances.
        everything: returns all exact distances, ``(b, V)``.
    """

    tolerance: np.ndarray
    exact: Callable[[np.ndarray, np.ndarray], np.ndarray]
    everything: Callable[[], np.ndarray]


class PositiveRanks(NamedTuple):
    """Ranks of the positives of a block of queries, in each trial.

    Attributes:
        found: ``(b, P, T)`` booleans: the positive is in the trial's gallery and not ignored.
        rank: ``(b, P, T)`` its rank among the trial's images, from 1; meaningless unless found.
            Positives come from near to far.
        identity_rank: ``(b, T)`` rank of the first found positive among the first images of each
            identity, from 1; meaningless where none is found.
    """

    found: np.ndarray
    rank: np.ndarray
    identity_rank: np.ndarray


def rank_order(distances: np.ndarray) -> np.ndarray:
    """Return gallery columns from near to far; equal distances keep the gallery's order.

    Two distances count as equal where they agree in all but the last ``log2(V)`` bits of a
    float64. For the 6775 images of SYSU-MM01 that is 12 digits, the precision of a distance's sums.

    Args:
        distances: ``(Q, V)``; NaN ranks behind infinity. All bits of float32 count.

    Returns:
        ``(Q, V)`` column numbers.
    """
    # Sorting such numbers is stable, and several times faster than sorting indices by number.
    images = distances.shape[1]
    columns = np.arange(images)
    if distances.dtype == np.float32:
        keys, low = _short_keys(distances, columns), _SHORT
    else:
        keys, low = _keys(distances, columns, images), _low_bits(images)
    keys.sort(axis=1)
    keys &= low
    return keys


def _short_keys(distances: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Do as ``_keys`` for float32, which leaves half of the bits to the column."""
    bits = np.add(distances, np.float32(0)).view(np.int32)
    bits ^= (bits >> 31) & np.int32(np.iinfo(np.int32).max)
    keys = bits.astype(np.int64)
    keys <<= 32
    keys |= columns
    return keys


def _keys(distances: np.ndarray, columns: np.ndarray, images: int) -> np.ndarray:
    """Return integers that order as distances and then columns do.

    As integers, floats of one sign keep their order, so the column fits into the last bits.
    """
    keys = np.add(distances, 0.0, dtype=np.float64).view(np.int64)  # adding turns -0 into 0
    keys ^= (keys >> 63) & np.iinfo(np.int64).max  # below zero their order is reversed
    keys &= ~_low_bits(images)
    keys |= columns
    return keys


def _low_bits(images: int) -> int:
    return (1 << (images - 1).bit_length()) - 1


class Galleries:
    """The galleries of all trials, arranged for counting.

    Args:
        pids: ``(V,)`` identities.
        members: ``(T, V)`` booleans.
    """

    def __init__(self, pids: np.ndarray, members: np.ndarray) -> None:
        self.pids, self.members = pids, members
        by_identity = np.argsort(pids, kind="stable")
        self.of_identities = [
            _table(pids, by_identity[of_trial[by_identity]]) for of_trial in members
        ]
        # One addition of 64-bit words counts in eight trials. One extra column, in no trial.
        ones = np.zeros((len(pids) + 1, -(-len(members) // 8) * 8), np.uint8)
        ones[:-1, : len(members)] = members.T
        self.words = np.ascontiguousarray(ones.view(np.uint64).T)  # (T / 8, V + 1)


def _table(pids: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return columns, sorted by identity, as a table ``(images, I)``.

    Identities of fewer images repeat their last one. A minimum down the table is then a minimum
    over each identity, of all identities at once.
    """
    if len(columns) == 0:
        return np.empty((1, 0), dtype=np.intp)
    counts = np.unique(pids[columns], return_counts=True)[1]
    starts = np.cumsum(counts) - counts
    return columns[starts + np.minimum(np.arange(counts.max())[:, None], counts - 1)]


def query_blocks(pids: np.ndarray) -> Iterator[np.ndarray]:
    """Yield query numbers in blocks of one identity each: they share their positives.

    Args:
        pids: ``(Q,)`` identities.
    """
    order = np.argsort(pids, kind="stable")
    edges = np.flatnonzero(np.diff(pids[order])) + 1
    for queries in np.split(order, edges):
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            yield queries[start : start + _QUERIES_AT_ONCE]


def positive_ranks(
    distances: np.ndarray, positives: np.ndarray, galleries: Galleries, doubt: Doubt | None = None
) -> PositiveRanks:
    """Return the ranks of the positives of queries of one identity.

    Args:
        distances: ``(b, V)``, NaN for ignored images.
        positives: ``(P,)`` columns of their identity, at least one.
        galleries: the trials.
        doubt: of distances that are not exact; the ranks are those of exact ones.
    """
    order = rank_order(distances)  # (b, V)
    place = _places(order)  # (b, V): where each image stands
    if doubt is not None and not _settle(distances, order, place, positives, doubt):
        distances = doubt.everything()
        order = rank_order(distances)
        place = _places(order)
    kept = np.sum(~np.isnan(distances), axis=1)  # (b,): ignored images stand behind these
    nearest_first = np.argsort(place[:, positives], axis=1)  # (b, P)
    columns = positives[nearest_first]
    places = np.take_along_axis(place, columns, axis=1)  # (b, P)
    found = galleries.members.T[columns] & (places < kept[:, None])[..., None]  # (b, P, T)
    first_place = np.take_along_axis(places, np.argmax(found, axis=1), axis=1)  # (b, T)
    return PositiveRanks(
        found, _ranks(order, places, galleries), _identity_ranks(place, first_place, galleries)
    )


def _settle(
    distances: np.ndarray,
    order: np.ndarray,
    place: np.ndarray,
    positives: np.ndarray,
    doubt: Doubt,
) -> bool:
    """Put images that are too close to a positive where their exact distances do.

    Images on one side of a positive may stand in any order, so only these need exact distances.

    Args:
        distances: ``(b, V)``, NaN for ignored images.
        order: ``(b, V)`` columns from near to far, changed in place.
        place: ``(b, V)`` its inverse, changed in place.
        positives: ``(P,)`` columns.
        doubt: of the distances.

    Returns:
        Whether it did; not where too many images are close.
    """
    if not np.isfinite(doubt.tolerance).all():
        return False
    queries, size = order.shape
    of_positives = place[:, positives].astype(np.intp)
    starts = size * np.arange(queries)[:, None]
    row_of_positive = np.repeat(np.arange(queries), len(positives))
    close = []  # places, numbered from the first query's first to the last query's last
    with np.errstate(invalid="ignore"):  # infinity - infinity is no number, so not close
        for step in (1, -1):
            row, at = row_of_positive, of_positives.ravel()
            value = distances[:, positives].ravel()
            for _ in range(_NEIGHBOURS):
                at = at + step
                inside = (at >= 0) & (at < size)
                row, at, value = row[inside], at[inside], value[inside]
                near = np.abs(distances[row, order[row, at]] - value) <= doubt.tolerance[row]
                row, at, value = row[near], at[near], value[near]
                if not len(row):
                    break
                close.append(row * size + at)
            if len(row):
                return False
    if not close:
        return True
    # Positives and images that are close to them stand in runs of neighbouring places.
    marked = np.zeros(order.size, np.int8)
    marked[np.concatenate(close)] = 1
    marked[of_positives + starts] = -1
    runs = np.flatnonzero(marked)
    run = np.cumsum((np.diff(runs, prepend=-2) != 1) | (runs % size == 0))
    open_runs = np.zeros(run[-1] + 1, dtype=bool)
    open_runs[run[marked[runs] > 0]] = True  # those with an image besides positives
    runs, run = runs[open_runs[run]], run[open_runs[run]]
    if len(runs) > _SHARE * order.size:
        return False
    row, columns = runs // size, order.ravel()[runs]
    columns = columns[np.lexsort((_keys(doubt.exact(row, columns), columns, size), run))]
    order.ravel()[runs] = columns
    place[row, columns] = runs - row * size
    return True


def _places(order: np.ndarray) -> np.ndarray:
    """Return the inverse of each row's permutation, ``(b, V)``, in the smallest integer type."""
    queries, size = order.shape
    place = np.empty((queries, size), np.uint16 if size < 2**16 else np.uint32)
    flat = order + size * np.arange(queries)[:, None]  # put_along_axis takes four times as long
    place.ravel()[flat.ravel()] = np.tile(np.arange(size, dtype=place.dtype), queries)
    return place


def _ranks(order: np.ndarray, places: np.ndarray, galleries: Galleries) -> np.ndarray:
    """Count the images of each trial up to and including each positive's place.

    Args:
        order: ``(b, V)`` columns from near to far.
        places: ``(b, P)`` places of the positives.
        galleries: the trials.

    Returns:
        ``(b, P, T)``: the rank of a positive in each trial that has it.
    """
    last = int(places.max()) + 1  # the place behind the last positive
    order = order[:, :last]
    queries, positives = places.shape
    # Sums from edge to edge, then sums of those: faster than a running sum over all images. Edges
    # are the places behind positives, and more of them so that no counter overflows. The extra
    # column, in no trial, starts the sum behind the last place.
    padded = np.concatenate([order, np.full((queries, 1), len(galleries.words[0]) - 1)], axis=1)
    more = np.arange(0, last, _COUNTED_AT_ONCE)
    edges = np.empty((queries, positives + len(more)), np.intp)
    edges[:, :positives] = places
    edges[:, :positives] += 1
    edges[:, positives:] = more
    edges.sort(axis=1)
    ends = np.searchsorted(more, places, side="right") + np.arange(positives) - 1  # (b, P)
    empty = edges[:, :-1] == edges[:, 1:]
    flat = (edges + (last + 1) * np.arange(queries)[:, None]).ravel()
    counts = np.empty(padded.shape, np.uint64)
    ranks = np.empty((queries, positives, len(galleries.words), 8), np.int64)
    for number, word in enumerate(galleries.words):
        np.take(word, padded, out=counts, mode="clip")  # no column is out of range; clip is fast
        between = np.add.reduceat(counts.ravel(), flat).reshape(edges.shape)[:, :-1]
        between[empty] = 0  # reduceat returns the element there
        sums = np.cumsum(
            between.copy().view(np.uint8).reshape(queries, -1, 8), axis=1, dtype=np.uint32
        )
        ranks[:, :, number] = np.take_along_axis(sums, ends[..., None], axis=1)
    return ranks.reshape(queries, positives, -1)[..., : len(galleries.members)]


def _identity_ranks(place: np.ndarray, first_place: np.ndarray, galleries: Galleries) -> np.ndarray:
    """Count the identities whose first image stands before the first positive, plus one.

    Args:
        place: ``(b, V)``; ignored images stand last.
        first_place: ``(b, T)`` place of each trial's first positive.
        galleries: the trials.

    Returns:
        ``(b, T)`` ranks from 1.
    """
    place = np.ascontiguousarray(place.T)  # (V, b): fetching columns copies whole rows
    ranks = np.empty(first_place.shape)
    for trial, columns in enumerate(galleries.of_identities):
        firsts = place[columns].min(axis=0)  # (I, b)
        ranks[:, trial] = 1 + np.sum(firsts < first_place[:, trial], axis=0)
    return ranks
