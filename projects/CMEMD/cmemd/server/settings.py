"""What the operator of a server allows."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Limits and permissions of a server; the defaults are safe [chosen].

    Attributes:
        token: what callers must send; None where only this machine can call.
        hosts: names under which the server answers; empty for any. With a list, a web page cannot
            reach the server under a name of its own (DNS rebinding).
        images_roots: folders whose images and paths may be served.
        threshold: lowest score of a match, a file of ``cmemd calibrate --output``, or None.
        most_bytes: of an uploaded image.
        most_pixels: of an uploaded image.
        rate: requests a second of one address, in the long run; a burst may be twice as large.
        forget_after: days after which rows, marks and log lines are deleted; None for never.
        memory: bytes that the gallery's vectors may take.
        device: where the model runs.
    """

    token: str | None = None
    hosts: tuple[str, ...] = ()
    images_roots: tuple[Path, ...] = ()
    threshold: float | Path | None = None
    most_bytes: int = 8 * 10**6
    most_pixels: int = 16 * 10**6
    rate: float = 20
    forget_after: float | None = None
    memory: int = 4 * 10**9
    device: str = "cpu"
