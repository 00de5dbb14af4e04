from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.commands import call
from yolofpn.cli.demo import main
from yolofpn.demo.access import is_loopback

pytestmark = pytest.mark.slow


def test_without_the_extra_one_line_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    outcome = call(main, capsys)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "error: the page needs more packages: pip install '.[demo]'\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--weights", "nowhere.weights"], "nowhere.weights"),
        (["--source", "nowhere.mp4"], "nowhere.mp4: no such file"),
        (["--port", "70000"], "not a port from 0 to 65535"),
        (["--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid"),
        (["--password-file", "nowhere"], "nowhere: cannot be read"),
        (["--tls-key", "key.pem"], "--tls-cert"),
        (["--tls-cert", "nowhere.pem"], "nowhere.pem: no certificate"),
        (["--tls-cert", __file__], "no certificate"),
        (["--trusted-proxy", "proxy.example"], "not an address or network"),
        (["--trusted-proxy", "10.0.0.1/8"], "not an address or network"),
        (["--prot", "80"], "did you mean --port"),
    ],
)
def test_bad_options_end_with_one_line(
    capsys: pytest.CaptureFixture[str], weights: Path, words: list[str], expected: str
) -> None:
    words = words if "--weights" in words else ["--weights", str(weights), *words]
    outcome = call(main, capsys, *words)
    assert outcome.code == 2
    assert expected in outcome.err
    assert "Traceback" not in outcome.err


def test_a_taken_port_is_named(capsys: pytest.CaptureFixture[str], weights: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = call(main, capsys, "--weights", weights, "--port", port)
    assert outcome.code == 2
    assert f"127.0.0.1:{port}" in outcome.err and "another --port" in outcome.err


def test_short_and_empty_passwords_are_refused(
    capsys: pytest.CaptureFixture[str], weights: Path, tmp_path: Path
) -> None:
    for text in ("short\n", "\n", ""):
        (tmp_path / "password").write_text(text)
        outcome = call(main, capsys, "--weights", weights, "--password-file", tmp_path / "password")
        assert outcome.code == 2
        assert "password" in outcome.err and "short\n" not in outcome.err


def test_what_only_this_computer_reaches() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "localhost", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.2", "example.org")))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_end(tiny_graph: Path, tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "YOLOFPN_DEMO_PASSWORD": "long enough", "TMPDIR": str(tmp_path / "tmp")}
    command = [
        sys.executable,
        "-m",
        "yolofpn",
        "demo",
        "--weights",
        str(tiny_graph),
        "--port",
        "0",
        "--host",
        "0.0.0.0",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as server:
        try:
            assert server.stdout is not None and server.stderr is not None
            line = server.stdout.readline()
            port = int(line.rpartition(":")[2].split()[0])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=120) as page:
                assert b"Password" in page.read()
            server.send_signal(how)
            assert server.wait(30) == 0
            warnings = server.stderr.read()
        finally:
            server.kill()
    assert "--tls-cert" in warnings and "--password-file" not in warnings
    assert "long enough" not in line + warnings
    assert "Traceback" not in warnings
    assert list((tmp_path / "tmp").iterdir()) == []
