"""Uniform transport of few rows and columns, by a fixed sequence of tensor operations.

Shape legend: B problems, n rows, m columns, L = lcm(n, m) shares of a side, T table entries.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["LARGEST", "assignment_plan"]

LARGEST = 8

# Size -> into how many parts the rows are divided, then each part again, down to single rows.
# Chosen by measurement. Other sizes: all permutations at once.
_DIVISIONS = {6: (2, 3), 7: (2, 2, 2), 8: (2, 2, 2)}


class Stage(NamedTuple):
    """How a table follows from the one below: the least sum over all ways to deal columns."""

    below: Tensor  # (parts, T * ways), numbers of the entries to add
    flat: Tensor  # the same, (parts * T * ways,)
    ways: Tensor  # (ways, 1), their numbers 0, 1, ...


def assignment_plan(cost: Tensor) -> Tensor:
    """Return optimal plans for uniform marginals, where L = lcm(n, m) <= ``LARGEST``.

    Each row is split into L/n equal shares and each column into L/m, which makes an assignment
    problem. It is solved by dividing. A table holds, for a block of rows and each subset of as many
    columns, the least cost of matching them. The table of a block is the least sum of its parts'
    tables over all ways to deal its columns to them. The best ways, followed back from all rows and
    columns, are the matching.

    Args:
        cost: (B, n, m), finite.

    Returns:
        (B, n, m).
    """
    batch, n, m = cost.shape
    size = math.lcm(n, m)
    stages = _stages(n, m, cost.device)
    # Problems last: a table's entries are then rows that are copied and added whole.
    table = cost.flatten(1).t().contiguous()  # (n m, B)
    spare = int(math.prod(_divisions(size)) > size)
    if spare:  # an entry of 0 at the end, for parts without rows
        table = functional.pad(table, (0, 0, 0, 1))
    sums: list[Tensor] = []
    for below, flat, ways in stages:
        if sums:
            table = sums[-1].amin(1)  # (T, B)
        parts = table.index_select(0, flat).view(len(below), -1, len(ways), batch)
        sums.append(parts.sum(0))  # (T, ways, B)
    entry: Tensor | None = None
    for (below, _, ways), total in zip(reversed(stages), reversed(sums), strict=True):
        if entry is None:  # of all rows and columns: the only one
            way = _first_least(total, ways)
        else:
            total = total.gather(0, entry[:, None].expand(-1, len(ways), -1))
            way = _first_least(total, ways).add(entry, alpha=len(ways))
        way = way.view(1, -1).expand(len(below), -1)
        entry = below.gather(1, way).view(-1, batch)  # a row for each block below
    assert entry is not None, "there is at least one stage"
    plan = cost.new_zeros(batch, n * m + spare).scatter_(1, entry.t(), 1 / size, reduce="add")
    return plan[:, : n * m].reshape(batch, n, m)


def _first_least(total: Tensor, ways: Tensor) -> Tensor:
    """Return the index of the first minimum of (T, ways, B) along ways, (T, B).

    ``total.min(1).indices`` gives the same. On the CPU it takes several times as long, and far
    longer on a busy machine, because it shares even the smallest work among threads.
    """
    least = total == total.amin(1, keepdim=True)
    return torch.where(least, ways, len(ways)).amin(1)


def _divisions(size: int) -> tuple[int, ...]:
    return _DIVISIONS.get(size, (size,))


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # PyTorch's lacks types
def _stages(n: int, m: int, device: torch.device) -> list[Stage]:
    """Return the stages, a constant to ``torch.compile``, which would trace a plain cache."""
    return _build_stages(n, m, device)


@lru_cache(maxsize=64)
def _build_stages(n: int, m: int, device: torch.device) -> list[Stage]:
    """Return the stages from single rows up to all rows, on row-major (n, m) costs."""
    size = math.lcm(n, m)
    divisions = _divisions(size)
    blocks = [[size]]  # numbers of rows, coarse to fine
    for parts in divisions:
        blocks.append([part for block in blocks[-1] for part in _divide(block, parts)])
    rows = iter(range(size))
    # Of each block: subset of columns -> number of its entry.
    entries: list[dict[tuple[int, ...], int]] = [
        _costs_of_row(next(rows), n, m) if block else {(): n * m} for block in blocks[-1]
    ]
    stages = []
    for parts, coarser in zip(reversed(divisions), reversed(blocks[:-1]), strict=True):
        below: list[list[list[int]]] = []  # entry, way, part
        merged = []
        for block, first in zip(coarser, range(0, len(entries), parts), strict=True):
            children = entries[first : first + parts]
            subsets = list(combinations(range(size), block))
            merged.append({subset: len(below) + i for i, subset in enumerate(subsets)})
            below += [
                [
                    [child[share] for child, share in zip(children, shares, strict=True)]
                    for shares in _deals(subset, _divide(block, parts))
                ]
                for subset in subsets
            ]
        ways = max(map(len, below))
        # A block of fewer rows has fewer ways: its last one again changes no minimum.
        below = [entry + entry[-1:] * (ways - len(entry)) for entry in below]
        index = torch.tensor(below, device=device).permute(2, 0, 1).flatten(1).contiguous()
        stages.append(Stage(index, index.flatten(), torch.arange(ways, device=device)[:, None]))
        entries = merged
    return stages


def _costs_of_row(row: int, n: int, m: int) -> dict[tuple[int, ...], int]:
    """Return each column's share -> index of its cost for a share of a row."""
    size = math.lcm(n, m)
    return {(column,): row * n // size * m + column * m // size for column in range(size)}


def _divide(rows: int, parts: int) -> list[int]:
    """Return the sizes of equal parts, the smaller first."""
    return [(rows + part) // parts for part in range(parts)]


def _deals(columns: tuple[int, ...], sizes: list[int]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Yield the ways to deal columns to parts of these sizes; the last part gets low ones first.

    >>> list(_deals((0, 1, 2), [2, 1]))
    [((1, 2), (0,)), ((0, 2), (1,)), ((0, 1), (2,))]
    """
    if not sizes:
        yield ()
        return
    for last in combinations(columns, sizes[-1]):
        rest = tuple(column for column in columns if column not in last)
        for others in _deals(rest, sizes[:-1]):
            yield *others, last
