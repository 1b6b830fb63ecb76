"""The page's server among those who mean it no good: nothing gets in, nothing piles up, others go on."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from page_runs import Served, serving
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from reverie.play.page.messages import SIZE, unpack
from reverie.play.page.server import VISITS

IDLE: list[int] = []
"""threads of the server while nobody visits"""


@pytest.fixture(scope="module")
def served(catch_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(catch_run, tmp_path_factory.mktemp("served")) as server:
        with visit(server) as first:
            answer(first, "hello")
        time.sleep(1.0)
        IDLE.append(threads(server))
        yield server


@pytest.fixture(autouse=True)
def nothing_left(served: Served) -> Iterator[None]:
    """Whatever happened, all visits end and their threads with them."""
    yield
    until = time.monotonic() + 10
    while threads(served) > IDLE[0] and time.monotonic() < until:
        time.sleep(0.05)
    assert threads(served) <= IDLE[0]


@contextmanager
def visit(served: Served, key: str | None = None, **more: Any) -> Iterator[ClientConnection]:
    options = {"origin": f"http://{served.host}", "compression": None, "max_size": None, **more}
    with connect(f"ws://{served.host}/play?key={served.key if key is None else key}", **options) as client:
        yield client


def ask(client: ClientConnection, **command: Any) -> None:
    client.send(json.dumps(command))


def answer(client: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of a kind; views on the way are acknowledged."""
    while True:
        document, _ = unpack(client.recv(timeout=20))  # type: ignore[arg-type]
        if document["kind"] == "view":
            ask(client, do="ack", frame=document["frame"])
        if document["kind"] == kind:
            return document


def get(served: Served, path: str, host: str | None = None, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(served.host, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", served.host if host is None else host)
    connection.endheaders()
    response = connection.getresponse()
    return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()


def threads(served: Served) -> int:
    return len(list(Path(f"/proc/{served.process.pid}/task").iterdir()))


# Who may come in


def test_it_listens_on_this_machine_alone_and_wants_its_key(served: Served) -> None:
    assert served.url.startswith("http://127.0.0.1:")
    assert len(served.key) >= 32
    status, headers, body = get(served, f"/?key={served.key}")
    assert status == 200
    assert b"<title>Reverie</title>" in body
    policy = headers["content-security-policy"]
    assert policy.startswith(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'"
    )
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    for wrong in ("/", "/?key=", f"/?key={served.key[:-1]}", f"/?key={served.key}x", f"/?Key={served.key}"):
        status, _, body = get(served, wrong)
        assert (status, b"<" in body) == (403, False)


def test_nothing_but_three_files_is_there(served: Served) -> None:
    for path in ("/page.js", "/page.css"):
        assert get(served, path)[0] == 200
    for path in ("/../pyproject.toml", "/static/page.js", "/page.js/../server.py", "/%2e%2e/server.py", "/page.html"):
        assert get(served, path)[0] == 404
    assert get(served, f"//etc/passwd?key={served.key}")[0] == 404
    assert get(served, f"/?key={served.key}", method="POST")[0] == 405


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:80", "", "[::1", "10.0.0.1", "127.0.0.1; script-src *"]
)
def test_another_name_for_this_machine_is_refused(served: Served, host: str) -> None:
    assert get(served, f"/?key={served.key}", host=host)[0] in (400, 403)
    with pytest.raises(InvalidStatus), visit(served, additional_headers={"Host": host}):
        pass


@pytest.mark.parametrize("origin", ["http://evil.example", "https://127.0.0.1", "null", None, "http://127.0.0.1:1"])
def test_a_socket_of_another_page_is_refused(served: Served, origin: str | None) -> None:
    with pytest.raises(InvalidStatus) as caught, visit(served, origin=origin):
        pass
    assert caught.value.response.status_code == 403


@pytest.mark.parametrize("key", ["", "x", "'%20OR%201=1", "%00"])
def test_a_socket_without_the_key_is_refused(served: Served, key: str) -> None:
    with pytest.raises(InvalidStatus) as caught, visit(served, key):
        pass
    assert caught.value.response.status_code == 403


# What they may send


def test_garbage_is_answered_and_the_visit_goes_on(served: Served) -> None:
    with visit(served) as client:
        assert answer(client, "hello")["agent"] == "dreamerv2"
        answer(client, "view")
        for garbage in (
            "{",
            "[]",
            '{"do": "rm -rf"}',
            b"\x00\xff",
            '{"do": "hold", "action": 99}',
            '{"do": "set", "dreams": 0}',
        ):
            client.send(garbage)
            assert len(answer(client, "error")["text"]) < 300
        ask(client, do="replay", row=2**53)
        ask(client, do="step")
        assert answer(client, "view")["position"] >= 0
        ask(client, do="record", on=True)
        while not answer(client, "view")["recording"]["on"]:
            pass


def test_an_action_is_a_step_only_while_time_stands_still(served: Served) -> None:
    """Whatever the page showed when it was taken: a message to play may be on its way."""
    with visit(served) as client:
        answer(client, "hello")
        first = answer(client, "view")
        assert (first["running"], first["position"]) == (False, 0)
        ask(client, do="hold", action=0, step=True)
        assert answer(client, "view")["position"] == 1
        ask(client, do="hold", action=None, step=False)
        assert answer(client, "view")["position"] == 1
        ask(client, do="play")
        ask(client, do="hold", action=0, step=True)
        views = [answer(client, "view") for _ in range(3)]
        assert all(view["running"] for view in views)
        ask(client, do="pause")
        while answer(client, "view")["running"]:
            pass
        ask(client, do="set", wheel="agent")
        stood = answer(client, "view")["position"]
        ask(client, do="hold", action=0, step=True)
        assert answer(client, "view")["position"] == stood, "the agent steers"


def test_a_huge_message_closes_its_own_visit(served: Served) -> None:
    with visit(served) as other, visit(served) as client:
        answer(client, "hello")
        client.send("x" * (SIZE + 1))
        with pytest.raises(ConnectionClosed) as caught:
            answer(client, "nothing of this kind")
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009
        answer(other, "hello")


def test_bytes_that_are_no_http_are_survived(served: Served) -> None:
    host, port = served.host.split(":")
    for raw in (
        b"\x16\x03\x01\x02\x00" * 50,
        b"GET / HTTP/9.9\r\n\r\n",
        b"A" * 100_000,
        b"GET /?key=\xff HTTP/1.1\r\n\r\n",
    ):
        with socket.create_connection((host, int(port)), timeout=10) as client, suppress(ConnectionError):
            client.sendall(raw)
            client.shutdown(socket.SHUT_WR)
            while client.recv(4096):
                pass
    assert get(served, f"/?key={served.key}")[0] == 200


def test_more_visitors_than_there_is_room_for_are_told_so(served: Served) -> None:
    with ExitStack() as stack:
        for _ in range(VISITS):
            answer(stack.enter_context(visit(served)), "hello")
        with visit(served) as late, pytest.raises(ConnectionClosed) as caught:
            late.recv(timeout=20)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1013
        assert "close another tab" in caught.value.rcvd.reason


# What it costs


def play(client: ClientConnection, seconds: float) -> float:
    """Moments a second that a client sees at full speed."""
    ask(client, do="set", speed=60.0, wheel="agent")
    ask(client, do="play")
    began, seen = time.monotonic(), set()
    while time.monotonic() - began < seconds:
        seen.add(answer(client, "view")["position"])
    ask(client, do="pause")
    return len(seen) / (time.monotonic() - began)


def test_sockets_that_come_and_go_leave_nothing_behind(served: Served) -> None:
    with visit(served) as good:
        answer(good, "hello")
        for _ in range(2):  # what is loaded once is loaded
            with visit(served) as client:
                answer(client, "hello")
                play(client, 0.5)
        play(good, 0.5)
        time.sleep(1.0)
        before, running = served.memory(), threads(served)
        opened = []
        for _ in range(50):
            raw = socket.create_connection(tuple(served.host.split(":")), timeout=10)  # type: ignore[arg-type]
            raw.sendall(
                f"GET /play?key={served.key} HTTP/1.1\r\nHost: {served.host}\r\nOrigin: http://{served.host}\r\n"
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            opened.append(raw)
        assert play(good, 0.5) > 0
        for raw in opened:
            raw.close()
        time.sleep(1.0)
        assert threads(served) <= running
        play(good, 0.5)
        assert served.memory() < 1.1 * before


def test_a_client_that_never_reads_costs_no_memory_and_no_time(served: Served) -> None:
    with visit(served) as good:
        answer(good, "hello")
        play(good, 0.5)
        with ExitStack() as stack:
            deaf = []
            for _ in range(3):
                client = stack.enter_context(visit(served, max_queue=1, close_timeout=0.2))
                ask(client, do="set", speed=60.0, wheel="agent", dreams=16)
                ask(client, do="play")
                deaf.append(client)
            time.sleep(0.5)
            before = served.memory()
            stop = threading.Event()

            def pester() -> None:
                while not stop.is_set():
                    for client in deaf:
                        client.send('{"do": "nonsense"}')
                    time.sleep(0.002)

            thread = threading.Thread(target=pester)
            thread.start()
            rate = play(good, 2.0)
            stop.set()
            thread.join()
            assert rate > 2
            assert served.memory() < 1.1 * before


def test_two_tabs_do_not_disturb_each_other(served: Served) -> None:
    def moments(client: ClientConnection, steps: int) -> list[str]:
        seen = [answer(client, "view")]
        for _ in range(steps):
            ask(client, do="step")
            seen.append(answer(client, "view"))
        return [json.dumps({**view, "frame": 0}) for view in seen]

    with visit(served) as one, visit(served) as two:
        first, second = answer(one, "hello"), answer(two, "hello")
        assert first == second
        ask(two, do="play")
        seen = moments(one, 5)
        positions = [json.loads(view)["position"] for view in seen]
        assert positions == [0, 1, 2, 3, 4, 5]
        while answer(two, "view")["position"] < 3:
            pass
