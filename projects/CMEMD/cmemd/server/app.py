"""The routes of the server: what each takes and answers."""

import asyncio
import contextlib
import io
import logging
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
from fastapi import FastAPI, File, Form, Request, Response, UploadFile
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from cmemd.data.boxes import located
from cmemd.data.images import read_rgb
from cmemd.errors import InputError, printable
from cmemd.gallery.embeddings_file import write_embeddings
from cmemd.gallery.sources import Source, parse_time
from cmemd.inference.predictor import as_modality
from cmemd.server.marks import Query, labels
from cmemd.server.metrics import Metrics
from cmemd.server.page import interface_page, page_file
from cmemd.server.resident import Prepared, Resident, UnavailableError
from cmemd.server.security import Guard, address
from cmemd.server.settings import Settings
from cmemd.server.snapshot import Condition, Found, Row
from cmemd.version import __version__

__all__ = ["create_app"]

_DECODERS = 4  # uploads that are decoded at once, so that their pixels fit in memory [chosen]
_MOST = 100  # matches of a search [chosen]
_NAMED = 500  # cameras that are named [chosen]
_LABEL = 200  # letters of a label [chosen]
_SHOWN = 1600  # longer side of a served image, pixels [chosen]
_OTHER = {"visible": "thermal", "thermal": "visible"}
_DESCRIPTION = (
    "Search a gallery of people by an image of the other modality. Errors are JSON with one line, "
    '{"error": "expected X, got Y: remedy"}. Where the server has a token, send the header '
    "Authorization: Bearer TOKEN."
)

_logger = logging.getLogger(__name__)

_Image = Annotated[UploadFile, File(description="JPEG, PNG, BMP, GIF, TIFF or WebP of 8 bits")]
_Modality = Annotated[
    str, Form(description="how it was taken: visible, or thermal (with near-infrared)")
]
_Time = Annotated[str | None, Form(description="ISO 8601, such as 2024-05-01T08:00+02:00")]
_Name = Annotated[str, InPath(description="name of a row, as a search gives it")]
_Side = Annotated[Literal["probes", "gallery"], InPath(description="queries, or the images marked")]
_Text = Annotated[str | None, Form(max_length=_LABEL, description="label of the row")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Removal(_Body):
    """Rows that fit all given conditions."""

    ids: list[str] = Field([], max_length=10_000, description="names of rows, as a search gives")
    identity: str | None = Field(None, description="rows of this person")
    camera: str | None = Field(None, description="rows of this camera")
    before: str | None = Field(None, description="taken before this time, ISO 8601")
    after: str | None = Field(None, description="taken at this time or later")


class _Mark(_Body):
    """What a person says of a match."""

    query: str = Field(description="name of the query, as a search gives")
    match: str = Field(description="id of the match")
    right: bool | None = Field(description="whether both show one person; null takes it back")


def create_app(resident: Resident) -> Callable[..., Any]:
    """Return the server as an ASGI application.

    Args:
        resident: the model and the gallery, running.
    """
    app = FastAPI(
        title="cmemd serve",
        description=_DESCRIPTION,
        version=__version__,
        docs_url=None,
        redoc_url=None,
    )
    _add_errors(app)
    _add_pages(app, resident.metrics, resident)
    _add_search(app, resident)
    _add_gallery(app, resident)
    _add_marks(app, resident)
    return Guard(app, resident.settings, resident.metrics, resident.audit)


def _add_errors(app: FastAPI) -> None:
    def error(status: int, line: str) -> JSONResponse:
        return JSONResponse({"error": line}, status)

    @app.exception_handler(InputError)
    def bad_input(_: Request, fault: InputError) -> JSONResponse:
        return error(422, printable(fault))

    @app.exception_handler(RequestValidationError)
    def bad_request(_: Request, fault: RequestValidationError) -> JSONResponse:
        first = fault.errors()[0]
        name = ".".join(str(part) for part in first["loc"][1:]) or "the request"
        if first["type"] == "missing":
            return error(422, f"expected a value of {name}, got none: send it, see /docs")
        got = printable(repr(first["input"]))[:80]
        return error(422, f"expected {name} as /docs says, got {got}: {first['msg'].lower()}")

    @app.exception_handler(HTTPException)
    def refused(_: Request, fault: HTTPException) -> JSONResponse:
        line = str(fault.detail)
        if not line.startswith("expected "):
            line = f"expected a request as /docs describes it, got another one ({line}): correct it"
        return error(fault.status_code, line)

    @app.exception_handler(UnavailableError)
    def unavailable(_: Request, fault: UnavailableError) -> JSONResponse:
        return error(503, f"expected a server at rest, got {fault}")

    @app.exception_handler(OSError)
    def failed(_: Request, fault: OSError) -> JSONResponse:
        _logger.error("%s", fault)
        return error(503, "expected a disk to write to, got an error: see the server's log")


def _add_pages(app: FastAPI, metrics: Metrics, resident: Resident) -> None:
    def send(name: str, kind: str) -> Response:
        return Response(page_file(name), media_type=kind)

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return send("page.html", "text/html")

    @app.get("/page.js", include_in_schema=False)
    def script() -> Response:
        return send("page.js", "text/javascript")

    @app.get("/page.css", include_in_schema=False)
    def style() -> Response:
        return send("page.css", "text/css")

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> Response:  # browsers ask for it unasked
        return Response(status_code=204)

    @app.get("/docs", include_in_schema=False)
    def interface() -> HTMLResponse:
        return HTMLResponse(interface_page(app.openapi()))

    @app.get("/healthz", tags=["state"])
    def health() -> JSONResponse:
        """Return 200 while the server answers searches, and 503 while it cannot."""
        status = "failed" if resident.fault else "ok"
        return JSONResponse({"status": status}, 503 if resident.fault else 200)

    @app.get("/metrics", tags=["state"])
    def counts() -> Response:
        """Return counts and times in Prometheus's text format."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_search(app: FastAPI, resident: Resident) -> None:
    decoders = anyio.CapacityLimiter(_DECODERS)

    async def prepare(image: UploadFile, modality: str) -> Prepared:
        return await _prepare(resident, decoders, image, modality)

    @app.post("/v1/search", tags=["search"])
    async def search(
        request: Request,
        image: _Image,
        modality: _Modality,
        top: Annotated[int, Form(ge=1, le=_MOST, description="matches, at most")] = 10,
        camera: Annotated[
            list[str] | None, Form(description="only this camera; any of several if repeated")
        ] = None,
        since: _Time = None,
        until: _Time = None,
        among: Annotated[
            Literal["visible", "thermal", "all"] | None,
            Form(description="search images of this modality; the one that the query has not"),
        ] = None,
        threshold: Annotated[
            float | None,
            Form(ge=-1, le=1, description="lowest score of a match; the server's own by default"),
        ] = None,
    ) -> dict[str, Any]:
        """Find an image's person: the best rows of the gallery, best first.

        The matches are the rows from the threshold on; what is below has the rest of the best rows.
        """
        condition = _condition(among or _OTHER.get(modality, ""), camera or [], since, until)
        prepared = await prepare(image, modality)
        answer = await _wait(resident.ask(prepared, top, condition))
        query = Query(prepared.sha256, modality, answer.vector)
        if threshold is None and answer.candidates:
            threshold = resident.threshold(modality, condition.modality, answer.candidates)
        marks = resident.marks.of(query)
        shown = [_match(resident, found, marks) for found in answer.found]
        matches = [of for of in shown if threshold is None or of["score"] >= threshold]
        resident.audit.write(
            "search",
            address(request.scope),
            {
                "sha256": prepared.sha256,
                "modality": modality,
                "among": condition.modality or "all",
                "cameras": condition.cameras,
                "since": _iso(condition.since),
                "until": _iso(condition.until),
                "top": top,
                "threshold": threshold,
                "candidates": answer.candidates,
                "found": [found.row.path for found in answer.found[: len(matches)]],
                "best": answer.found[0].score if answer.found else None,
            },
        )
        return {
            "query": resident.remember(query),
            "modality": modality,
            "looks_like_the_other_modality": prepared.suspect,
            "threshold": threshold,
            "candidates": answer.candidates,
            "version": answer.version,
            "no_match": not matches,
            "matches": matches,
            "below": shown[len(matches) :],
        }

    @app.post("/v1/embed", tags=["search"])
    async def embed(request: Request, image: _Image, modality: _Modality) -> dict[str, Any]:
        """Return an image's embedding: numbers of unit length, comparable within one model."""
        prepared = await prepare(image, modality)
        answer = await _wait(resident.ask(prepared, 0, Condition()))
        facts = {"sha256": prepared.sha256, "modality": modality}
        resident.audit.write("embed", address(request.scope), facts)
        return {
            "model": resident.predictor.digest,
            "looks_like_the_other_modality": prepared.suspect,
            "embedding": answer.vector.tolist(),
        }

    @app.post("/v1/gallery/add", tags=["gallery"])
    async def add(
        request: Request,
        image: _Image,
        modality: _Modality,
        identity: _Text = None,
        camera: _Text = None,
        time: _Time = None,
    ) -> dict[str, Any]:
        """Keep an image and add its row; the answer comes when the row is committed."""
        moment = parse_time(time) if time else None
        prepared = await prepare(image, modality)
        source = Source("", identity or None, camera or None, moment)
        path, new = await _wait(resident.add(prepared, source))
        resident.audit.write(
            "add", address(request.scope), {"path": path, "modality": modality, "new": new}
        )
        return {
            "id": resident.id_of(path),
            "added": int(new),
            "looks_like_the_other_modality": prepared.suspect,
            "rows": len(resident.snapshot),
        }


def _add_gallery(app: FastAPI, resident: Resident) -> None:
    settings = resident.settings

    @app.get("/v1/gallery", tags=["gallery"])
    def info() -> dict[str, Any]:
        """Return counts, cameras, the model's digest and the limits of this server."""
        rows = list(resident.snapshot.rows())
        cameras = sorted({row.camera for row in rows if row.camera is not None})
        times = [row.time for row in rows if row.time is not None]
        threshold = settings.threshold
        return {
            "model": resident.predictor.digest,
            "size": resident.predictor.size,
            "rows": len(rows),
            "visible": sum(row.modality == "visible" for row in rows),
            "thermal": sum(row.modality == "thermal" for row in rows),
            "identities": len({row.identity for row in rows} - {None}),
            "cameras": cameras[:_NAMED],
            "since": _iso(min(times, default=None)),
            "until": _iso(max(times, default=None)),
            "version": resident.snapshot.version,
            "threshold": "calibrated" if isinstance(threshold, Path) else threshold,
            "most_bytes": settings.most_bytes,
            "most_pixels": settings.most_pixels,
            "images_shared": bool(settings.images_roots),
            "forget_after_days": settings.forget_after,
        }

    @app.post("/v1/gallery/remove", tags=["gallery"])
    async def remove(request: Request, what: _Removal) -> dict[str, int]:
        """Remove the rows that fit all conditions, and the images of rows that were added here."""
        paths = [resident.path_of(name) for name in what.ids]
        since, until = (text and parse_time(text) for text in (what.after, what.before))
        conditions: dict[str, Any] = {}
        if what.identity is not None:
            conditions["identities"] = [what.identity]
        if what.camera is not None:
            conditions["cameras"] = [what.camera]
        if since:
            conditions["since"] = since
        if until:
            conditions["until"] = until
        if not paths and not conditions:
            raise InputError("a condition", "none", "give ids, identity, camera, before or after")
        removed = await _wait(resident.remove(paths, **conditions))
        facts = what.model_dump(exclude_defaults=True) | {"paths": paths, "removed": removed}
        resident.audit.write("remove", address(request.scope), facts)
        return {"removed": removed, "rows": len(resident.snapshot)}

    @app.get("/v1/gallery/images/{name}", tags=["gallery"])
    def image(request: Request, name: _Name) -> Response:
        """Return the image of a row as a JPEG, if the operator allows its folder."""
        path = resident.path_of(name)
        if not _is_shared(settings, path):
            raise HTTPException(
                403,
                "expected an image that this server may show, got another one: start it with "
                "--images-root",
            )
        key = located(path)
        try:
            picture = read_rgb(key.path, box=key.box)
        except InputError:
            raise HTTPException(
                404, "expected the image of this row, got none that can be read: embed it again"
            ) from None
        resident.audit.write("image", address(request.scope), {"path": path})
        picture.thumbnail((_SHOWN, _SHOWN))
        content = io.BytesIO()
        picture.save(content, "JPEG", quality=90)
        return Response(content.getvalue(), media_type="image/jpeg")


def _add_marks(app: FastAPI, resident: Resident) -> None:
    @app.post("/v1/gallery/marks", tags=["marks"])
    def mark(request: Request, what: _Mark) -> dict[str, Any]:
        """Store whether a match is right; the answer comes when the mark is on the disk."""
        query, path = resident.recall(what.query), resident.path_of(what.match)
        resident.marks.put(query, path, what.right)
        facts = {"sha256": query.sha256, "path": path, "right": what.right}
        resident.audit.write("mark", address(request.scope), facts)
        return {"match": what.match, "right": what.right}

    @app.get("/v1/gallery/labels/{side}", tags=["marks"])
    def export(request: Request, side: _Side) -> Response:
        """Return the labels of the marks as a file for cmemd calibrate: its probes or its gallery.

        Rows of folders that the operator does not allow have their id in place of their path.
        """
        settings = resident.settings

        def name(path: str) -> str:
            return path if _is_shared(settings, path) else resident.id_of(path)

        probes, gallery = labels(resident.marks, resident.snapshot, name)
        if not probes:
            raise InputError("marks to export", "none", "mark matches as right or wrong first")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "labels.npz")
            write_embeddings(probes if side == "probes" else gallery, file)
            content = file.read_bytes()
        resident.audit.write("export", address(request.scope), {"side": side})
        headers = {"content-disposition": f'attachment; filename="{side}.npz"'}
        return Response(content, media_type="application/octet-stream", headers=headers)


async def _prepare(
    resident: Resident, decoders: anyio.CapacityLimiter, image: UploadFile, modality: str
) -> Prepared:
    of = as_modality(modality)
    most = resident.settings.most_bytes
    data = await image.read(most + 1)
    if len(data) > most:
        raise HTTPException(
            413, f"expected an image of at most {most / 1e6:g} MB, got more: reduce it"
        )
    return await anyio.to_thread.run_sync(resident.prepare, data, of, limiter=decoders)


async def _wait(future: Any) -> Any:

    return await asyncio.wrap_future(future)


def _condition(among: str, cameras: list[str], since: str | None, until: str | None) -> Condition:
    after, before = (parse_time(text) if text else None for text in (since, until))
    if after and before and after >= before:
        raise InputError("since before until", f"{since} and {until}", "swap them")
    return Condition(None if among == "all" else among, tuple(sorted(cameras)), after, before)


def _match(resident: Resident, found: Found, marks: dict[str, bool]) -> dict[str, Any]:
    row = found.row
    shared = _is_shared(resident.settings, row.path)
    name = resident.id_of(row.path)
    return {
        "id": name,
        "score": found.score,
        **_labels(row),
        "path": row.path if shared else None,
        "image": f"/v1/gallery/images/{name}" if shared else None,
        "right": marks.get(row.path),
    }


def _labels(row: Row) -> dict[str, Any]:
    return {
        "modality": row.modality,
        "identity": row.identity,
        "camera": row.camera,
        "time": _iso(row.time),
    }


def _is_shared(settings: Settings, path: str) -> bool:
    """Return whether a row's file lies, with all links followed, in an allowed folder."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        file = Path(located(path).path).resolve()
        return any(file.is_relative_to(root) for root in settings.images_roots)
    return False


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
