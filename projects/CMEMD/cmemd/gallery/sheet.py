"""Draw a contact sheet: each query, and beside it its matches with rank, score and identity.

Where the identities of a query and a match are known, a right match has a thick green frame and a
tick, a wrong one a thin red frame and a cross: also without colours, they differ.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps
from PIL.PngImagePlugin import PngInfo

from cmemd.data.boxes import located
from cmemd.data.images import crop, read_rgb
from cmemd.data.sensors import PICTURES
from cmemd.data.video import is_video, read_frame
from cmemd.errors import InputError
from cmemd.files import write_output
from cmemd.gallery.search import Match
from cmemd.paths import check_output

__all__ = ["MATCHES", "QUERIES", "Row", "check_sheet", "contact_sheet", "write_sheet"]

QUERIES = MATCHES = 50  # a larger sheet gives no overview [chosen]
_MARK = "cmemd contact sheet"
_TILE = (64, 128)  # width, height in pixels: a crop of a person
_CAPTION, _GAP = 30, 8
_FRAME = 4  # pixels; room between a tile and its caption too
_PAPER, _INK, _MISSING = "white", "black", "lightgrey"
_RIGHT, _WRONG = "#12864a", "#cc3333"  # as in the picture of ranked galleries
_FRAMES = {True: (_RIGHT, _FRAME), False: (_WRONG, 2)}  # colour, width in pixels
_MARKS = {  # strokes in a badge of _BADGE pixels; Pillow's own font has neither sign
    True: ((3, 8, 6, 11), (6, 11, 12, 4)),
    False: ((4, 4, 11, 11), (4, 11, 11, 4)),
}
_BADGE = 16


@dataclass(frozen=True)
class Row:
    """A query and its matches.

    Attributes:
        path: the query's image; of several, the first.
        name: of the query, for its caption.
        identity: the person that it shows, or None.
        matches: best first.
    """

    path: str
    name: str
    identity: str | None
    matches: Sequence[Match]


def contact_sheet(rows: Sequence[Row], columns: int) -> Image.Image:
    """Return a sheet of the first ``QUERIES`` queries.

    An image file that can no longer be read becomes a grey tile.

    Args:
        rows: the queries.
        columns: matches for which a row has room; at most ``MATCHES``, and not more than there are.
    """
    rows = rows[:QUERIES]
    columns = min(columns, MATCHES, max((len(row.matches) for row in rows), default=0))
    cell = _TILE[0] + _GAP, _TILE[1] + _CAPTION + _GAP
    size = _GAP + cell[0] * (columns + 1) + _GAP, _GAP + cell[1] * len(rows)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, row in enumerate(rows):
        top = _GAP + place * cell[1]
        second = (row.identity or "") if row.matches else "no match"
        _paste(sheet, draw, (_GAP, top), row.path, (row.name, second))
        for rank, match in enumerate(row.matches[:columns], 1):
            at = 2 * _GAP + rank * cell[0], top
            _paste(
                sheet, draw, at, match.path, (f"{rank}: {match.score:.3f}", match.identity or "")
            )
            if row.identity is not None and match.identity is not None:
                _mark(draw, at, match.identity == row.identity)
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


def _picture(key: str) -> Image.Image:
    """Return the image of a key; one of more than 8 bits as ``agc`` shows it."""
    file, box, frame = located(key)
    if frame is not None and is_video(file):
        return Image.fromarray(crop(read_frame(file, frame), box))
    return read_rgb(file, box=box, sensor=PICTURES)


def _paste(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    path: str,
    caption: Sequence[str],
) -> None:
    try:
        tile = ImageOps.pad(_picture(path), _TILE, color=_PAPER)
    except InputError:
        tile = Image.new("RGB", _TILE, _MISSING)
    sheet.paste(tile, at)
    lines = "\n".join(_fit(draw, line) for line in caption)
    draw.text((at[0], at[1] + _TILE[1] + _FRAME), lines, fill=_INK)


def _fit(draw: ImageDraw.ImageDraw, text: str) -> str:
    """Return the end of a text for which a tile's caption has room."""
    # Pillow's own font has only ASCII letters.
    text = text.encode("ascii", "replace").decode()
    room = _TILE[0] + _GAP // 2
    if draw.textlength(text) <= room:
        return text
    while text and draw.textlength(f"..{text}") > room:
        text = text[1:]
    return f"..{text}"


def _mark(draw: ImageDraw.ImageDraw, at: tuple[int, int], right: bool) -> None:
    colour, width = _FRAMES[right]
    corner = at[0] + _TILE[0] - 1, at[1] + _TILE[1] - 1
    outer = at[0] - width, at[1] - width, corner[0] + width, corner[1] + width
    draw.rectangle(outer, outline=colour, width=width)
    left, top = corner[0] - _BADGE + 1, at[1]
    draw.rectangle((left, top, left + _BADGE - 1, top + _BADGE - 1), fill=colour)
    for x1, y1, x2, y2 in _MARKS[right]:
        draw.line((left + x1, top + y1, left + x2, top + y2), fill=_PAPER, width=2)
