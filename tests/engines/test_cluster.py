"""How many workers a cluster has room for, and what is said while none starts; without Ray."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from tests.inference.live_fakes import until
from yolofpn.engines import cluster
from yolofpn.engines.cluster import ClusterOptions, Shares, shares, told_while_waiting
from yolofpn.errors import UserError

LARGE = {"CPU": 16.0, "GPU": 4.0, "memory": 1e11}
SMALL = {"CPU": 2.0}


@pytest.mark.parametrize(
    ("machines", "gpus", "device", "expected"),
    [
        ([SMALL], None, "auto", Shares(0.0, 2)),
        ([LARGE], None, "auto", Shares(1.0, 4)),
        ([LARGE, SMALL], None, "cuda", Shares(1.0, 4)),
        ([LARGE, SMALL], None, "cpu", Shares(0.0, 18)),
        ([LARGE], 0.5, "cuda", Shares(0.5, 8)),
        ([LARGE], 0.1, "cuda", Shares(0.1, 16)),  # as many as CPUs, of 40 that the GPUs have room for
        ([{"CPU": 32.0, "GPU": 1.0}], 0.1, "cuda", Shares(0.1, 10)),  # in floating point 1 // .1 is 9
        ([{"CPU": 32.0, "GPU": 1.0}] * 3, 0.2, "cuda", Shares(0.2, 15)),
        ([{"CPU": 32.0, "GPU": 2.0}], 0.6, "cuda", Shares(0.6, 2)),  # not 3: none has parts of two GPUs
        ([{"CPU": 32.0, "GPU": 2.0}], 0.4, "cuda", Shares(0.4, 4)),
        ([{"CPU": 32.0, "GPU": 3.0}] * 2, 2, "cuda", Shares(2, 2)),  # not 3: none spans two machines
    ],
)
def test_room_for_workers(machines: list[dict[str, float]], gpus: float | None, device: str, expected: Shares) -> None:
    assert shares(ClusterOptions(gpus_per_worker=gpus), machines, device) == expected
    assert shares(ClusterOptions(gpus_per_worker=gpus, workers=3), machines, device) == Shares(expected.gpus, 3)


@pytest.mark.parametrize(
    ("machines", "gpus"),
    [([SMALL], 0.5), ([SMALL, LARGE], 5), ([LARGE], 1.5), ([{"CPU": 0.0, "GPU": 1.0}], 1), ([{"CPU": 0.0}], None)],
)
def test_workers_that_no_machine_has_room_for(machines: list[dict[str, float]], gpus: float | None) -> None:
    with pytest.raises(UserError):
        shares(ClusterOptions(gpus_per_worker=gpus), machines, "auto")


def waiting(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], free: dict[str, float], started: Callable[[], bool]
) -> list[str]:
    """The lines that are said within some looks at a cluster of these machines."""
    looks = 0

    def look() -> list[dict[str, object]]:
        nonlocal looks
        looks += 1
        return [{"Alive": True, "Resources": each} for each in nodes]

    ray = SimpleNamespace(
        nodes=look,
        available_resources=lambda: free,
        cluster_resources=lambda: {kind: sum(each.get(kind, 0.0) for each in nodes) for kind in ("CPU", "GPU")},
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(cluster, "WAITING", 0.001)
    lines: list[str] = []
    with told_while_waiting(0.5, started, lines.append):
        until(lambda: looks > 5)
    return lines


def test_what_a_run_waits_for_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = [{"CPU": 2.0, "GPU": 1.0}]
    (line,) = waiting(monkeypatch, machines, {"CPU": 1.0}, lambda: False)
    assert "1 of 2 CPUs" in line and "0 of 1 GPUs" in line
    (line,) = waiting(monkeypatch, [SMALL], {}, lambda: True)  # the machine with the GPU is lost
    assert "0.5 GPUs" in line
    assert waiting(monkeypatch, machines, {}, lambda: True) == []
