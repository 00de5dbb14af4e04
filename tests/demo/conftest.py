"""A server that all tests of this folder may share."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo.serving import Client, demo_server
from tests.tiny_detector import write_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights whose answers can be worked out by hand: see tests/tiny_detector.py."""
    return write_tiny(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def port(tiny: Path) -> Iterator[int]:
    """Of a server with the tiny weights."""
    with demo_server([tiny]) as port:
        yield port


@pytest.fixture
def client(port: int) -> Client:
    """A browser that has just opened the page."""
    client = Client(port)
    assert client.request("/").status == 200
    return client


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Certificate and key, made as docs/demo.md says."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl (Debian package openssl)")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=demo", "-keyout"]
    subprocess.run([openssl, *words, key, "-out", cert], check=True, capture_output=True)
    return cert, key
