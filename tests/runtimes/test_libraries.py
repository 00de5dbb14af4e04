from __future__ import annotations

import subprocess
import sys

import pytest

from yolofpn import hardware
from yolofpn.errors import UserError
from yolofpn.extras import is_installed
from yolofpn.hardware import num_threads
from yolofpn.runtimes.libraries import import_extra, versions


def test_a_missing_extra_is_named_with_its_remedy() -> None:
    assert not is_installed("no_such_module")
    with pytest.raises(UserError, match="installed"):
        import_extra("no_such_module", "onnx")


def test_versions_of_what_is_not_installed_under_that_name() -> None:
    assert versions("pytest", "no-such-package") == f"pytest {pytest.__version__}, no-such-package none"


@pytest.mark.slow
def test_openvino_comes_without_its_telemetry() -> None:
    code = (
        "import sys; from yolofpn.runtimes.openvino import OpenVINO\n"
        "OpenVINO.library(); import openvino.tools.ovc\n"
        "print(sys.modules['openvino_telemetry'], [m for m in sys.modules if m.startswith('openvino_telemetry.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "None []"


@pytest.mark.parametrize(
    ("given", "expected"), [("1", 1), ("2,3", 2), ("999", 4), ("", 4), ("0", 4), ("many", 4), (None, 4)]
)
def test_threads_are_as_many_as_asked_for(monkeypatch: pytest.MonkeyPatch, given: str | None, expected: int) -> None:
    monkeypatch.setattr(hardware, "available_cpus", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert num_threads() == expected
