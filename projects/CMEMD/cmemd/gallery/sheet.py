"""Draw a contact sheet: each query, and beside it its matches with rank, score and identity."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps
from PIL.PngImagePlugin import PngInfo

from cmemd.data.boxes import located
from cmemd.data.images import read_rgb
from cmemd.errors import InputError
from cmemd.files import write_output
from cmemd.gallery.search import Match
from cmemd.paths import check_output

__all__ = ["MATCHES", "QUERIES", "check_sheet", "contact_sheet", "write_sheet"]

QUERIES = MATCHES = 50  # a larger sheet gives no overview [chosen]
_MARK = "cmemd contact sheet"
_TILE = (64, 128)  # width, height in pixels: a crop of a person
_CAPTION, _GAP = 26, 8
_PAPER, _INK, _MISSING = "white", "black", "lightgrey"


def contact_sheet(queries: Sequence[tuple[str, Sequence[Match]]], columns: int) -> Image.Image:
    """Return a sheet with a row for each of the first ``QUERIES`` queries.

    An image file that can no longer be read becomes a grey tile.

    Args:
        queries: each query's path and its matches, best first.
        columns: matches for which a row has room; at most ``MATCHES``, and not more than there are.
    """
    queries = queries[:QUERIES]
    columns = min(columns, MATCHES, max((len(matches) for _, matches in queries), default=0))
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


def check_sheet(path: Path) -> None:
    """Raise unless a sheet can go to a file: a new one, or a sheet in an existing folder.

    Raises:
        InputError: another suffix than ``.png``, no such folder, or another file is there.
    """
    if path.suffix.lower() != ".png":
        raise InputError(
            f"to write a sheet to {path}", f"the suffix {path.suffix!r}", "name a .png file"
        )
    if not path.parent.is_dir():
        raise InputError(
            f"to write a sheet to {path}",
            "No such folder",
            "name a .png file in an existing folder",
        )
    check_output(path, _MARK.encode())


def write_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a sheet as a PNG file, whole or not at all; replace an earlier sheet.

    Raises:
        InputError: as ``check_sheet``, or the folder cannot be written to.
    """
    check_sheet(path)
    mark, png = PngInfo(), io.BytesIO()
    mark.add_text("Software", _MARK)
    sheet.save(png, "PNG", pnginfo=mark)
    write_output(path, png.getbuffer(), _MARK.encode())


def _paste(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, at: tuple[int, int], path: str, caption: str
) -> None:
    try:
        file, box, _ = located(path)
        tile = ImageOps.pad(read_rgb(file, box=box), _TILE, color=_PAPER)
    except InputError:
        tile = Image.new("RGB", _TILE, _MISSING)
    sheet.paste(tile, at)
    # Pillow's own font has only ASCII letters.
    draw.text((at[0], at[1] + _TILE[1]), caption.encode("ascii", "replace").decode(), fill=_INK)
