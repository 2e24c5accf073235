"""``monitor_app(pool)``: a pool's health, metrics and live dashboard, as an ASGI application.

=============== ====================================================================== =======
address         what it answers                                                        token
=============== ====================================================================== =======
``/livez``      200: the event loop turns                                              no
``/readyz``     200, or 503 with reasons: unhealthy, closed, or about to stop          no
``/healthz``    the whole of ``pool.health()`` as JSON; 503 when unhealthy             yes
``/metrics``    Prometheus' text (extra ``prometheus``)                                yes
``/``           the dashboard                                                          yes
``/api/frame``  the latest frame as JSON: see :mod:`redisutils.monitor.frame`          yes
``/events``     the frames as they are made: see :mod:`redisutils.monitor.stream`      yes
``/static/…``   the dashboard's own files, the same for everybody                      no
``/login``      takes the token from the form that stands in the dashboard's place     –
=============== ====================================================================== =======

The addresses without a token say nothing of a server: ``/readyz`` gives its reasons only to those
who have the token. All addresses in what is served are relative, and nothing needs
ASGI's lifespan, so that the application can be mounted anywhere.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Receive, Scope, Send
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] != "starlette":
        raise
    raise ModuleNotFoundError(
        "redisutils.monitor.app needs starlette, which is not installed: "
        'pip install "redisutils[monitor]"',
        name="starlette",
    ) from None

from redisutils.errors import PoolClosed, RedisUtilsError
from redisutils.monitor.access import SESSION_SECONDS, Access, check_token
from redisutils.monitor.feed import Feed
from redisutils.monitor.files import File, read_page
from redisutils.monitor.guard import Guard
from redisutils.monitor.plain import plain
from redisutils.monitor.stream import VIEWERS, EventStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redisutils.client.redis_pool import RedisPool
    from redisutils.topology.health import HealthReport

__all__ = ["MonitorApp", "monitor_app"]

_PATIENCE: Final = 0.5
"""Seconds for a health check: Kubernetes gives a probe one second unless told otherwise. However
many ask, one check at a time is made."""

_FRESH: Final = 1.0
"""Seconds for which a health check will do for those who ask after it: ``/readyz`` is open to all,
and nobody shall drive Redis by it."""

_FORM: Final = 4096
"""Bytes of the login form at most."""

_WRONG: Final = (b' role="alert" hidden>', b' role="alert">')
"""What of the login page changes when the token was wrong."""

_STOPPING: Final = "the process is about to stop"

Endpoint = Callable[[Request], Awaitable[Response]]


def monitor_app(pool: RedisPool, *, token: str | None = None) -> MonitorApp:
    """An application that shows a pool.

    To be mounted, ``app.mount("/redis", monitor_app(pool))``, or served as it is. The pool need
    not be open yet, and is not closed with the application. From the first request on, until the
    pool is closed, a frame of its figures is made each second. Of several workers each has its own
    pool, and what is shown is that of the one that answers.

    Args:
        token: 16 to 512 characters that a client must send as ``Authorization: Bearer <token>``, or
            a person type in, for twelve hours. Without it everybody may look who can reach it.

    Raises:
        ConfigError: the token is too short, or could not stand in a header.
    """
    return MonitorApp(pool, Access(None if token is None else check_token(token, "token")))


class MonitorApp:
    """Made by :func:`monitor_app`."""

    def __init__(self, pool: RedisPool, access: Access) -> None:
        self.feed = Feed(pool)
        """What makes the frames. It starts with the first request."""
        self.stopping = False
        """Set it when the process is about to end: ``/readyz`` says no from then on, and no new
        viewers are taken."""
        self._pool = pool
        self._report: tuple[float, HealthReport] | None = None
        self._access = access
        self._page = read_page()
        self._app: ASGIApp = Guard(self._routes())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await self._app(scope, receive, send)

    async def stop(self) -> None:
        """End the streams of those who watch, and make no more frames."""
        self.stopping = True
        await self.feed.stop()

    def _routes(self) -> Starlette:
        shielded = {
            "/": self._dashboard,
            "/api/frame": self._frame,
            "/events": self._events,
            "/healthz": self._healthz,
            "/metrics": self._metrics,
            "/metrics/": self._metrics,
        }
        app = Starlette(
            routes=[
                Route("/livez", self._livez),
                Route("/readyz", self._readyz),
                *(Route(path, self._shielded(answer)) for path, answer in shielded.items()),
                Route("/login", self._back),
                Route("/login", self._login, methods=["POST"]),
                Route("/static/{name}", self._static),
                Route("/{name}", self._static),  # beside the page, where it looks for them
            ],
            exception_handlers={
                HTTPException: _told,
                RedisUtilsError: _unavailable,
                Exception: _failed,
            },
            lifespan=self._lifespan,
        )
        app.router.redirect_slashes = False
        return app

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Where it is the whole application, it gets one; where it is mounted, none."""
        self.stopping = False
        yield
        await self.stop()

    def _begin(self) -> None:
        if not self.stopping:
            self.feed.start()

    # -- who may look ------------------------------------------------------------------------

    def _may_look(self, request: Request) -> bool:
        cookie = request.cookies.get(self._access.cookie)
        return self._access.allows(request.headers.get("authorization"), cookie)

    def _shielded(self, answer: Endpoint) -> Endpoint:
        async def shielded(request: Request) -> Response:
            if self._may_look(request):
                self._begin()
                return await answer(request)
            if answer == self._dashboard:
                return self._form(request, wrong=False)
            given = request.headers.get("authorization")
            raise HTTPException(
                401,
                "this needs the token that the server was started with, as the header "
                "'Authorization: Bearer <token>'"
                if given is None
                else "that is not the token",
                {"WWW-Authenticate": _challenge(wrong=given is not None)},
            )

        return shielded

    def _form(self, request: Request, *, wrong: bool) -> Response:
        page = self._page["login.html"]
        return Response(
            page.content.replace(*_WRONG) if wrong else page.content,
            401,
            {"WWW-Authenticate": _challenge(wrong=wrong)},
            page.kind,
        )

    async def _login(self, request: Request) -> Response:
        token = parse_qs(await _body(request)).get("token", [""])[-1]
        if not self._access.open:
            if not self._access.knows(token.strip()):
                return self._form(request, wrong=True)
            session = self._access.begin()
        else:
            session = ""
        answer = await self._back(request)
        if session:
            answer.set_cookie(
                self._access.cookie,
                session,
                path=None,  # the browser's own: where it finds the form, behind whatever proxy
                max_age=int(SESSION_SECONDS),
                secure=_by_https(request),
                httponly=True,
                samesite="strict",
            )
        return answer

    async def _back(self, request: Request) -> Response:
        return Response(status_code=303, headers={"Location": "./"})

    # -- what everybody may know ---------------------------------------------------------------

    async def _livez(self, request: Request) -> Response:
        return Response("alive\n", media_type="text/plain")

    async def _readyz(self, request: Request) -> Response:
        self._begin()
        reasons = await self._unready()
        told = {"ready": not reasons, "reasons": reasons}
        if not self._may_look(request):
            del told["reasons"]
        return _json(told, 503 if reasons else 200)

    async def _unready(self) -> list[str]:
        """Why it is not ready; empty when it is."""
        if self.stopping:
            return [_STOPPING]
        try:
            report = await self._health()
        except RedisUtilsError as error:
            return [str(error)]
        return [str(reason) for reason in report.reasons] if report.status == "unhealthy" else []

    async def _health(self) -> HealthReport:
        """The pool's; one of the last second will do, whoever asks how often."""
        if self._report is not None and not self._pool.closed:
            made, report = self._report
            if monotonic() - made < _FRESH:
                return report
        report = await self._pool.health(_PATIENCE)
        self._report = monotonic(), report
        return report

    async def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        file = self._page.get(name)
        if file is None or name.endswith(".html"):
            raise HTTPException(404, "there is nothing here")
        return _file(request, file)

    # -- what the token is for -------------------------------------------------------------------

    async def _dashboard(self, request: Request) -> Response:
        return _file(request, self._page["index.html"])

    async def _healthz(self, request: Request) -> Response:
        try:
            report = await self._health()
        except RedisUtilsError as error:
            why = {"reason": str(error), "code": "pool", "severity": "unhealthy"}
            told = {"status": "unhealthy", "reasons": [why], "error": str(error)}
            return _json(told, 503)
        return _json(plain(report), 503 if report.status == "unhealthy" else 200)

    async def _frame(self, request: Request) -> Response:
        wait = not self.stopping and self._is_open()
        sheet = await self.feed.first(2.0) if wait else self.feed.latest
        if sheet is None:
            raise HTTPException(503, self._why_no_frame())
        return Response(sheet.data, media_type="application/json")

    async def _events(self, request: Request) -> Response:
        if self.feed.viewers >= VIEWERS:
            raise HTTPException(503, f"{VIEWERS} dashboards are open already")
        if not self.feed.running:
            raise HTTPException(503, self._why_no_frame())
        return EventStream(self.feed)

    def _is_open(self) -> bool:
        """Whether there is, or was, anything to tell of."""
        try:
            return self._pool.server is not None
        except PoolClosed:
            return False

    def _in_its_loop(self) -> bool:
        """Whether this is the event loop that the pool was opened in."""
        try:
            return self._pool.server.loop is asyncio.get_running_loop()
        except PoolClosed:
            return True  # it was never open

    def _why_no_frame(self) -> str:
        where = self._pool.config.endpoint
        if self._pool.closed:
            return f"the pool of {where} is closed"
        if self.stopping:
            return _STOPPING
        return self.feed.error or f"the pool of {where} is not open yet"

    async def _metrics(self, request: Request) -> Response:
        try:
            from redisutils.monitor.prometheus import exposition
        except ImportError as error:  # it says what to install
            raise HTTPException(501, str(error)) from None
        accept = request.headers.get("accept", "")
        if self._in_its_loop():
            content, kind = exposition(self._pool, accept=accept)
        else:  # which may hang: this one shall not
            content, kind = await asyncio.to_thread(exposition, self._pool, accept=accept)
        return Response(content, headers={"Content-Type": kind})


def _by_https(request: Request) -> bool:
    """Whether the browser came by TLS, here or to a proxy in between. Whoever lies about that only
    loses their own session."""
    forwarded = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    return request.url.scheme == "https" or forwarded == "https"


def _challenge(*, wrong: bool) -> str:
    return 'Bearer realm="redisutils"' + (', error="invalid_token"' if wrong else "")


async def _body(request: Request) -> str:
    found = bytearray()
    async for piece in request.stream():
        found += piece
        if len(found) > _FORM:
            raise HTTPException(413, f"the form has more than {_FORM} bytes")
    return found.decode("ascii", "replace")


def _json(content: Any, status: int = 200) -> Response:
    text = json.dumps(content, allow_nan=False) + "\n"
    return Response(text, status, media_type="application/json")


def _file(request: Request, file: File) -> Response:
    headers = {"ETag": file.tag, "Cache-Control": "no-cache"}  # kept, and asked for each time
    known = request.headers.get("if-none-match", "")
    if file.tag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers={**headers, "Content-Type": file.kind})


async def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = _json({"error": error.detail}, error.status_code)
    answer.headers.update(error.headers or {})
    return answer


async def _failed(request: Request, error: Exception) -> Response:
    return _json({"error": f"this failed, and the log says more: {type(error).__name__}"}, 500)


async def _unavailable(request: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, 503)
