"""The server of the page: three files and a socket, behind a key, for browsers on this machine.

What keeps others out: it listens on 127.0.0.1 unless it is told otherwise; page and socket want the random key of the
address; the socket wants the Origin of its own page, and everything a Host that is this server's (no other site's name
that was made to point here). No path of a request reaches the file system. Messages, visits and what waits for a slow
browser are bounded.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import re
import secrets
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from importlib.resources import files
from types import FrameType
from typing import Any
from urllib.parse import parse_qs

from reverie.errors import UserError
from reverie.play.page.messages import SIZE, parse
from reverie.play.page.recording import Recording
from reverie.play.page.subject import Subject
from reverie.play.page.visit import Visit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

VISITS = 8
"""visits at once"""
CONNECTIONS = 64
"""requests at once, beyond which a browser is told to come back"""
PATIENCE = 10.0
"""seconds that a browser may take to accept a message"""
OUTBOX = 32
"""messages that wait for a browser"""
FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'{socket}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Page:
    """The page as an ASGI application. key: what addresses must have. hosts: names that this server goes by; None: any
    number of an address, and the names of this machine. begin: of visits, see `Visit`."""

    def __init__(
        self,
        subject: Subject,
        key: str,
        hosts: frozenset[str] | None,
        recording: Recording | None = None,
        begin: str = "fresh",
    ) -> None:
        self.subject, self.key, self.hosts = subject, key, hosts
        self.recording, self.begin = recording, begin
        self.visits: set[Visit] = set()
        self._numbers = itertools.count()
        folder = files("reverie.play.page") / "static"
        self._files = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in FILES.items()}
        self.app = self._application()

    def _application(self) -> Any:
        from starlette.applications import Starlette
        from starlette.requests import Request
        from starlette.responses import PlainTextResponse, Response
        from starlette.routing import Route, WebSocketRoute
        from starlette.websockets import WebSocket

        async def file(request: Request) -> Response:
            body, kind = self._files[request.url.path]
            if request.url.path == "/" and not self._has_key(request.scope):
                return PlainTextResponse("This address lacks its key: open the one that `reverie play` prints.\n", 403)
            return Response(body, media_type=kind)

        async def visit(socket: WebSocket) -> None:
            await self._visit(socket)

        routes = [Route(path, file, methods=["GET"]) for path in FILES]
        return Starlette(routes=[*routes, WebSocketRoute("/play", visit)])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what comes from where it should."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        host = _header(scope, b"host")
        if not self._is_mine(host) or (scope["type"] == "websocket" and not self._may_talk(scope, host)):
            await _refuse(scope, receive, send)
            return

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                socket = f" ws://{host}"
                extra = [(n.encode(), v.replace("{socket}", socket).encode()) for n, v in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        await self.app(scope, receive, with_headers)

    def close(self) -> None:
        """End all visits."""
        for visit in list(self.visits):
            visit.close()
        for visit in list(self.visits):
            visit.join(5.0)

    def _has_key(self, scope: Scope) -> bool:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("key", [""])[0]
        return secrets.compare_digest(given.encode(), self.key.encode())

    def _is_mine(self, host: str) -> bool:
        """Whether a Host header names this server."""
        if (found := HOST.fullmatch(host)) is None:
            return False
        name = found[1].strip("[]")
        if self.hosts is not None:
            return name in self.hosts
        with suppress(ValueError):
            return bool(ipaddress.ip_address(name))  # a number cannot be made to point elsewhere
        return name in ("localhost", socket.gethostname().lower(), socket.getfqdn().lower())

    def _may_talk(self, scope: Scope, host: str) -> bool:
        """Whether a socket is opened by a page of this server, with the key."""
        return _header(scope, b"origin") == f"http://{host}" and self._has_key(scope)

    async def _visit(self, socket: Any) -> None:
        from starlette.websockets import WebSocketDisconnect

        await socket.accept()
        if len(self.visits) >= VISITS:
            await socket.close(1013, f"there are {VISITS} visitors already: close another tab")
            return
        loop = asyncio.get_running_loop()
        outbox: asyncio.Queue[bytes | None] = asyncio.Queue(OUTBOX)

        def put(message: bytes | None) -> None:
            if outbox.full():
                outbox.get_nowait()  # only what failed can have filled it: views wait for their acknowledgement
            outbox.put_nowait(message)

        def emit(message: bytes) -> None:
            with suppress(RuntimeError):  # the server has ended
                loop.call_soon_threadsafe(put, message)

        def end() -> None:
            put(None)
            ended.set()

        def ending() -> None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(end)

        ended = asyncio.Event()
        visit = Visit(self.subject, next(self._numbers), emit, self.recording, self.begin, ending)
        self.visits.add(visit)
        visit.start()

        async def send() -> None:
            while (message := await outbox.get()) is not None:
                await asyncio.wait_for(socket.send_bytes(message), PATIENCE)

        async def receive() -> None:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                try:
                    visit.give(parse(message.get("text") or message.get("bytes") or ""))
                except UserError as error:
                    visit.fail(str(error))

        tasks = {asyncio.ensure_future(send()), asyncio.ensure_future(receive())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            visit.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
                await asyncio.wait_for(socket.close(1000), 1.0)
            await ended.wait()
            self.visits.discard(visit)


def _header(scope: Scope, name: bytes) -> str:
    """A header's value; "" if it is missing or there twice."""
    found = [value for key, value in scope["headers"] if key == name]
    return found[0].decode("latin-1").lower() if len(found) == 1 else ""


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 403, with nothing about why."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": ""})
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"10")]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": b"forbidden\n"})


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises UserError, in one line, if the port is taken or the host is not here."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise UserError(f"--host {host} is no address of this machine ({error.strerror or error})") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(CONNECTIONS)
    except OSError as error:
        listening.close()
        raise UserError(
            f"cannot listen on {host}, port {port} ({error.strerror}); name another --port, or 0 for a free one"
        ) from error
    return listening


def address(listening: socket.socket, host: str, key: str) -> str:
    """The address of the page behind a socket."""
    port = listening.getsockname()[1]
    shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/?key={key}"


def is_local(host: str) -> bool:
    """Whether only this machine can reach what listens on a host."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def serve(page: Page, listening: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until Ctrl-C or SIGTERM. ready: called when the page can be opened."""
    import uvicorn

    class Server(uvicorn.Server):
        """Server that ends at a signal and does not raise it again."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

        def _stop(self, number: int, frame: FrameType | None) -> None:
            self.should_exit = True

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    config = uvicorn.Config(
        page,
        log_level="critical",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=SIZE,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        ws_per_message_deflate=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=2,
    )
    try:
        Server(config).run(sockets=[listening])
    finally:
        page.close()
        listening.close()
