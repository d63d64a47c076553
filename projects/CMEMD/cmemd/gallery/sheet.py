"""Draw a contact sheet: each query, and beside it its matches with rank, score and identity."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from cmemd.data.images import read_rgb
from cmemd.errors import InputError
from cmemd.files import whole_file
from cmemd.gallery.search import Match

__all__ = ["QUERIES", "contact_sheet", "write_sheet"]

QUERIES = 50  # a larger sheet gives no overview [chosen]
_TILE = (64, 128)  # width, height in pixels: a crop of a person
_CAPTION, _GAP = 26, 8
_PAPER, _INK, _MISSING = "white", "black", "lightgrey"


def contact_sheet(queries: Sequence[tuple[str, Sequence[Match]]], columns: int) -> Image.Image:
    """Return a sheet with a row for each of the first ``QUERIES`` queries.

    An image file that can no longer be read becomes a grey tile.

    Args:
        queries: each query's path and its matches, best first.
        columns: matches for which a row has room.
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
    """Write a sheet in the format of its suffix, whole or not at all.

    Raises:
        InputError: the suffix names no image format, or the folder cannot be written to.
    """
    try:
        # Pillow takes the format from the suffix, which the temporary name lacks.
        form = Image.registered_extensions()[path.suffix.lower()]
        with whole_file(path) as unfinished:
            sheet.save(unfinished, form)
    except KeyError:
        raise InputError(
            f"to write a sheet to {path}", f"the suffix {path.suffix!r}", "name a .png file"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"to write a sheet to {path}",
            getattr(error, "strerror", None) or error,
            "name a .png file in an existing folder",
        ) from error


def _paste(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, at: tuple[int, int], path: str, caption: str
) -> None:
    try:
        tile = ImageOps.pad(read_rgb(path), _TILE, color=_PAPER)
    except InputError:
        tile = Image.new("RGB", _TILE, _MISSING)
    sheet.paste(tile, at)
    # Pillow's own font has only ASCII letters.
    draw.text((at[0], at[1] + _TILE[1]), caption.encode("ascii", "replace").decode(), fill=_INK)
