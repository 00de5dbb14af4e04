from __future__ import annotations

import http.client
import ipaddress
import re
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.demo.serving import Answer, Client, demo_server, look
from tests.inference.live_fakes import until
from yolofpn.demo.app import STATIC
from yolofpn.demo.limits import ConnectionLimits, ServerLimits, SessionLimits

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def locked_port(tiny: Path) -> Iterator[int]:
    limits = ServerLimits(session=SessionLimits(wrong_password_seconds=0.5))
    with demo_server([tiny], password=PASSWORD, limits=limits) as port:
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


@pytest.mark.slow
def test_over_https_the_cookie_never_travels_in_clear(tiny: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    trusting = ssl.create_default_context(cafile=cert)
    trusting.check_hostname = False
    with demo_server([tiny], tls=(cert, key)) as port:
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=trusting, timeout=60)
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


@pytest.mark.slow
def test_the_right_password_opens_the_page(locked_port: int) -> None:
    client = Client(locked_port)
    start = time.monotonic()
    answer = client.request("/login", b"password=wrong")
    assert (answer.status, answer.headers["location"]) == (303, "/static/login.html#wrong")
    assert time.monotonic() - start >= 0.5  # nobody tries thousands
    assert client.request("/api/info").status == 401
    assert client.request("/login", b"password=correct+horse").headers["location"] == "/"
    assert client.request("/api/info").status == 200
    assert client.request("/").status == 200
    with client.live() as socket:
        socket.send("{}")
    assert client.request("/login", b"password=" + b"x" * 5000).status == 413
    assert client.request("/login", b"&".join([b"a=b"] * 20)).status == 400


@pytest.mark.slow
def test_attempts_that_wait_to_be_sent_at_once_count_as_well(locked_port: int) -> None:
    connections = [http.client.HTTPConnection("127.0.0.1", locked_port, timeout=60) for _ in range(5)]
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


@pytest.mark.slow
def test_a_password_that_does_not_arrive_is_not_waited_for(tiny: Path) -> None:
    limits = ServerLimits(connection=ConnectionLimits(form_seconds=0.3))
    with demo_server([tiny], password=PASSWORD, limits=limits) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.putrequest("POST", "/login")
        connection.putheader("Content-Length", "10")
        connection.endheaders(b"pass")
        assert connection.getresponse().status == 408
        connection.close()


@pytest.mark.slow
def test_behind_a_trusted_proxy_guesses_of_one_user_do_not_lock_out_others(tiny: Path) -> None:
    with demo_server([tiny], password=PASSWORD, proxies=[ipaddress.ip_network("127.0.0.1")]) as port:
        guess = threading.Thread(target=log_in, args=(port, "192.0.2.1", "wrong"))
        guess.start()
        until(lambda: log_in(port, "192.0.2.1", PASSWORD).status == 429)
        assert log_in(port, "203.0.113.9, 192.0.2.1", PASSWORD).status == 429, "what a user writes there is not trusted"
        other = log_in(port, "192.0.2.2", PASSWORD)
        assert (other.status, other.headers["location"]) == (303, "/")
        guess.join()
        assert log_in(port, "192.0.2.1", PASSWORD).headers["location"] == "/"


@pytest.mark.slow
def test_who_is_no_trusted_proxy_cannot_choose_an_address(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    with demo_server([tiny], password=PASSWORD) as port:
        guess = threading.Thread(target=log_in, args=(port, "192.0.2.1", "wrong"))
        guess.start()
        until(lambda: log_in(port, "192.0.2.2", PASSWORD).status == 429)
        guess.join()
    lines = [record.getMessage() for record in caplog.records if "--trusted-proxy 127.0.0.1" in record.getMessage()]
    assert len(lines) == 1


def log_in(port: int, forwarded: str, password: str) -> Answer:
    form = urllib.parse.urlencode({"password": password}).encode()
    return Client(port, headers={"X-Forwarded-For": forwarded, "X-Forwarded-Proto": "https"}).request("/login", form)


def test_behind_a_proxy_that_speaks_https_the_cookie_does_not_travel_in_clear(tiny: Path) -> None:
    with demo_server([tiny], password=PASSWORD, proxies=[ipaddress.ip_network("127.0.0.0/8")]) as port:
        assert log_in(port, "192.0.2.2", PASSWORD).headers["set-cookie"].endswith("; Secure")


@pytest.mark.slow
def test_sessions_end_and_what_runs_in_them(tiny: Path) -> None:
    limits = ServerLimits(session=SessionLimits(idle_seconds=60.0, seconds=4.0))
    with demo_server([tiny], password=PASSWORD, limits=limits) as port:
        client = Client(port)
        client.request("/login", b"password=correct+horse")
        with client.live() as socket:
            assert "empty" in look(socket)[0]["error"]
            assert client.request("/api/info").status == 200
            time.sleep(4.1)
            with pytest.raises(ConnectionClosed) as closed:
                look(socket)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008
        assert client.request("/api/info").status == 401
        assert client.request("/login", b"password=correct+horse").headers["location"] == "/"
        assert client.request("/api/info").status == 200


@pytest.mark.slow
def test_other_cookies_and_odd_ones_do_no_harm(locked_port: int) -> None:
    client = Client(locked_port)
    client.request("/login", b"password=correct+horse")
    own = client.cookie
    for cookies in (f'a="b\\"; {own}', f"{own}; x=\u00e9", f"=;;{own};", f"bad key={{}}; {own}"):
        client.cookie = cookies
        assert client.request("/api/info").status == 200, cookies
    client.cookie = own.partition("=")[0]
    assert client.request("/api/info").status == 401
