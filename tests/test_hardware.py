from __future__ import annotations

import os

import pytest
import torch

from yolofpn import devices
from yolofpn.devices import choose_device, choose_dtype, default_workers, is_fast_at_bf16
from yolofpn.errors import UserError
from yolofpn.hardware import available_cpus, cpu_flags

CPU = torch.device("cpu")


def test_device_by_name() -> None:
    assert choose_device("cpu") == CPU
    for unknown in ("", "meta", "toaster", "cpu cpu"):
        with pytest.raises(UserError, match=f"device '{unknown}' is not"):
            choose_device(unknown)


def test_a_bare_number_is_a_cuda_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "empty", lambda *_, device: device)  # as if the device were there
    assert choose_device("1") == torch.device("cuda", 1)


def test_unknown_precisions_are_refused() -> None:
    with pytest.raises(ValueError, match="'fp8' is none of auto, fp32, bf16, fp16"):
        choose_dtype("fp8", CPU)


def test_automatic_device_is_the_best_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert choose_device("auto") == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert choose_device("auto") == torch.device("cuda", 3)


def test_precision_by_name_and_by_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [choose_dtype(name, CPU) for name in ("fp32", "bf16", "fp16")] == [
        torch.float32,
        torch.bfloat16,
        torch.float16,
    ]
    for flags, expected in (
        ({"avx2", "amx_bf16"}, torch.bfloat16),
        ({"avx2", "avx512_bf16"}, torch.bfloat16),
        ({"avx2", "avx512f", "avx512_vnni"}, torch.float32),
    ):
        monkeypatch.setattr(devices, "cpu_flags", lambda flags=flags: frozenset(flags))
        assert choose_dtype("auto", CPU) == expected
    assert not is_fast_at_bf16(torch.device("mps"))
    for capability, fast in ((7, 5), False), ((8, 0), True), ((9, 0), True):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, capability=capability: capability)
        assert is_fast_at_bf16(torch.device("cuda")) is fast


def test_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(flag == flag.strip() for flag in cpu_flags())
    assert 1 <= available_cpus() <= (os.cpu_count() or 1)
    for cpus, beside_gpu in ((1, 1), (4, 3), (64, 8)):
        monkeypatch.setattr(devices, "available_cpus", lambda cpus=cpus: cpus)
        assert default_workers(torch.device("cuda")) == beside_gpu
        assert default_workers(CPU) == 1
