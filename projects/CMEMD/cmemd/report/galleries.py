"""Ranked galleries of queries that a stated rule chooses."""

from collections.abc import Iterator

import numpy as np

from cmemd.evaluation.details import FirstTrial
from cmemd.evaluation.rank_counting import rank_order
from cmemd.evaluation.samples import Samples
from cmemd.report.blocks import Missing, Section, Strip, Tile
from cmemd.report.run import Run

__all__ = ["choose_queries", "galleries_section"]

_TOP = 8  # images that count in a row
_REMOVED = 3  # at most as many removed ones among them
_EACH = {"random": 3, "worst": 2, "best": 2, "confused": 3}
_RULES = {
    "random": "Random: drawn with seed {seed}",
    "best": "Best: highest average precision",
    "worst": "Worst: lowest average precision",
    "confused": "Nearest confusion: a wrong first match, at the smallest distance",
}


def galleries_section(run: Run, found: FirstTrial, seed: int) -> Section:
    """Return the first ranks of ten queries."""
    section = Section("galleries", "Ranked galleries")
    samples = run.samples
    unit = "cosine similarity" if run.entry["metric"] == "cosine" else "squared Euclidean distance"
    asking, searched = found.protocol.query.modality, found.protocol.gallery.modality
    sides = f"{asking.name.capitalize()} queries, {searched.name.lower()} gallery"
    if found.protocol.mixture is not None:
        sides = "Queries and gallery of both modalities,"
    section.lead = (
        f"{sides} of the first of "
        f"{found.protocol.trials} trials. Four rules choose the queries, none is picked by hand. "
        f"Under each image: rank, {unit}, identity and camera."
    )
    for rule, query in choose_queries(found, seed):
        section.blocks.append(_strip(run, samples, found, query, _RULES[rule].format(seed=seed)))
    if run.images.absent:
        section.missing.append(
            Missing(
                f"{len(run.images.absent)} of the images",
                f"not at hand or unreadable, such as {run.images.absent[0]}",
                "--images FOLDER of the data set",
            )
        )
    return section


def choose_queries(found: FirstTrial, seed: int) -> list[tuple[str, int]]:
    """Return (rule, place among the queries) of the rows to show; each query at most once.

    Args:
        found: the ranked trial.
        seed: of the random ones.
    """
    ap = found.scores.ap[0]
    counted = np.flatnonzero(~np.isnan(ap))
    by_ap = counted[np.argsort(-ap[counted], kind="stable")]
    nearest = np.where(found.hidden, np.inf, found.distances).min(axis=1)
    # A query whose first image is of another person: its match comes later.
    wrong = counted[found.scores.image_rank[0, counted] > 1]
    orders = {
        "random": np.random.default_rng(seed).permutation(counted),
        "worst": by_ap[::-1],
        "best": by_ap,
        "confused": wrong[np.argsort(nearest[wrong], kind="stable")],
    }
    chosen: list[tuple[str, int]] = []
    for rule, order in orders.items():
        taken = {query for _, query in chosen}
        fresh = [query for query in order.tolist() if query not in taken]
        chosen += [(rule, query) for query in fresh[: _EACH[rule]]]
    return chosen


def _strip(run: Run, samples: Samples, found: FirstTrial, query: int, title: str) -> Strip:
    row = found.rows.queries[query]
    ap, rank = found.scores.ap[0, query], found.scores.image_rank[0, query]
    tiles = [_tile(run, samples, row, "query", "query")]
    removed = 0
    for column, number in _shown(found, query):
        image = found.rows.gallery[column]
        distance = found.distances[query, column]
        score = 1 - distance if run.entry["metric"] == "cosine" else distance
        if number is None:
            removed += 1
            tiles.append(_tile(run, samples, image, "removed", f"removed · {score:.3f}"))
            continue
        right = samples.pids[image] == samples.pids[row]
        mark = "right" if right else "wrong"
        tiles.append(_tile(run, samples, image, mark, f"{number} · {score:.3f}"))
    note = f"Average precision {100 * ap:.1f} %, first match at rank {rank:.0f}."
    if removed:
        note += " Images marked as removed are not in this query's gallery by the protocol."
    return Strip(title, tiles, note)


def _shown(found: FirstTrial, query: int) -> Iterator[tuple[int, int | None]]:
    """Yield (column, rank) of the nearest images; removed ones have no rank."""
    number = removed = 0
    for column in rank_order(found.distances[query : query + 1])[0].tolist():
        if found.hidden[query, column]:
            removed += 1
            if removed <= _REMOVED:
                yield column, None
            continue
        number += 1
        yield column, number
        if number == _TOP:
            return


def _tile(run: Run, samples: Samples, row: int, mark: str, heading: str) -> Tile:
    label = f"id {samples.pids[row]} · cam {samples.camids[row]}"
    words = {"query": "Query", "right": "Right", "wrong": "Wrong", "removed": "Removed"}[mark]
    return Tile(
        run.images.thumbnail(str(samples.paths[row])), f"{words}: {label}", mark, heading, label
    )
