"""Signals: the first one is remembered, the second one ends the program."""

from __future__ import annotations

import io
import signal
import sys
import threading
from pathlib import Path
from typing import TextIO

import pytest

from yolofpn.interrupt import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_remembered_the_second_ends(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    request = StopRequest(announce=False)
    with request.listening():
        assert not request.requested
        signal.raise_signal(number)
        assert request.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        request = StopRequest(announce=False)
        with request.listening():
            signal.raise_signal(signal.SIGINT)
        assert not request.requested
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_elsewhere_than_in_the_main_thread_nothing_changes() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def run() -> None:
        with StopRequest(announce=False).listening():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


def test_work_that_can_be_done_again_is_broken_off() -> None:
    request = StopRequest(announce=False)
    with request.listening():
        with pytest.raises(KeyboardInterrupt), request.raising():
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), request.raising():
            pytest.fail("a request from before must keep it from beginning")


def test_it_is_announced_once(capfd: pytest.CaptureFixture[str]) -> None:
    request = StopRequest()
    with request.listening():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert capfd.readouterr().err == "stopping after this step ...\n"


def closed() -> TextIO:
    file = Path(__file__).open()  # noqa: SIM115
    file.close()
    return file


@pytest.mark.parametrize("stderr", [None, io.StringIO(), closed()], ids=["none", "notebook", "closed"])
def test_where_nothing_can_be_announced_it_is_remembered(
    stderr: TextIO | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = StopRequest()
    with monkeypatch.context() as patch, request.listening():
        patch.setattr(sys, "stderr", stderr)
        signal.raise_signal(signal.SIGINT)
    assert request.requested and not request.repeated
