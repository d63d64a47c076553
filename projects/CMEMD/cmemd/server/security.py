"""Who may call the server, how often, and with how much; and what browsers may do with answers.

Each refusal is JSON with one line, ``{"error": "expected X, got Y: remedy"}``.
"""

import asyncio
import hmac
import json
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException

from cmemd.server.audit import Audit
from cmemd.server.metrics import Metrics
from cmemd.server.settings import Settings

__all__ = ["HEADERS", "Guard", "Rates", "address"]

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
# Pages without data. What they show, they ask for with the token.
_OPEN = ("/", "/docs", "/openapi.json", "/healthz", "/page.js", "/page.css", "/favicon.ico")
_FIELDS = 64 * 1024  # bytes of a form beside its image [chosen]
_BODY_SECONDS = 30.0  # until a body is whole [chosen]
_ADDRESSES = 4096  # whose rates are known at once [chosen]
_WRONG_TOKENS = 5  # at once, and as many a minute after that [chosen]


class Rates:
    """A bucket of tokens for each address: ``burst`` at once, ``rate`` a second in the long run.

    Args:
        rate: requests a second.
        burst: requests at once.
        clock: returns seconds.
    """

    def __init__(
        self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rate = rate
        self.burst = burst
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, address: str, cost: float = 1) -> float:
        """Take from an address's bucket; return 0, or the seconds until there is enough.

        Args:
            address: who asks.
            cost: what to take; 0 only looks whether one is left.
        """
        now = self._clock()
        left, then = self._left.pop(address, (self.burst, now))
        left = min(self.burst, left + self.rate * (now - then))
        needed = max(cost, 1)
        short = left < needed
        self._left[address] = (left if short else left - cost, now)
        while len(self._left) > _ADDRESSES:
            self._left.popitem(last=False)
        return (needed - left) / self.rate if short else 0


class _Refusal(NamedTuple):
    status: int
    reason: str
    line: str
    headers: Mapping[str, str] = {}


class Guard:
    """An ASGI application around another one that refuses, limits, counts and adds headers.

    Args:
        app: the application.
        settings: what the operator allows.
        metrics: takes counts and times.
        audit: takes a line for each refusal.
    """

    def __init__(self, app: Any, settings: Settings, metrics: Metrics, audit: Audit) -> None:
        self.app = app
        self.settings = settings
        self.metrics = metrics
        self.audit = audit
        self._rates = Rates(settings.rate, 2 * settings.rate)
        self._wrong = Rates(_WRONG_TOKENS / 60, _WRONG_TOKENS)
        self._most = settings.most_bytes + _FIELDS

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer a request; web sockets are not answered."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        began, status = time.perf_counter(), 500

        async def send_safely(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {name for name, _ in message["headers"]}
                more = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                message["headers"] = [
                    *message["headers"],
                    *(pair for pair in more if pair[0] not in own),
                ]
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is None:
                await self.app(scope, self._bounded(receive), send_safely)
            else:
                self.metrics.refused.labels(refusal.reason).inc()
                if refusal.status != 429:  # or a flood would fill the disk
                    facts = {"reason": refusal.reason, "path": scope["path"][:200]}
                    self.audit.write("refused", address(scope), facts)
                await _send_refusal(send_safely, refusal)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD") else "other"
            self.metrics.requests.labels(route, method, status).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - began)

    def _refusal(self, scope: _Scope) -> _Refusal | None:
        headers = {
            name.decode("latin-1"): text.decode("latin-1") for name, text in scope["headers"]
        }
        host, client = headers.get("host", ""), address(scope)
        if self.settings.hosts and _name(host) not in self.settings.hosts:
            return _Refusal(
                421,
                "host",
                f"expected a host out of {', '.join(self.settings.hosts)}, got another one: use "
                "the address that the server printed",
            )
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc != host
        elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        # A link to a page may come from anywhere; whatever else a browser asks may not.
        link = headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET"
        if foreign or (elsewhere and not link):
            return _Refusal(
                403,
                "origin",
                "expected a request from this server's own page, got one from another site: open "
                "this server's page",
            )
        if wait := self._rates.wait(client):
            return _Refusal(
                429,
                "rate",
                f"expected at most {self.settings.rate:g} requests a second, got more: wait "
                f"{math.ceil(wait)} s",
                {"retry-after": str(math.ceil(wait))},
            )
        if self.settings.token is not None and scope["path"] not in _OPEN:
            if wait := self._wrong.wait(client, 0):
                return _Refusal(
                    429,
                    "wrong tokens",
                    f"expected the server's token, got wrong ones: wait {math.ceil(wait)} s",
                    {"retry-after": str(math.ceil(wait))},
                )
            kind, _, token = headers.get("authorization", "").partition(" ")
            given = token.strip() if kind.lower() == "bearer" else ""
            if not hmac.compare_digest(given.encode(), self.settings.token.encode()):
                if given:
                    self._wrong.wait(client)
                return _Refusal(
                    401,
                    "token",
                    f"expected the server's token, got {'another one' if given else 'none'}: send "
                    "the header Authorization: Bearer TOKEN",
                    {"www-authenticate": "Bearer"},
                )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > self._most:
            return self._too_large()
        return None

    def _too_large(self) -> _Refusal:
        return _Refusal(413, "size", _most_bytes(self.settings), {"connection": "close"})

    def _bounded(self, receive: _Receive) -> _Receive:
        """Count a body's bytes, whatever its headers say, and wait for it for a limited time."""
        taken, end = 0, time.monotonic() + _BODY_SECONDS
        whole = False

        async def receive_bounded() -> MutableMapping[str, Any]:
            nonlocal taken, whole
            if whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.001, end - time.monotonic()))
            except asyncio.TimeoutError:
                raise HTTPException(
                    408,
                    f"expected the upload within {_BODY_SECONDS:g} s, got a part: send it again",
                ) from None
            taken += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if taken > self._most:
                self.metrics.refused.labels("size").inc()
                raise HTTPException(413, _most_bytes(self.settings))
            return message

        return receive_bounded


def address(scope: _Scope) -> str:
    """Return the address that a request comes from; no header can change it."""
    client = scope.get("client")
    return client[0] if client else "unknown"


def _most_bytes(settings: Settings) -> str:
    return (
        f"expected an image of at most {settings.most_bytes / 1e6:g} MB, got more: reduce it, or "
        "cut out the person"
    )


def _name(host: str) -> str:
    """Return a host without its port."""
    return urlsplit(f"//{host}").hostname or ""


async def _send_refusal(send: _Send, refusal: _Refusal) -> None:
    body = json.dumps({"error": refusal.line}).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **refusal.headers,
    }
    pairs = [(name.encode(), text.encode()) for name, text in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
