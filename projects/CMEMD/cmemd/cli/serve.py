"""``cmemd serve``: answer searches of a gallery over HTTP."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cmemd.errors import InputError

if TYPE_CHECKING:
    import socket

    from cmemd.server.settings import Settings

__all__ = ["HELP", "add_arguments", "run"]

HELP = "answer searches of a gallery over HTTP, with a page to search on"

_TOKEN = "CMEMD_TOKEN"
_SHORTEST = 16  # letters of a token [chosen]
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_REQUESTS = 64  # that are answered at once [chosen]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--model", required=True, metavar="DIR", help="exported model folder")
    parser.add_argument("--gallery", required=True, metavar="G", help="gallery to search")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; any but this machine's own needs a token; default: %(default)s",
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="0 for any free one; default: %(default)s"
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="F",
        help=f"file of the token that callers must send; or set {_TOKEN}",
    )
    parser.add_argument(
        "--images-root",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="show images and paths of this folder; repeatable; default: none",
    )
    parser.add_argument(
        "--threshold",
        metavar="F.json|T",
        help="file of cmemd calibrate --output, or the lowest score of a match, from -1 to 1",
    )
    parser.add_argument(
        "--forget-after",
        type=float,
        metavar="DAYS",
        help="delete older rows, marks and log lines from the disk; default: never",
    )
    for name, default, text in (
        ("max-megabytes", 8.0, "size of an upload"),
        ("max-megapixels", 16.0, "pixels of an upload"),
        ("rate", 20.0, "requests a second of one address"),
        ("memory", 4.0, "GB that the gallery's vectors may take"),
    ):
        parser.add_argument(
            f"--{name}",
            type=float,
            default=default,
            metavar="N",
            help=f"{text}; default: {default:g}",
        )
    parser.add_argument("--device", default="cpu", help="cpu or cuda; default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Serve until a signal, and return the exit status.

    Raises:
        InputError: an argument is out of range, a token is missing or short, the port is in use,
            the model or the gallery is missing or damaged, or one is of another than the other.
    """
    settings = _settings(args)
    # faiss's threads spin between two searches otherwise, which slows everything else here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with _listen(args.host, args.port) as listener:
        import uvicorn

        from cmemd.server.app import create_app
        from cmemd.server.metrics import Metrics
        from cmemd.server.resident import Resident

        with Resident(args.model, args.gallery, settings, Metrics()) as resident:
            name, port = listener.getsockname()[:2]
            shown = f"[{name}]" if ":" in name else name
            print(f"searching {len(resident.snapshot)} rows at http://{shown}:{port}", flush=True)
            config = uvicorn.Config(
                create_app(resident),
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=_REQUESTS,
                timeout_keep_alive=20,
                timeout_graceful_shutdown=10,
                ws="none",
            )
            uvicorn.Server(config).run(sockets=[listener])
    return 0


def _settings(args: argparse.Namespace) -> "Settings":
    from cmemd.cli.search import threshold_number
    from cmemd.server.settings import Settings

    for name in ("max_megabytes", "max_megapixels", "rate", "memory", "forget_after"):
        value = getattr(args, name)
        if value is not None and not 0 < value < 1e6:
            raise InputError(
                f"--{name.replace('_', '-')} above 0", f"{value:g}", "leave it out for the default"
            )
    if not 0 <= args.port < 2**16:
        raise InputError("--port from 0 to 65535", args.port, "leave it out for 8000")
    for root in args.images_root:
        if not root.is_dir():
            raise InputError(f"a folder at {root}", "none", "correct --images-root")
    number = threshold_number(args.threshold)
    own = args.host in _LOOPBACK
    token = _token(args.token_file)
    if token is None and not own:
        raise InputError(
            f"a token to listen on {args.host}, where other machines can call",
            "none",
            f"give --token-file or set {_TOKEN}, or leave out --host",
        )
    return Settings(
        token=token,
        hosts=_LOOPBACK if own else (),
        images_roots=tuple(root.resolve() for root in args.images_root),
        threshold=Path(args.threshold) if args.threshold and number is None else number,
        most_bytes=int(args.max_megabytes * 1e6),
        most_pixels=int(args.max_megapixels * 1e6),
        rate=args.rate,
        forget_after=args.forget_after,
        memory=int(args.memory * 1e9),
        device=args.device,
    )


def _token(path: Path | None) -> str | None:
    if path is None:
        token = os.environ.get(_TOKEN)
    else:
        try:
            token = path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise InputError(
                f"a token in {path}", getattr(error, "strerror", "no text"), "name another file"
            ) from error
    if token is None:
        return None
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(
            f"a token of at least {_SHORTEST} letters and digits",
            f"{len(token)} characters" if token.isascii() else "other characters",
            "make one, for example with: openssl rand -hex 32",
        )
    return token


def _listen(host: str, port: int) -> "socket.socket":
    import socket

    try:
        family, *_, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen()  # so that a second server finds the port taken
    except OSError as error:
        raise InputError(
            f"port {port} of {host} to be free",
            f"an error ({(error.strerror or str(error)).lower()})",
            "end the other program, or choose another --port",
        ) from error
    return listener
