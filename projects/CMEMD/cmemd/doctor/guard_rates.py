"""Measure the modality guard on labelled images: how often it warns falsely, and what it notices.

Limits come from the images of one half of the identities, rates from the other half. Beside the
images as they are stand changed ones: visible images darkened to a tenth or turned grey, which the
guard should let pass, and thermal images in false colours, which it should name. These changes are
drawn: a camera's night and its palette may differ.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from cmemd.data.appearance import Measured, Statistics, measure, seems_other, summarise
from cmemd.data.modality import Modality
from cmemd.data.palettes import PALETTES, colours, recognise
from cmemd.doctor.report import Report

__all__ = ["GuardSamples", "guard_samples", "report_guard"]

_SIZE = (144, 288)  # width and height: those of our configurations, so that limits fit their models
_DARK = 0.1  # [C]
_LEAST = 10  # images of each modality in each half, or rates say nothing [C]


class GuardSamples(NamedTuple):
    """Statistics of an image and of its changed copies.

    Attributes:
        plain: of the image.
        dark: of a darkened copy; None of a thermal image, as is ``grey``.
        grey: of a grey copy.
        named: for each palette, whether the image in its colours is recognised; of a thermal one.
    """

    plain: Measured
    dark: Measured | None
    grey: Measured | None
    named: tuple[bool, ...]


def guard_samples(pixels: np.ndarray, modality: Modality) -> GuardSamples:
    """Return the statistics of an image, (H, W, 3) uint8 RGB, and of its changed copies."""
    small = np.asarray(Image.fromarray(pixels).resize(_SIZE, Image.Resampling.BICUBIC))
    grey = np.rint(small.mean(axis=2)).astype(np.uint8)
    if modality is Modality.THERMAL:
        named = tuple(recognise(colours(palette)[grey]) is not None for palette in PALETTES)
        return GuardSamples(measure(small), None, None, named)
    dark = np.rint(small * _DARK).astype(np.uint8)
    return GuardSamples(
        measure(small), measure(dark), measure(grey[..., None].repeat(3, axis=2)), ()
    )


def report_guard(
    guarded: Mapping[Modality, Sequence[tuple[str, GuardSamples]]], report: Report
) -> None:
    """Report the guard's rates, and keep the statistics of all images in the report.

    Args:
        guarded: identity and samples of each image, by modality.
        report: gets rows, and ``guard_statistics``.
    """
    if not all(guarded[modality] for modality in Modality):
        return
    report.guard_statistics = _statistics(guarded)
    halves: list[dict[Modality, list[tuple[str, GuardSamples]]]] = [
        {m: [pair for pair in guarded[m] if _half(pair[0]) == half] for m in Modality}
        for half in (0, 1)
    ]
    if min(len(half[m]) for half in halves for m in Modality) < _LEAST:
        report.row("modality guard", f"too few images: {_LEAST} of each modality in each half")
        return
    limits, tested = _statistics(halves[0]), halves[1]
    visible = [samples for _, samples in tested[Modality.VISIBLE]]
    thermal = [samples for _, samples in tested[Modality.THERMAL]]

    def row(words: str, measured: Sequence[Measured], given: Modality) -> None:
        _row(report, words, [seems_other(of, given, limits) for of in measured])

    plain = {Modality.VISIBLE: visible, Modality.THERMAL: thermal}
    for given in Modality:
        measured = [samples.plain for samples in plain[given]]
        other = [samples.plain for samples in plain[Modality(1 - given)]]
        row(f"{given.name.lower()} images warned of falsely", measured, given)
        row(f"images given wrongly as {given.name.lower()}, noticed", other, given)
    dark = [x.dark for x in visible if x.dark is not None]
    grey = [x.grey for x in visible if x.grey is not None]
    row("visible images, darkened, warned of falsely", dark, Modality.VISIBLE)
    row("visible images, made grey, warned of falsely", grey, Modality.VISIBLE)
    for number, palette in enumerate(PALETTES):
        named = [samples.named[number] for samples in thermal]
        _row(report, f"thermal images in {palette}, noticed", named)


def _statistics(guarded: Mapping[Modality, Sequence[tuple[str, GuardSamples]]]) -> Statistics:
    return {m.name.lower(): summarise(s.plain for _, s in guarded[m]) for m in Modality}


def _row(report: Report, words: str, hits: Sequence[bool]) -> None:
    share = 100 * sum(hits) / len(hits)
    report.row(f"modality guard: {words}", f"{sum(hits):,} of {len(hits):,} ({share:.1f} %)")


def _half(identity: str) -> int:
    return hashlib.sha256(identity.encode("utf-8", "replace")).digest()[0] & 1
