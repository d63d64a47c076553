"""CMC with a band over trials, and Rank-1 by camera, time of day, image height, modality gap."""

import contextlib
from datetime import datetime
from pathlib import Path

import numpy as np

from cmemd.data.images import open_image, read_bytes
from cmemd.errors import InputError
from cmemd.evaluation.bootstrap import mean_interval
from cmemd.evaluation.details import gap_by_identity
from cmemd.evaluation.figures import draw_cmc, draw_rates
from cmemd.evaluation.scoring import CMC_RANKS
from cmemd.report.blocks import Missing, Section
from cmemd.report.pictures import chart
from cmemd.report.run import Run

__all__ = ["hours_of", "quartiles", "rates_section", "time_of_day"]

_PARTS = ("night, 0 to 6 h", "morning, 6 to 12 h", "afternoon, 12 to 18 h", "evening, 18 to 24 h")
_EXIF, _TAKEN, _CHANGED = 0x8769, 0x9003, 0x0132
_IMAGES = 20_000  # whose headers are read
_DATED = 631_152_000  # seconds from 1970 to 1990 [C]


def rates_section(run: Run, cmc: np.ndarray | None) -> Section:
    """Return the CMC and Rank-1 by group.

    Args:
        run: the run, with results.
        cmc: ``(T, R)`` of ``cmc_curves``; None draws the ranks of the results file alone.
    """
    section = Section("rates", "CMC, and who is found")
    name = run.entry["protocol"]
    if cmc is None:
        trials = run.entry["per_trial"]
        cmc = _interpolated(np.array([trials[f"rank{rank}"] for rank in CMC_RANKS]).T / 100)
        section.missing.append(
            Missing("The CMC between ranks 1, 5, 10 and 20", "no features", "TEST.SAVE_FEATURES")
        )
    mean = 100 * cmc.mean(0)
    section.blocks.append(
        chart(
            draw_cmc({name: cmc}, f"CMC: {name}"),
            f"CMC of {name}: Rank-1 {mean[0]:.1f} %, Rank-{len(mean)} {mean[-1]:.1f} %.",
            f"The band spans {len(cmc)} trials." if len(cmc) > 1 else "One trial, so no band.",
        )
    )
    if not run.per_query:
        section.missing.append(Missing("Rank-1 by group", "no metrics of each query"))
        return section
    _add_groups(run, section)
    section.lead = (
        "Rank-1 of groups of queries, with 95 % intervals that resample people. Groups with few "
        "people have wide intervals: differences inside them mean nothing."
    )
    return section


def _add_groups(run: Run, section: Section) -> None:
    stored = run.per_query[0]
    rank1 = stored["metrics"][0].astype(np.float64) / 100
    counted = ~np.isnan(rank1)
    rank1, queries = rank1[counted], stored["queries"][counted]
    cameras = np.array([f"camera {camera}" for camera in queries[:, 1].tolist()])
    _add(section, rank1, queries, cameras, "Rank-1 by query camera")
    rows = _rows_of(run, queries)
    if rows is None:
        for what in ("time of day", "image height", "modality gap"):
            missing = run.missing.get("features") or Missing("", "other features than the results'")
            section.missing.append(Missing(f"Rank-1 by {what}", missing.why, missing.remedy))
        return
    heights, hours = _image_facts(run, rows)
    if run.samples.times is not None:  # what a list says comes before what its images say
        listed = hours_of(run.samples.times[rows])
        hours = np.where(listed >= 0, listed, hours)
    known = hours >= 0
    if known.any():
        parts = np.array([time_of_day(hour) for hour in hours[known].tolist()])
        order = [part for part in _PARTS if part in parts]
        _add(section, rank1[known], queries[known], parts, "Rank-1 by time of day", order)
    else:
        why = "no list names a time with a date, and images carry none (EXIF) or are not at hand"
        section.missing.append(Missing("Rank-1 by time of day", why))
    known = heights > 0
    if len(np.unique(heights[known])) > 1:
        groups, order = quartiles(heights[known], "{:.0f} to {:.0f} px")
        _add(section, rank1[known], queries[known], groups, "Rank-1 by image height", order)
    else:
        same = f"all queries are {heights[known][0]:.0f} px high" if known.any() else "no image"
        section.missing.append(Missing("Rank-1 by image height", same))
    gaps = gap_by_identity(run.samples)
    of_query = np.array([gaps.get(pid, np.nan) for pid in queries[:, 0].tolist()])
    known = ~np.isnan(of_query)
    if len(np.unique(of_query[known])) > 1:
        groups, order = quartiles(of_query[known], "{:.2f} to {:.2f}")
        title = "Rank-1 by modality gap of the identity"
        _add(section, rank1[known], queries[known], groups, title, order)
    else:
        section.missing.append(Missing("Rank-1 by modality gap", "too few identities"))


def _add(
    section: Section,
    rank1: np.ndarray,
    queries: np.ndarray,
    groups: np.ndarray,
    title: str,
    order: list[str] | None = None,
) -> None:
    names = order or sorted(set(groups.tolist()), key=lambda name: (len(name), name))
    rates, intervals, labels = [], [], []
    for name in names:
        own = groups == name
        people = queries[own, 0]
        rates.append(rank1[own].mean())
        intervals.append(mean_interval(rank1[own], people))
        labels.append(f"{name}\n{own.sum():,} queries")
    figure = draw_rates(
        labels, np.array(rates), np.array(intervals), title, overall=float(rank1.mean())
    )
    values = "; ".join(f"{n} {100 * r:.1f} %" for n, r in zip(names, rates, strict=True))
    section.blocks.append(chart(figure, f"{title}: {values}."))


def quartiles(values: np.ndarray, words: str) -> tuple[np.ndarray, list[str]]:
    """Return the name of each value's quarter, and the names in rising order.

    Quarters with one range are one group, so that equal values share a group.

    Args:
        values: ``(n,)`` finite numbers.
        words: name of a group, with places for its lowest and highest value.
    """
    edges = np.unique(np.quantile(values, [0.25, 0.5, 0.75]))
    group = np.searchsorted(edges, values, side="left")
    names, order = np.empty(len(values), dtype=object), []
    for number in np.unique(group):
        own = values[group == number]
        order.append(words.format(own.min(), own.max()))
        names[group == number] = order[-1]
    return names.astype(str), list(dict.fromkeys(order))


def time_of_day(hour: int) -> str:
    """Return the part of the day of an hour from 0 to 23."""
    return _PARTS[hour // 6]


def hours_of(seconds: np.ndarray) -> np.ndarray:
    """Return the hour of each time of a list, from 0 to 23 in UTC; -1 for unknown.

    A list may count seconds from any start, such as a video's; these have no hour. Times before
    1990 are taken for such counts.

    Args:
        seconds: ``(n,)``, NaN for unknown.
    """
    known = np.nan_to_num(seconds, nan=-1.0) >= _DATED
    hours = np.where(known, seconds, 0.0) // 3600 % 24
    return np.where(known, hours, -1).astype(int)


def _interpolated(points: np.ndarray) -> np.ndarray:
    """Return CMC values at ranks 1 to 20, straight between the four that are known."""
    ranks = np.arange(1, CMC_RANKS[-1] + 1)
    return np.array([np.interp(ranks, CMC_RANKS, trial) for trial in points])


def _rows_of(run: Run, queries: np.ndarray) -> np.ndarray | None:
    """Return each query's row in the features; None without features, or of other images."""
    if run.saved is None:
        return None
    samples = run.samples
    keys = zip(samples.pids.tolist(), samples.camids.tolist(), samples.frames.tolist(), strict=True)
    places = {key: row for row, key in enumerate(keys)}
    rows = [places.get(tuple(query)) for query in queries.tolist()]
    return None if None in rows else np.array(rows)


def _image_facts(run: Run, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return height in pixels (0: not at hand) and hour (-1: unknown) of images."""
    heights, hours = np.zeros(len(rows)), np.full(len(rows), -1)
    for place, row in enumerate(rows[:_IMAGES].tolist()):
        found = run.images.find(str(run.samples.paths[row]))
        if found is not None:
            with contextlib.suppress(OSError, ValueError, InputError, SyntaxError):
                heights[place], hours[place] = _header(Path(found.path))
                heights[place] = found.box.height if found.box else heights[place]
    return heights, hours


def _header(path: Path) -> tuple[int, int]:
    image = open_image(read_bytes(path), path)
    exif = image.getexif()
    taken = exif.get_ifd(_EXIF).get(_TAKEN) or exif.get(_CHANGED)
    hour = -1
    if isinstance(taken, str):
        with contextlib.suppress(ValueError):
            hour = datetime.strptime(taken.strip("\0 ")[:19], "%Y:%m:%d %H:%M:%S").hour
    return image.height, hour
