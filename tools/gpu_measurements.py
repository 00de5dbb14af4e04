"""The checks of ``gpu_check.py``: each gives its figures, and whether it holds where there is something to hold."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MODELS = {"full": "cfg/yolofpn.yaml", "lite": "cfg/yolofpn-lite.yaml", "two-stage": "cfg/two-stage/faster_rcnn.yaml"}
TRAINED = ("full", "lite")
CLASSES = 80
SMALL_RUN = """
model:
  backbone: {type: darknet, width: 0.25, depth: 0.1}
  neck: {type: concat, levels: [4, 5], channels: [24, 32]}
  head: {type: yolo, anchors: [[[16, 16], [24, 24]], [[32, 32], [48, 48]]]}
input: {size: [64, 64], resize: letterbox}
train: {epochs: 4, batch_size: 4, nominal_batch_size: 4, optimizer: {type: sgd, lr: 0.02}, workers: 0}
"""

Values = dict[str, Any]
Check = Callable[[str, bool], Values]  # device, quick


def matrix_peak(device: str, quick: bool) -> Values:
    """TFLOP/s of a large matrix product in each precision."""
    import torch

    side = 512 if quick else 8192
    found = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        matrix = torch.randn(side, side, device=device).to(dtype)
        seconds = best_seconds(partial(torch.matmul, matrix, matrix), device, 3 if quick else 20)
        found[f"{name_of(dtype)}_tflops"] = round(2 * side**3 / seconds / 1e12, 5)
    return found


def parity(device: str, quick: bool, *, precision: str, compile: bool = False) -> Values:
    """The default weights give the same detections as on the CPU in float32, within the precision's tolerance."""
    import torch

    from yolofpn.runtimes.parity import TOLERANCES, check_images, compare_backends
    from yolofpn.runtimes.torch_backend import TorchBackend
    from yolofpn.shipped import default_weights
    from yolofpn.weights import load_weights

    detector = load_weights(default_weights()).detector.eval()
    images = check_images((160, 160) if quick else (416, 416))[: 1 if quick else None]
    backend = TorchBackend(detector, torch.device(device), dtype_of(precision), compile=compile)
    tolerance = TOLERANCES[precision]
    result = compare_backends(detector, TorchBackend(detector, torch.device("cpu")), backend, images, tolerance)
    return {
        "ok": result.holds(tolerance),
        "detections": result.detections,
        "matched": result.partners,
        "box_error": result.box_error,
        "score_error": result.score_error,
        "map_error": result.map_error,
    }


def inference(device: str, quick: bool, *, model: str, precision: str) -> Values:
    """Milliseconds of one image, and images per second in batches, from pixels on the host to detections."""
    import torch

    from yolofpn.runtimes.second_stage import prepare_postprocess
    from yolofpn.runtimes.torch_backend import TorchBackend

    detector, (height, width) = built(model, quick)
    backend = TorchBackend(detector.eval(), torch.device(device), dtype_of(precision))
    finish = prepare_postprocess(detector.to(device), backend.precision)

    def run(images: torch.Tensor) -> None:
        with torch.inference_mode():
            finish.postprocess(backend.start(images)(), [(height, width)] * len(images), detector.limits)

    found: Values = {}
    for count, times in ((1, 2 if quick else 50), (2 if quick else 64, 1 if quick else 5)):
        images = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)
        images = images.pin_memory() if device != "cpu" else images
        seconds = best_seconds(partial(run, images), device, times)
        found |= {"ms_b1": round(seconds * 1e3, 2)} if count == 1 else {f"images_s_b{count}": round(count / seconds, 1)}
    return found


def training(device: str, quick: bool, *, model: str, precision: str) -> Values:
    """Images per second of whole optimiser steps on a batch in memory, and their share of the matrix peak."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    detector, size = built(model, quick)
    batch = 2 if quick else 32
    step = Step(detector.to(device).train(), device, precision, batch, size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        detector.dense(step.images[:1])
    seconds = best_seconds(step, device, 1 if quick else 12)
    # The backward pass computes two products for each one of the forward pass.
    tflops = 3 * counter.get_total_flops() * batch / seconds / 1e12
    peak = matrix_peak(device, quick)[f"{precision}_tflops"]
    return {"images_s": round(batch / seconds, 1), "tflops": round(tflops, 5), "share_of_peak": round(tflops / peak, 3)}


def losses(device: str, quick: bool, *, model: str, precision: str) -> Values:
    """The losses of 300 steps are finite, and lower at the end than at the start."""
    detector, _ = built(model, quick)
    step = Step(detector.to(device).train(), device, precision, 2 if quick else 8, (64, 64) if quick else (224, 224))
    values = [step() for _ in range(6 if quick else 300)]
    tenth = max(1, len(values) // 10)
    first, last = (sum(part) / tenth for part in (values[:tenth], values[-tenth:]))
    finite = all(map(math.isfinite, values))
    return {"ok": finite and (quick or last < first), "steps": len(values), "first": first, "last": last}


def resume(device: str, quick: bool) -> Values:
    """A training run that is killed with SIGKILL and resumed ends with the numbers of one that was not, bit for bit."""
    import torch

    with TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder / "data", 16, 64)
        (folder / "small.yaml").write_text(SMALL_RUN)
        new = ["--cfg", "small.yaml", "--data", "data", "--device", device, "--weights", "none"]
        new += ["train.precision=fp32", "train.checkpoint_minutes=1e-9"]
        trained(folder, [*new, "--output", "whole"])
        killed = start_training(folder, [*new, "--output", "killed"])
        while not (folder / "killed/last.pt").exists() and killed.poll() is None:
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
        was_killed = killed.wait() == -signal.SIGKILL
        trained(folder, ["--resume", "killed"])
        one, other = (torch.load(folder / run / "last.pt", weights_only=True) for run in ("whole", "killed"))
    pairs = [(one["model"][key], other["model"][key]) for key in one["model"]]
    difference = max(float((first.float() - second.float()).abs().max()) for first, second in pairs if first.numel())
    return {"ok": was_killed and difference == 0, "killed_while_running": was_killed, "largest_difference": difference}


def loader(device: str, quick: bool, *, data: str) -> Values:
    """Training images per second that the loader prepares, with the default number of processes."""
    import torch

    from yolofpn.training.distributed import Ranks
    from yolofpn.training.run_plan import TrainOptions, make_plan
    from yolofpn.training.setup import set_up

    with TemporaryDirectory() as folder:
        if not data:
            data = f"{folder}/data"
            write_data(Path(data), 16 if quick else 512, 64 if quick else 640)
        options = TrainOptions(cfg=str(ROOT / MODELS["lite"]), data=data, device=device, weights="none", output=folder)
        setup = set_up(make_plan(options), torch.device(device), Ranks(), lambda line: None)
        seconds, images = 0.0, 0
        for epoch in range(2):  # the first starts the processes
            setup.loader.sampler.start_epoch(epoch)
            start, images = time.perf_counter(), sum(len(batch.images) for batch in setup.loader)
            seconds = time.perf_counter() - start
    return {"images_s": round(images / seconds, 1), "processes": setup.loader.workers}


def nms(device: str, quick: bool) -> Values:
    """NMS of tensors on the device keeps the same boxes as on the host, and the milliseconds of both."""
    import torch

    from yolofpn.ops.tensor_nms import batched_nms

    found: Values = {"ok": True}
    for count in (1_500,) if quick else (1_500, 20_000):
        generator = torch.Generator().manual_seed(count)
        corners = torch.rand(count, 2, generator=generator) * 600
        boxes = torch.cat((corners, corners + 10 + 90 * torch.rand(count, 2, generator=generator)), dim=1)
        scores, labels = torch.rand(count, generator=generator), torch.zeros(count, dtype=torch.int64)
        on_host = partial(batched_nms, boxes, scores, labels, 0.45)
        on_device = partial(batched_nms, boxes.to(device), scores.to(device), labels.to(device), 0.45)
        found["ok"] &= torch.equal(on_host(), on_device().cpu())
        for place, run in (("host", on_host), ("device", on_device)):
            seconds = best_seconds(run, device, 5)
            found[f"{place}_ms_{count}"] = round(seconds * 1e3, 2)
    return found


class Step:
    """One optimiser step on a batch in memory; calling it returns the sum of the losses."""

    def __init__(
        self,
        detector: Any,  # noqa: ANN401 as below
        device: str,
        precision: str,
        batch: int,
        size: tuple[int, int],
    ) -> None:
        import torch

        from yolofpn.structures import Target

        torch.manual_seed(0)
        self._detector = detector.to(memory_format=torch.channels_last)
        self._device, self._dtype = device, dtype_of(precision)
        self._optimizer = torch.optim.SGD(detector.parameters(), lr=1e-4, momentum=0.9)
        self._scaler = torch.amp.GradScaler(device, enabled=precision == "fp16")
        self.images = torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8, device=device)
        corners = torch.rand(batch, 8, 2) * min(size) / 2
        boxes = torch.cat((corners, corners + min(size) / 4), dim=2)
        areas = (boxes[..., 2:] - boxes[..., :2]).prod(dim=2)
        labels, ignore = torch.arange(8), torch.zeros(8, dtype=torch.bool)
        self._targets = [
            Target(each, labels=labels, ignore=ignore, areas=area).to(device)
            for each, area in zip(boxes, areas, strict=True)
        ]

    def __call__(self) -> float:
        """Update the weights once."""
        import torch

        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self._device, self._dtype, enabled=self._dtype != torch.float32):
            losses = self._detector(self.images, self._targets)
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        self._scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(self._optimizer)
        torch.nn.utils.clip_grad_norm_(self._detector.parameters(), 10.0)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return float(total.detach())


def built(model: str, quick: bool) -> tuple[Any, tuple[int, int]]:
    """A detector with new weights, and its input size."""
    import torch

    from yolofpn.config import load_config
    from yolofpn.models.build import build_model

    torch.manual_seed(0)
    config = load_config(ROOT / MODELS[model])
    detector = build_model(config.model, CLASSES, config.input, config.postprocess)
    return detector, (64, 64) if quick else (416, 416)


def best_seconds(work: Callable[[], object], device: str, times: int) -> float:
    """The shortest of so many runs, after one that does not count."""
    import torch

    best = math.inf
    for number in range(times + 1):
        start = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start) if number else best
    return best


def dtype_of(precision: str) -> Any:  # noqa: ANN401 torch is not imported here
    """The type of a precision."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def name_of(dtype: Any) -> str:  # noqa: ANN401 as above
    """The inverse of ``dtype_of``."""
    return str(dtype).replace("torch.float", "fp").replace("torch.bfloat", "bf")


def write_data(folder: Path, count: int, side: int) -> None:
    """A YOLO data set of bright squares on noise."""
    import cv2
    import numpy as np

    random = np.random.default_rng(0)
    for split, number in (("train", count), ("val", 4)):
        (folder / split / "images").mkdir(parents=True)
        (folder / split / "labels").mkdir()
        for index in range(number):
            image = random.integers(90, 150, (side, side, 3), dtype=np.uint8)
            size = side // 4
            x, y = random.integers(0, side - size, 2)
            image[y : y + size, x : x + size] = 250
            cv2.imwrite(str(folder / split / "images" / f"{index}.jpg"), image)
            line = f"0 {(x + size / 2) / side} {(y + size / 2) / side} {size / side} {size / side}\n"
            (folder / split / "labels" / f"{index}.txt").write_text(line)
    (folder / "data.yaml").write_text("path: .\ntrain: train/images\nval: val/images\nnames: [square]\n")


def start_training(folder: Path, words: list[str]) -> subprocess.Popen[str]:
    """``train.py`` in ``folder``."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    command = [sys.executable, str(ROOT / "train.py"), *words]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def trained(folder: Path, words: list[str]) -> None:
    """Wait for it; an error ends the check."""
    process = start_training(folder, words)
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"train.py ended with {process.returncode}: {output[-500:]}")


def checks(data: str) -> dict[str, Check]:
    """All of them by name, the most important first."""
    found: dict[str, Check] = {"matrix peak": matrix_peak}
    found |= {f"parity {each}": partial(parity, precision=each) for each in ("fp32", "bf16", "fp16")}
    found |= {"nms": nms, "resume": resume}
    for each in ("bf16", "fp16"):
        for model in TRAINED:
            found[f"training {model} {each}"] = partial(training, model=model, precision=each)
            found[f"losses {model} {each}"] = partial(losses, model=model, precision=each)
    for model in MODELS:
        found |= {
            f"inference {model} {each}": partial(inference, model=model, precision=each) for each in ("fp32", "fp16")
        }
    found["loader"] = partial(loader, data=data)
    found["parity fp16 compiled, CUDA graphs"] = partial(parity, precision="fp16", compile=True)
    return found
