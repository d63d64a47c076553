"""What covers a person's body parts: maps of ``Part`` over height and angle.

A wrap is (V, T) uint8. Row v runs from the upper end (0) to the lower end of the body part; column
t is the angle around it: 0 the front, a quarter turn the person's left, half a turn the back. Every
view looks it up by angle, so front, side and back agree.
"""

import numpy as np

from cmemd.standin.person import Part, Pattern, Person

__all__ = [
    "ANGLES",
    "COLUMNS",
    "HEIGHTS",
    "ROWS",
    "emblem",
    "weave",
    "wrap_bag",
    "wrap_head",
    "wrap_leg",
    "wrap_skirt",
    "wrap_sleeve",
    "wrap_top",
]

ROWS, COLUMNS = 64, 96

HEIGHTS = ((np.arange(ROWS) + 0.5) / ROWS)[:, None]
ANGLES = (np.arange(COLUMNS) / COLUMNS * 2 * np.pi + np.pi) % (2 * np.pi) - np.pi
ANGLES = ANGLES[None, :]


def weave(pattern: Pattern) -> np.ndarray:
    """Return where a pattern shows its second tone, (ROWS, COLUMNS) bool."""
    turns = ANGLES / (2 * np.pi)
    around = 2 * pattern.count + 1
    share, tilt = pattern.share, pattern.tilt
    width = 0.5 + share  # radians
    hoops = (HEIGHTS * pattern.count + pattern.shift) % 1 < share
    bars = (turns * around + pattern.shift) % 1 < share
    cell_v = (HEIGHTS * pattern.count) % 1 - 0.5
    cell_t = (turns * around) % 1 - 0.5
    masks = {
        "plain": np.zeros_like(HEIGHTS, bool),
        "odd_leg": np.zeros_like(HEIGHTS, bool),
        "hoops": hoops,
        "bars": bars,
        "checks": hoops ^ bars,
        "yoke": HEIGHTS < 0.15 + 0.5 * share,
        "base": HEIGHTS > 0.85 - 0.5 * share,
        "band": np.abs(HEIGHTS - 0.25 - 0.5 * pattern.shift) < 0.06 + 0.16 * share,
        "sash": np.abs(HEIGHTS - 0.5 - 0.42 * tilt * np.sin(ANGLES)) < 0.07 + 0.14 * share,
        "chevron": np.abs(HEIGHTS - 0.15 - 0.5 * np.abs(np.cos(ANGLES))) < 0.07 + 0.12 * share,
        "panel": np.abs(np.sin(ANGLES)) < 0.15 + 0.5 * share,
        "sides": np.abs(np.cos(ANGLES)) < 0.3 + 0.5 * share,
        "halves": ANGLES * tilt > 0,
        "dots": cell_v**2 + cell_t**2 < 0.11 + 0.08 * share,
        "diamonds": np.abs(cell_v) + np.abs(cell_t) < 0.3 + 0.2 * share,
        "open": np.abs(ANGLES) < width,
    }
    return np.broadcast_to(masks[pattern.kind], (ROWS, COLUMNS))


def emblem(shape: str, size: float, *, back: bool) -> np.ndarray:
    """Return where a large emblem on the chest or the back lies, (ROWS, COLUMNS) bool."""
    angle = np.where(back, np.pi - np.abs(ANGLES), ANGLES)
    a, b = angle / (0.62 * size), (HEIGHTS - 0.42) / (0.2 * size)
    wide, far = np.maximum(np.abs(a), np.abs(b)), a**2 + b**2
    return {
        "disc": far < 1,
        "square": wide < 0.9,
        "triangle": (np.abs(b) < 0.95) & (np.abs(a) < 0.55 * (b + 0.95)),
        "ring": (far < 1.3) & (far > 0.4),
        "cross": (wide < 1.1) & (np.minimum(np.abs(a), np.abs(b)) < 0.33),
        "bar": (np.abs(b) < 0.4) & (np.abs(a) < 1.4),
        "diamond": np.abs(a) + np.abs(b) < 1.25,
    }[shape]


def wrap_top(person: Person) -> np.ndarray:
    """Return the torso from the shoulders to the hem, with emblems, scarf end and straps."""
    top = person.top
    wrap = _filled(Part.TOP)
    wrap[weave(top.pattern)] = Part.TOP_SECOND
    for shape, back in ((top.emblem_front, False), (top.emblem_back, True)):
        if shape is not None:
            wrap[emblem(shape, top.emblem_size, back=back)] = Part.EMBLEM
    if person.scarf:
        wrap[(HEIGHTS < 0.45) & (np.abs(ANGLES - 0.25 * person.side) < 0.2)] = Part.SCARF
    if person.carried == "backpack":
        wrap[(HEIGHTS < 0.6) & (np.abs(np.abs(ANGLES) - 0.75) < 0.15)] = Part.BAG
    if person.carried == "satchel":
        slope = 0.48 * person.side * np.sin(ANGLES)
        wrap[np.abs(HEIGHTS - 0.5 - slope) < 0.045] = Part.BAG
    return wrap


def wrap_sleeve(person: Person) -> np.ndarray:
    """Return the arm from the shoulder to the wrist; bare below the sleeve."""
    wrap = _filled(Part.TOP)
    cuff, sleeve = person.top.cuff, person.top.sleeve
    if cuff == "contrast":
        wrap[:] = Part.TOP_SECOND
    elif cuff == "cuff":
        wrap[np.broadcast_to(HEIGHTS > 0.72 * sleeve, wrap.shape)] = Part.TOP_SECOND
    elif cuff == "bands":
        banded = (HEIGHTS / max(sleeve, 0.1) * 3) % 1 > 0.55
        wrap[np.broadcast_to(banded, wrap.shape)] = Part.TOP_SECOND
    wrap[np.broadcast_to(HEIGHTS > sleeve, wrap.shape)] = Part.SKIN
    return wrap


def wrap_leg(person: Person, side: int) -> np.ndarray:
    """Return a leg from the hip to the ankle; bare under a skirt. ``side``: 1 left, -1 right."""
    bottom = person.bottom
    wrap = _filled(Part.BOTTOM)
    wrap[weave(bottom.pattern)] = Part.BOTTOM_SECOND
    if bottom.pattern.kind == "odd_leg" and side == bottom.pattern.tilt:
        wrap[:] = Part.BOTTOM_SECOND
    bare = 0.0 if bottom.kind == "skirt" else bottom.length
    wrap[np.broadcast_to(HEIGHTS > bare, wrap.shape)] = Part.SKIN
    wrap[np.broadcast_to(HEIGHTS > 1 - bottom.boots, wrap.shape)] = Part.SHOES
    return wrap


def wrap_skirt(person: Person) -> np.ndarray:
    """Return the skirt from the hip to its hem."""
    wrap = _filled(Part.BOTTOM)
    wrap[weave(person.bottom.pattern)] = Part.BOTTOM_SECOND
    return wrap


def wrap_head(person: Person) -> np.ndarray:
    """Return the head from crown to chin: face in front, hair, hood or hat above and behind."""
    away = np.abs(ANGLES)
    wrap = _filled(Part.SKIN)
    if person.beard:
        wrap[(HEIGHTS > 0.72) & (away < 1.4)] = Part.HAIR
    wrap[(np.abs(HEIGHTS - 0.5) < 0.045) & (np.abs(away - 0.38) < 0.12)] = Part.HAIR  # eyes
    if person.hair != "bald":
        fringe = {"curls": 0.36, "long": 0.3}.get(person.hair, 0.25)
        wrap[(HEIGHTS < fringe) | ((away > 1.5) & (HEIGHTS < 0.78))] = Part.HAIR
    if person.hat == "hood":
        wrap[(HEIGHTS < 0.22) | (away > 0.8)] = Part.TOP
    elif person.hat != "none":
        wrap[np.broadcast_to(HEIGHTS < 0.36, wrap.shape)] = Part.HAT
    return wrap


def wrap_bag() -> np.ndarray:
    """Return a bag of any kind, with a contrasting flap and pocket."""
    wrap = _filled(Part.BAG)
    wrap[(HEIGHTS > 0.5) & (HEIGHTS < 0.85) & (np.abs(np.sin(ANGLES)) < 0.65)] = Part.BAG_SECOND
    wrap[np.broadcast_to(np.abs(HEIGHTS - 0.22) < 0.06, wrap.shape)] = Part.BAG_SECOND
    return wrap


def _filled(part: Part) -> np.ndarray:
    return np.full((ROWS, COLUMNS), part, np.uint8)
