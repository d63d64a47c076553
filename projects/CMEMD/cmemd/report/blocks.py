"""What a section of the page is made of; the template shows each kind in its own way."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

__all__ = ["Block", "Cell", "Chart", "Matrix", "Missing", "Section", "Strip", "Table", "Tile"]


@dataclass(frozen=True)
class Missing:
    """Something that the run cannot show.

    Attributes:
        what: the thing.
        why: the reason.
        remedy: the key or command that would bring it; "" for none.
    """

    what: str
    why: str
    remedy: str = ""


@dataclass(frozen=True)
class Chart:
    """A drawn figure.

    Attributes:
        svg: ``report.pictures.svg``'s text.
        alt: what it shows, in a sentence.
        caption: how to read it; "" for none.
    """

    svg: str
    alt: str
    caption: str = ""
    kind: str = "chart"


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is its heading.

    Attributes:
        caption: what the table holds.
        head: headings of the columns.
        rows: cells, as texts.
        plain: whether cells are words, not numbers to be aligned at the right.
        kind: "table", or "fold" for one that opens with a click.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    plain: bool = False
    kind: str = "table"


@dataclass(frozen=True)
class Tile:
    """One image with its words.

    Attributes:
        picture: a data address, or None where the image is not at hand.
        alt: what it is.
        mark: "query", "right", "wrong", "removed" or "".
        heading: the line above the rest: rank and score.
        label: camera and identity.
    """

    picture: str | None
    alt: str
    mark: str
    heading: str
    label: str


@dataclass(frozen=True)
class Strip:
    """A row of images.

    Attributes:
        title: why this row is here.
        tiles: the images.
        note: a sentence on the row; "" for none.
        wide: whether tiles are pictures side by side, not people.
    """

    title: str
    tiles: Sequence[Tile]
    note: str = ""
    wide: bool = False
    kind: str = "strip"


@dataclass(frozen=True)
class Cell:
    """One pair of a transport plan.

    Attributes:
        side: length of the square of its mass, as a share of the cell.
        uniform: the same of the uniform plan.
        mass: the mass, as text.
        cost: the ground cost, as text.
        shade: the cost, 0 for the lowest of the plan to 1 for its highest.
    """

    side: float
    uniform: float
    mass: str
    cost: str
    shade: float


@dataclass(frozen=True)
class Matrix:
    """A transport plan between the visible images of an identity and its thermal ones.

    Attributes:
        title: the feature.
        rows: the visible images.
        columns: the thermal images.
        cells: row by row.
        note: what the plan saves.
    """

    title: str
    rows: Sequence[Tile]
    columns: Sequence[Tile]
    cells: Sequence[Sequence[Cell]]
    note: str
    kind: str = "matrix"


Block = Chart | Table | Strip | Matrix


@dataclass
class Section:
    """A part of the page.

    Attributes:
        anchor: its name in addresses.
        title: its heading.
        lead: a sentence or two under it.
        blocks: its content.
        missing: what the run lacks.
    """

    anchor: str
    title: str
    lead: str = ""
    blocks: list[Block] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)

    @property
    def groups(self) -> list[tuple[str, list[Block]]]:
        """Kind -> neighbouring blocks of that kind, which the page sets side by side."""
        return [(kind, list(own)) for kind, own in groupby(self.blocks, lambda of: of.kind)]
