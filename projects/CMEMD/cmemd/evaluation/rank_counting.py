"""Counting of ranks: each query's images are sorted once, each trial reads its ranks off that.

Counters of several trials share a 64-bit word, so that one addition counts in all of them. What
the ranks mean is written in ``cmemd.evaluation.ranking``.

Shape legend: ``Q`` = queries, ``b`` = queries of a block, all of one identity, ``V`` = gallery
images of all trials, ``P`` = positives among them, ``T`` = trials, ``I`` = identities of a trial.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

__all__ = ["Galleries", "PositiveRanks", "positive_ranks", "query_blocks", "rank_order"]

# A block's arrays of (b, V) stay in the processor's cache.
_QUERIES_AT_ONCE = 48


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
        distances: ``(Q, V)``; NaN ranks behind infinity.

    Returns:
        ``(Q, V)`` column numbers.
    """
    # As integers, floats of one sign keep their order, so the column fits into the last bits.
    # Sorting such numbers is stable, and several times faster than sorting indices by number.
    columns = np.arange(distances.shape[1])
    low_bits = (1 << int(columns[-1]).bit_length()) - 1
    keys = np.add(distances, 0.0, dtype=np.float64).view(np.int64)  # adding turns -0 into 0
    keys ^= (keys >> 63) & np.iinfo(np.int64).max  # below zero their order is reversed
    keys &= ~low_bits
    keys |= columns
    keys.sort(axis=1)
    keys &= low_bits
    return keys


class Galleries:
    """The galleries of all trials, arranged for counting.

    Args:
        pids: ``(V,)`` identities.
        members: ``(T, V)`` booleans.
    """

    def __init__(self, pids: np.ndarray, members: np.ndarray) -> None:
        self.members = members
        by_identity = np.argsort(pids, kind="stable")
        self.of_identities = [
            _table(pids, by_identity[of_trial[by_identity]]) for of_trial in members
        ]
        # A 16-bit counter holds a rank in fewer than 65,536 images. One addition of 64-bit words
        # then counts in four trials at once.
        counter = np.uint16 if len(pids) < 2**16 else np.uint32
        self.per_word = 8 // np.dtype(counter).itemsize
        # One extra column, in no trial.
        ones = np.zeros((len(pids) + 1, -(-len(members) // self.per_word) * self.per_word), counter)
        ones[:-1, : len(members)] = members.T
        self.words = np.ascontiguousarray(ones.view(np.uint64).T)  # (T / per_word, V + 1)
        self.counter = counter


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
    distances: np.ndarray, positives: np.ndarray, galleries: Galleries
) -> PositiveRanks:
    """Return the ranks of the positives of queries of one identity.

    Args:
        distances: ``(b, V)``, NaN for ignored images.
        positives: ``(P,)`` columns of their identity, at least one.
        galleries: the trials.
    """
    order = rank_order(distances)  # (b, V)
    place = _places(order)  # (b, V): where each image stands
    kept = np.sum(~np.isnan(distances), axis=1)  # (b,): ignored images stand behind these
    nearest_first = np.argsort(place[:, positives], axis=1)  # (b, P)
    columns = positives[nearest_first]
    places = np.take_along_axis(place, columns, axis=1)  # (b, P)
    found = galleries.members.T[columns] & (places < kept[:, None])[..., None]  # (b, P, T)
    first_place = np.take_along_axis(places, np.argmax(found, axis=1), axis=1)  # (b, T)
    return PositiveRanks(
        found, _ranks(order, places, galleries), _identity_ranks(place, first_place, galleries)
    )


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
    queries, size = order.shape
    # Sums from place to place, then sums of those: faster than a running sum over all images. The
    # extra column, in no trial, starts the sum behind the last place.
    padded = np.concatenate([order, np.full((queries, 1), size)], axis=1)
    edges = np.zeros((queries, places.shape[1] + 1), np.intp)
    edges[:, 1:] = places
    edges[:, 1:] += 1
    edges += (size + 1) * np.arange(queries)[:, None]
    counts = np.empty(padded.shape, np.uint64)
    at_places = []
    for word in galleries.words:
        np.take(word, padded, out=counts, mode="clip")  # no column is out of range; clip is fast
        between = np.add.reduceat(counts.ravel(), edges.ravel()).reshape(edges.shape)
        at_places.append(np.cumsum(between[:, :-1], axis=1))
    ranks = np.stack(at_places, axis=2).view(galleries.counter)
    return ranks[..., : len(galleries.members)].astype(np.int64)


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
