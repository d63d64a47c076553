"""Contact sheet: each query and, beside it, its matches with rank, score and identity."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from cmemd.data.images import read_rgb
from cmemd.errors import InputError
from cmemd.gallery.search import Match

__all__ = ["QUERIES", "contact_sheet", "write_sheet"]

QUERIES = 50  # a sheet of more is no overview [chosen]
_TILE = (64, 128)  # width, height in pixels: a crop of a person
_CAPTION, _GAP = 26, 8
_PAPER, _INK, _MISSING = "white", "black", "lightgrey"


def contact_sheet(queries: Sequence[tuple[str, Sequence[Match]]], columns: int) -> Image.Image:
    """Draws a row for each of the first ``QUERIES`` queries.

    Args:
        queries: the query's path and its matches, best first.
        columns: how many matches a row has room for.

    Returns:
        An image; files that cannot be read any more are grey.
    """
    queries = queries[:QUERIES]
    cell = _TILE[0] + _GAP, _TILE[1] + _CAPTION + _GAP
    size = _GAP + cell[0] * (columns + 1) + _GAP, _GAP + cell[1] * len(queries)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, (path, matches) in enumerate(queries):
        top = _GAP + row * cell[1]
        _paste(sheet, draw, (_GAP, top), path, "query" if matches else "query\nno match")
        for rank, match in enumerate(matches[:columns], 1):
            left = 2 * _GAP + rank * cell[0]
            caption = f"{rank}: {match.score:.3f}\n{match.identity or ''}"
            _paste(sheet, draw, (left, top), match.path, caption)
    return sheet


def write_sheet(sheet: Image.Image, path: Path) -> None:
    """Writes a sheet in the format that its name says.

    Raises:
        InputError: no format of that name, or a place that cannot be written.
    """
    try:
        sheet.save(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"expected to write a sheet to {path}, got: {error}: name a .png in a folder that is "
            "there"
        ) from error


def _paste(sheet: Image.Image, draw: ImageDraw.ImageDraw, at, path: str, caption: str) -> None:
    try:
        tile = ImageOps.pad(read_rgb(path), _TILE, color=_PAPER)
    except InputError:
        tile = Image.new("RGB", _TILE, _MISSING)
    sheet.paste(tile, at)
    # Pillow's own font knows no other letters.
    draw.text((at[0], at[1] + _TILE[1]), caption.encode("ascii", "replace").decode(), fill=_INK)
