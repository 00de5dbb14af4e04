from __future__ import annotations

import time

import pytest

from yolofpn.demo.limits import SessionLimits
from yolofpn.demo.sessions import Sessions, address_key, read_cookie


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


LIMITS = SessionLimits(sessions=3, per_address=2, idle_seconds=10.0, seconds=25.0)


def test_a_session_ends_when_it_was_not_used_for_a_while() -> None:
    clock = Clock()
    sessions = Sessions(LIMITS, clock)
    key = sessions.begin("a")
    for clock.now in (9.0, 18.0):
        assert sessions.use(key)
    clock.now = 28.5
    assert not sessions.use(key)
    assert len(sessions) == 0


def test_a_session_ends_in_any_case() -> None:
    clock = Clock()
    sessions = Sessions(LIMITS, clock)
    key = sessions.begin("a")
    for clock.now in (8.0, 16.0, 24.0):
        assert sessions.use(key)
    clock.now = 26.0
    assert not sessions.use(key)


def test_one_address_cannot_end_the_sessions_of_others() -> None:
    sessions = Sessions(LIMITS)
    other = sessions.begin("b")
    own = [sessions.begin("a") for _ in range(50)]
    assert sessions.use(other)
    assert [sessions.use(key) for key in own] == [False] * 48 + [True] * 2
    sessions.begin("c")
    assert len(sessions) == 3 and not sessions.use(other), "the one used longest ago"


def test_only_a_key_that_was_given_out_is_a_session() -> None:
    sessions = Sessions(LIMITS)
    key = sessions.begin("a")
    assert len(key) >= 32 and key != sessions.begin("a")
    assert not sessions.use("") and not sessions.use(key[:-1])


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        (["yolo=abc"], "abc"),
        (["other=1; yolo=abc; more"], "abc"),
        (["other=1", "x=2;yolo=abc"], "abc"),
        (["notyolo=abc; yolo2=x"], ""),
        ([], ""),
        (["yolo"], ""),
        (["yolo=a=b"], "a=b"),
        (["x" * 9000 + "; yolo=abc"], ""),
    ],
)
def test_the_cookie_is_found(headers: list[str], value: str) -> None:
    assert read_cookie(headers, "yolo", 8192) == value


def test_cookies_are_read_in_no_time() -> None:
    start = time.process_time()
    read_cookie(['a="' + "\\a" * 100_000] * 10, "yolo", 8192)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_a_client_is_an_ipv4_address_or_an_ipv6_network(host: str, key: str) -> None:
    assert address_key(host) == key
