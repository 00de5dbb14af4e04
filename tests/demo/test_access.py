from __future__ import annotations

import http.client
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.demo.serving import Client, demo_server, look
from yolofpn.demo.app import STATIC

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def locked_port(tiny: Path) -> Iterator[int]:
    with demo_server([tiny], password=PASSWORD) as port:
        yield port


def test_nothing_is_loaded_from_other_hosts(client: Client) -> None:
    page = client.request("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy and "unsafe" not in policy
    files = sorted(STATIC.iterdir())
    assert {"index.html", "main.js", "style.css"} <= {path.name for path in files}
    for path in files:
        addresses = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", path.read_text())
        assert [found for found in addresses if "www.w3.org" not in found] == [], path


def test_every_file_of_the_page_is_there(client: Client) -> None:
    texts = [path.read_text() for path in STATIC.iterdir()]
    for name in {name for text in texts for name in re.findall(r'"(?:/static|\.)/([\w.]+)"', text)}:
        assert client.request(f"/static/{name}").status == 200, name


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/../../etc/passwd", "/static/"])
def test_no_other_file_can_be_had(port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", path)
    assert connection.getresponse().status in (404, 405)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "192.168.1.5", "", "[", "127.0.0.1.evil.example"]
)
def test_names_that_lead_here_from_elsewhere_are_refused(port: int, host: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.putrequest("GET", "/api/info", skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()
    assert connection.getresponse().status == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.2:7860", "[::1]:7860"])
def test_names_of_this_computer_are_not_refused(port: int, host: str) -> None:
    assert Client(port).request("/api/info", headers={"Host": host}).status == 200


def test_other_web_sites_are_refused(client: Client, port: int) -> None:
    evil = {"Origin": "http://evil.example"}
    own = {"Origin": f"http://127.0.0.1:{port}"}
    refused = client.request("/api/upload", b"x", evil)
    assert (refused.status, refused.headers["x-content-type-options"]) == (403, "nosniff")
    for origin in ("null", "[", f"http://127.0.0.1:{port}.evil.example"):
        assert client.request("/api/upload", b"x", {"Origin": origin}).status == 403
    assert client.request("/api/upload", b"x", own).status == 400
    with pytest.raises((InvalidStatus, ConnectionClosed)), client.live(**evil) as socket:
        socket.recv(timeout=5)
    with client.live(**own) as socket:
        socket.send("{}")


def test_the_cookie_is_for_this_page_alone(port: int) -> None:
    cookie = Client(port).request("/").headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie


def test_two_pages_on_one_computer_leave_each_other_in_peace(port: int, locked_port: int) -> None:
    one, other = Client(port), Client(locked_port)
    one.request("/")
    other.request("/login", b"password=correct+horse")
    names = [client.cookie.partition("=")[0] for client in (one, other)]
    assert names[0] != names[1], "browsers send the cookies of one port to the others as well"


def test_over_https_the_cookie_never_travels_in_clear(tiny: Path, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl (Debian package openssl)")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=demo",
        "-keyout",
    ]  # as docs/demo.md says
    subprocess.run([openssl, *words, key, "-out", cert], check=True, capture_output=True)
    trusting = ssl.create_default_context(cafile=cert)
    trusting.check_hostname = False
    with demo_server([tiny], tls=(cert, key)) as port:
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=trusting, timeout=30)
        connection.request("GET", "/")
        cookie = connection.getresponse().headers["set-cookie"]
        connection.close()
        assert cookie.startswith(f"yolofpn-{port}-tls=") and cookie.endswith("; Secure")
        headers = {"Cookie": cookie.partition(";")[0], "Origin": f"https://127.0.0.1:{port}"}
        with connect(f"wss://127.0.0.1:{port}/api/live", ssl=trusting, additional_headers=headers) as socket:
            assert "empty" in look(socket)[0]["error"]


def test_with_a_password_nothing_is_shown_without_it(locked_port: int) -> None:
    client = Client(locked_port)
    answer = client.request("/")
    assert (answer.status, answer.headers["location"]) == (303, "/static/login.html")
    assert client.cookie == ""
    for path in ("/api/info", "/static/main.js", "/api/weights/0", "/api/videos/x"):
        assert client.request(path).status == 401, path
    assert client.request("/api/upload", b"x").status == 401
    client.cookie = f"yolofpn-{locked_port}=guessed"
    assert client.request("/api/info").status == 401
    with pytest.raises((InvalidStatus, ConnectionClosed)), client.live() as socket:
        socket.recv(timeout=5)
    assert client.request("/static/login.html").status == 200


def test_the_right_password_opens_the_page(locked_port: int) -> None:
    client = Client(locked_port)
    start = time.monotonic()
    answer = client.request("/login", b"password=wrong")
    assert (answer.status, answer.headers["location"]) == (303, "/static/login.html#wrong")
    assert time.monotonic() - start >= 1  # nobody tries thousands
    assert client.request("/api/info").status == 401
    assert client.request("/login", b"password=correct+horse").headers["location"] == "/"
    assert client.request("/api/info").status == 200
    assert client.request("/").status == 200
    with client.live() as socket:
        socket.send("{}")
    assert client.request("/login", b"password=" + b"x" * 5000).status == 413


def test_attempts_that_wait_to_be_sent_at_once_count_as_well(locked_port: int) -> None:
    connections = [http.client.HTTPConnection("127.0.0.1", locked_port, timeout=30) for _ in range(5)]
    for connection in connections:
        connection.putrequest("POST", "/login")
        connection.putheader("Content-Length", "10")
        connection.endheaders(b"password=")
    time.sleep(0.3)  # all of them are let in
    for connection in connections:
        connection.send(b"x")
    assert sorted(connection.getresponse().status for connection in connections) == [303, 429, 429, 429, 429]
    for connection in connections:
        connection.close()
