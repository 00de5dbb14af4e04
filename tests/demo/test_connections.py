from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from tests.demo.serving import Client, app_server
from tests.inference.live_fakes import until
from yolofpn.demo import connections
from yolofpn.demo.connections import FewLines, is_proxy
from yolofpn.demo.limits import ConnectionLimits, ServerLimits

SHORT = ConnectionLimits(per_address=4, head_seconds=0.4, idle_seconds=1, stall_seconds=0.4, form_seconds=0.4)
PROXY = [ipaddress.ip_network("127.0.0.1")]
ANSWER = b"HTTP/1.1 200"
LARGE = 12 * 2**20


async def page(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers at once, reads no body; on /large with more than any system keeps for a client."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
    else:
        await PlainTextResponse("x" * (LARGE if scope["path"] == "/large" else 1))(scope, receive, send)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with app_server(page, limits=ServerLimits(connection=SHORT)) as port:
        yield port


def connect(port: int) -> socket.socket:
    """With little room for what it does not read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", port))
    return connection


def get(path: str = "/", extra: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n".encode()


def read_all(connection: socket.socket) -> bytes:
    """Until the server ends the connection, however it does that."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while block := connection.recv(65536):
            received += block
    return received


def seconds_until_closed(connection: socket.socket) -> float:
    start = time.monotonic()
    read_all(connection)
    return time.monotonic() - start


def is_refused(port: int) -> bool:
    with connect(port) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(get())
        return not connection.recv(100).startswith(ANSWER)
    return True


def wait_for_room(port: int) -> None:
    deadline = time.monotonic() + 60
    while is_refused(port) and time.monotonic() < deadline:
        time.sleep(0.02)


def test_one_address_has_so_many_connections_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    with app_server(page, limits=ServerLimits(connection=replace(SHORT, head_seconds=60.0))) as port:
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(connect(port))
            assert all(is_refused(port) for _ in range(20))
        wait_for_room(port)
        assert not is_refused(port)
    lines = [record for record in caplog.records if "refused" in record.getMessage()]
    assert len(lines) == 1 and not any(record.exc_info for record in caplog.records)


def test_a_trusted_proxy_brings_many_users_and_all_together_are_bounded() -> None:
    limits = ServerLimits(connection=replace(SHORT, per_address=2, connections=6, head_seconds=60.0))
    with app_server(page, limits=limits, proxies=PROXY) as port, contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(connect(port))
        assert not is_refused(port)
        stack.enter_context(connect(port))
        assert is_refused(port)


@pytest.mark.slow
@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_a_head_that_does_not_come_ends_the_connection(port: int, start: bytes) -> None:
    with connect(port) as connection:
        connection.sendall(start)
        assert 0.2 < seconds_until_closed(connection) < 15


@pytest.mark.slow
def test_a_head_that_comes_byte_by_byte_ends_the_connection(port: int) -> None:
    with connect(port) as connection, contextlib.suppress(ConnectionError):
        start = time.monotonic()
        for byte in get("/" + "x" * 5000):
            connection.sendall(bytes([byte]))
            time.sleep(0.02)
            if time.monotonic() - start > 15:
                pytest.fail("the server waits for ever")


@pytest.mark.slow
def test_the_second_head_has_a_deadline_too(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(get())
        assert connection.recv(1000).startswith(ANSWER)
        connection.sendall(b"GET / HT")
        assert 0.1 < seconds_until_closed(connection) < 15


@pytest.mark.slow
def test_an_idle_connection_ends(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(get())
        assert seconds_until_closed(connection) < 15


@pytest.mark.slow
def test_a_body_that_nobody_wants_is_not_read_for_ever(port: int) -> None:
    with connect(port) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        start = time.monotonic()
        for _ in range(1000):
            connection.sendall(b"x")
            time.sleep(0.02)
            if time.monotonic() - start > 15:
                pytest.fail("the server reads for ever")


@pytest.mark.slow
def test_a_client_that_takes_no_answer_is_given_up(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(get("/large"))
        time.sleep(0.8)
        assert len(read_all(connection)) < LARGE


@pytest.mark.slow
def test_a_slow_client_gets_all_of_its_answer(port: int) -> None:
    received = 0
    with connect(port) as connection:
        connection.sendall(get("/large", "Connection: close\r\n"))
        while block := connection.recv(2**20):
            received += len(block)
            time.sleep(0.001)
    assert received > LARGE


def upgrade(port: int, extra: str = "") -> socket.socket:
    connection = connect(port)
    key = base64.b64encode(os.urandom(16)).decode()
    upgrading = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
    connection.sendall(get("/", f"{upgrading}Sec-WebSocket-Version: 13\r\n{extra}"))
    return connection


@pytest.mark.slow
def test_pings_are_not_read_faster_than_their_answers_are_taken(port: int) -> None:
    wait_for_room(port)
    pings = (b"\x89\xfd" + bytes(4) + bytes(125)) * 1000
    rest = b""
    deadline = time.monotonic() + 10
    with upgrade(port) as connection:
        assert b" 101 " in connection.recv(1000)
        connection.settimeout(0.5)
        with pytest.raises(ConnectionError):  # the server has stopped to read, and then given up
            while time.monotonic() < deadline:
                rest = rest or pings
                with contextlib.suppress(TimeoutError):
                    rest = rest[connection.send(rest) :]


def test_a_websocket_handshake_that_fails_ends_the_connection(port: int, caplog: pytest.LogCaptureFixture) -> None:
    wait_for_room(port)
    broken = get("/", "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n")
    many = "".join(f"X-{number}: y\r\n" for number in range(200))
    for _ in range(5):
        with connect(port) as connection:
            connection.sendall(broken)
            assert b" 101 " not in read_all(connection)
        with upgrade(port, many) as connection:
            assert b" 101 " not in read_all(connection)
    assert not any(record.exc_info for record in caplog.records)


def test_text_that_is_none_is_one_line_in_the_log(port: int, caplog: pytest.LogCaptureFixture) -> None:
    wait_for_room(port)
    for _ in range(3):
        with upgrade(port) as connection:
            connection.recv(1000)
            connection.sendall(b"\x81\x82" + bytes(4) + b"\xff\xfe")
            read_all(connection)
    assert not any(record.exc_info for record in caplog.records)
    assert len(caplog.records) <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "request_", [b"\0" * 100 + b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"x" * 40_000, b"\x16\x03\x01"]
)
def test_what_is_no_http_is_one_line_in_the_log(port: int, request_: bytes, caplog: pytest.LogCaptureFixture) -> None:
    wait_for_room(port)
    for _ in range(2):
        with connect(port) as connection:
            connection.sendall(request_)
            assert ANSWER not in read_all(connection)
    assert not any(record.exc_info for record in caplog.records)
    assert len(caplog.records) <= 1


def test_headers_are_bounded_however_they_arrive(port: int) -> None:
    wait_for_room(port)
    for size, good in ((30_000, True), (33_000, False), (300_000, False)):
        with connect(port) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(get("/", f"Cookie: {'a' * size}\r\nConnection: close\r\n"))
            assert read_all(connection).startswith(ANSWER) == good


def test_faults_of_clients_are_one_line_a_minute_and_others_all() -> None:
    now = 0.0
    lines = FewLines(60.0, lambda: now)

    def logged(text: str) -> bool:
        return lines.filter(logging.makeLogRecord({"msg": text}))

    assert [logged("Invalid HTTP request received.") for _ in range(3)] == [True, False, False]
    assert logged("Invalid UTF-8 sequence received from client.")
    assert all(logged("Exception in ASGI application\n") for _ in range(3))
    ended = asyncio.CancelledError()
    assert not lines.filter(logging.makeLogRecord({"msg": "Exception", "exc_info": (type(ended), ended, None)}))
    now = 61.0
    assert logged("Invalid HTTP request received.")


@pytest.mark.parametrize(
    ("host", "expected"),
    [("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("11.1.2.3", False), ("2001:db8::1", True), ("x", False)],
)
def test_proxies_are_addresses_or_networks(host: str, expected: bool) -> None:
    networks = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::1")]
    assert is_proxy(host, networks) == expected


@pytest.mark.slow
def test_a_tls_handshake_has_a_deadline(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "ConnectionLimits", lambda: SHORT)
    with app_server(page, limits=ServerLimits(connection=SHORT), tls=certificate) as port:
        with connect(port) as connection:
            assert 0.2 < seconds_until_closed(connection) < 15
        with connect(port) as connection:
            connection.sendall(get())  # not https
            read_all(connection)
    assert caplog.records == []


def test_requests_of_an_address_behind_a_proxy_are_bounded_too() -> None:
    slow = replace(SHORT, per_address=2, form_seconds=5.0)
    form = b"POST /login HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: %s\r\nContent-Length: 10\r\n\r\n"
    limits = ServerLimits(connection=slow)
    with (
        app_server(page, limits=limits, proxies=PROXY, password="x" * 8) as port,
        connect(port) as one,
        connect(port) as two,
    ):
        for connection in (one, two):
            connection.sendall(form % b"192.0.2.1")
        path = "/static/login.html"
        until(lambda: Client(port).request(path, headers={"X-Forwarded-For": "192.0.2.1"}).status == 429)
        assert Client(port).request(path, headers={"X-Forwarded-For": "192.0.2.2"}).status == 200


def test_limits_fit_the_files_of_the_process() -> None:
    resource = pytest.importorskip("resource")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert connections._allowed(10**9) in (10**9, soft - 100, 16)
    assert connections._allowed(3) == 3
    assert re.fullmatch(r"\d+", str(connections._allowed(256)))
