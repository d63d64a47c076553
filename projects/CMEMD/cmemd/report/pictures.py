"""Pictures inside the page: figures as SVG text, images as data addresses."""

import base64
import hashlib
import io
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from cmemd.data.boxes import ImageKey, located
from cmemd.data.images import read_rgb
from cmemd.errors import InputError
from cmemd.evaluation.figures import COLOURS, GRID, INK, MUTED
from cmemd.report.blocks import Chart

__all__ = ["THUMBNAIL", "Images", "address", "chart", "svg"]

THUMBNAIL = (64, 128)  # width, height: all people get one size, as a network sees them
_QUALITY = 82

# Colours of figures -> variables of the page, which have other values in the dark.
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    **{colour: f"var(--c{number})" for number, colour in enumerate(COLOURS)},
}
_HEX = re.compile("|".join(_VARIABLES))
_FAMILIES = re.compile(r"(font: [^;\"']*?[0-9.]+px )[^;\"]*")


def svg(figure: Figure) -> str:
    """Return a figure as SVG text for an HTML page: without addresses, in the page's colours.

    The same figure gives the same text.
    """
    text = _draw(figure, "cmemd")
    # Two figures of one page must not share the names of their parts.
    return _draw(figure, hashlib.sha256(text.encode()).hexdigest())


def chart(figure: Figure, alt: str, caption: str = "") -> Chart:
    """Return a figure as a block of the page."""
    return Chart(svg(figure), alt, caption)


def _draw(figure: Figure, salt: str) -> str:
    content = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        FigureCanvasSVG(figure).print_svg(content, metadata={"Date": None})
    text = content.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"', r"\1", text)
    text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"', r"\1", text)
    text = _FAMILIES.sub(r"\1var(--sans)", text)
    text = _HEX.sub(lambda found: _VARIABLES[found.group()], text)
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def address(image: Image.Image | np.ndarray) -> str:
    """Return an image as a data address."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


class Images:
    """Finds the images of a run, wherever they are now.

    Args:
        folder: of the data set, where images are no longer at the paths that the run recorded.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self.absent: list[str] = []
        self._seen: dict[str, str | None] = {}

    def find(self, key: str) -> ImageKey | None:
        """Return where an image is, a file and perhaps a box in it; None where not at hand."""
        if "\0" in key:
            return None
        image = located(key)
        if Path(image.path).is_file():
            return image
        if self._folder is not None:
            parts = Path(image.path).parts
            for start in range(1, len(parts)):
                if (found := self._folder.joinpath(*parts[start:])).is_file():
                    return image._replace(path=str(found))
        return None

    def thumbnail(self, path: str) -> str | None:
        """Return a small image as a data address; None where it is not at hand or unreadable."""
        if path not in self._seen:
            self._seen[path] = self._read(path)
            if self._seen[path] is None:
                self.absent.append(path)
        return self._seen[path]

    def _read(self, path: str) -> str | None:
        found = self.find(path)
        if found is None:
            return None
        try:
            pixels = read_rgb(found.path, box=found.box)
            return address(pixels.resize(THUMBNAIL, Image.Resampling.LANCZOS))
        except InputError:
            return None
