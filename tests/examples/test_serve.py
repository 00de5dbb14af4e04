"""The web service of examples/serve under load, on loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import pytest

from tests.tiny_detector import RED, quarters

for _needed in ("litserve", "prometheus_client", "multipart"):
    pytest.importorskip(
        _needed, reason=f"{_needed} is not installed: pip install litserve prometheus-client python-multipart"
    )

SERVER = Path(__file__).parents[2] / "examples" / "serve" / "server.py"


@pytest.fixture(scope="module")
def address(weights: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(SERVER), "--weights", str(weights), "--port", str(port), "--max-mb", "1"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 180
        while time.monotonic() < end and server.poll() is None:
            try:
                if get(f"{address}/health") == (200, "ok"):
                    break
            except OSError:
                pass
            time.sleep(0.05)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # SIGTERM would leave its workers behind
        server.wait(30)


def get(url: str) -> tuple[int, str]:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.status, answer.read().decode()


def post(address: str, data: bytes) -> tuple[int, Any]:
    head = b'--part\r\nContent-Disposition: form-data; name="request"; filename="a.png"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=part"}
    request = urllib.request.Request(f"{address}/predict", head + data + b"\r\n--part--\r\n", headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except urllib.error.URLError:  # refused before it was sent whole
        return 413, None


def test_many_requests_at_once_and_what_is_no_image(address: str) -> None:
    good = cv2.imencode(".png", quarters(RED))[1].tobytes()
    jobs = [good if index % 5 else b"no image" for index in range(60)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda data: post(address, data), jobs))
    assert [code for code, _ in answers] == [200 if data is good else 422 for data in jobs]
    found = [answer["detections"] for code, answer in answers if code == 200]
    assert all(found[0] == each for each in found) and {one["name"] for one in found[0]} == {"red"}
    assert 'yolofpn_requests_total{status="422"} 12.0' in get(f"{address}/metrics")[1]


def test_a_request_above_the_limit_is_refused(address: str) -> None:
    code, _ = post(address, bytes(2_000_000))
    assert 400 <= code < 500
    assert get(f"{address}/health")[0] == 200
