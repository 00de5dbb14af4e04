"""A detector in PyTorch ready to run, by the backend that the machine and the weights decide.

Without being asked for anything else, a run computes in float32, and its detections are those of PyTorch within the
tolerance of ``parity.TOLERANCES["fp32"]``: on processors OpenVINO runs it where it is installed, else ONNX Runtime,
else PyTorch. Nothing is timed. Less precision is the user's decision: by name, or by ``python -m yolofpn tune``.

A graph has to be made once for each weights file, input size and version, which takes seconds. PyTorch runs meanwhile.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch

from yolofpn import runtimes
from yolofpn.config import Metadata
from yolofpn.detector import Detector, blank_images
from yolofpn.devices import choose_device
from yolofpn.errors import UserError
from yolofpn.extras import is_installed
from yolofpn.inference.make_graph import environment, write_job
from yolofpn.inference.predictor_options import PredictorOptions, Workload
from yolofpn.inference.running_network import Choice, Network, check_names, describe
from yolofpn.runtimes import cache
from yolofpn.runtimes.backend import Backend
from yolofpn.runtimes.backends import BackendBuilder
from yolofpn.runtimes.fold import for_inference
from yolofpn.runtimes.full_precision import full_precision
from yolofpn.runtimes.libraries import versions
from yolofpn.runtimes.runtime import Runtime
from yolofpn.runtimes.second_stage import has_second_stage, prepare_postprocess
from yolofpn.runtimes.takeover import Preparation, Takeover
from yolofpn.runtimes.tuned import Tuned, read_tuned, tuned_folder
from yolofpn.text import command


def choose_backend(
    detector: Detector,
    metadata: Metadata,
    sizes: Sequence[tuple[int, int]],
    device: torch.device,
    *,
    backend: str = "auto",
    precision: str = "auto",
    workload: Workload = "few",
    sizes_vary: bool = False,
    compile: bool = False,
) -> Choice:
    """The backend of that name and precision.

    Args:
        detector: whose dense part is run.
        metadata: of its weights.
        sizes: every (height, width) that the network will see.
        device: where the network runs; other devices than the CPU have PyTorch only.
        backend: 'torch' or the key of one of ``RUNTIMES``; 'auto': what ``tune`` chose, else the first of these that
            is installed, else PyTorch.
        precision: 'fp32', 'bf16', 'fp16' or 'int8'; 'auto': what ``tune`` chose, else fp32.
        workload: what is coming.
        sizes_vary: images come in sizes of their own, for each of which a graph would have to be made.
        compile: let torch.compile write the kernels of the torch backend.

    Raises:
        UserError: it is not installed, cannot do that precision, or cannot run this detector.
        ValueError: there is no such backend or precision.
    """
    check_names(backend, precision)
    known = {runtime.key: runtime for runtime in runtimes.RUNTIMES}
    if precision == "int8":
        raise UserError(
            f"int8 needs images for calibration: {command('tune')} WEIGHTS --data DATA, or export a model\n"
            f"with {command('export')} --format openvino --precision int8 --calibration DATA OUT.xml, and give "
            "--weights OUT.xml"
        )
    if backend in known:
        if device.type != "cpu":
            raise UserError(f"the {backend} backend runs on the CPU only: --device cpu, or --backend torch")
        known[backend].library()
    if sizes_vary:  # then they are bounds; what backends are compared on has a size that the network takes
        divisor = detector.size_divisor
        sizes = [(height + -height % divisor, width + -width % divisor) for height, width in sizes]
    # Beside several batches in flight a second stage would have no processor left.
    throughput = workload == "many" and not has_second_stage(detector)
    builder = BackendBuilder(detector, metadata, sizes, device, throughput, compile)
    if backend in known:
        return _given(builder, known[backend], precision)
    if backend == "torch" or sizes_vary or compile:
        return _torch(builder, precision)
    return _automatic(builder, precision, workload)


def tuned_key(builder: BackendBuilder) -> str:
    """The name of what ``tune`` chose for a detector at these sizes, on this machine."""
    return cache.key(builder.fingerprint, tuple(builder.sizes), builder.place)


def used_libraries() -> str:
    """Versions that speed and results depend on."""
    return versions("torch", *(runtime.module for runtime in runtimes.RUNTIMES))


def _given(builder: BackendBuilder, runtime: type[Runtime], precision: str) -> Choice:
    """Return the requested backend; wait for its graph."""
    name, precision = runtime.key, "fp32" if precision == "auto" else precision
    if precision not in runtime.precisions:
        able = [f"--backend {other.key} can" for other in runtimes.RUNTIMES if precision in other.precisions]
        computes = " or ".join(runtime.precisions)
        raise UserError(f"the {name} backend computes in {computes} only, not {precision}: {', '.join(able)}")
    verdict = builder.verdict(name, precision)
    warning = "" if verdict.passed else ": NOT within the tolerance of PyTorch's detections"
    built = builder.build(name, precision)
    return Choice(built, f"backend: {describe(built)} (as asked; {verdict.parity}{warning})")


def _torch(builder: BackendBuilder, precision: str, hint: str = "") -> Choice:
    built = builder.build("torch", "fp32" if precision == "auto" else precision)
    return Choice(built, f"backend: {describe(built)} on {builder.device}{hint}")


def _automatic(builder: BackendBuilder, precision: str, workload: Workload) -> Choice:
    hint = ""
    if precision == "auto" and tuned_folder().is_dir():
        tuned = read_tuned(tuned_key(builder))
        if tuned is not None:
            if (chosen := _tuned(builder, tuned)) is not None:
                return chosen
            hint = f"; what tune chose is from other versions or gone: {command('tune')} again"
    if builder.device.type != "cpu":
        return _torch(builder, precision, hint)
    # Those that know no batches are made for phones: by name only.
    installed = [known for known in runtimes.RUNTIMES if known.has_batches and is_installed(known.module)]
    if precision not in ("auto", "fp32"):
        able = [runtime for runtime in installed if precision in runtime.precisions]
        return _given(builder, able[0], precision) if able else _torch(builder, precision, hint)
    if not installed:
        return _torch(builder, precision, f"{hint}; pip install '.[{runtimes.RUNTIMES[0].extra}]' would be faster here")
    return _beside_pytorch(builder, installed[0].key, workload, hint)


def _tuned(builder: BackendBuilder, tuned: Tuned) -> Choice | None:
    """Return the chosen backend if its graph is cached."""
    known = tuned.backend in ("torch", *(runtime.key for runtime in runtimes.RUNTIMES))
    ready = known and tuned.libraries == used_libraries() and all(cache.has_graph(name) for name in tuned.graphs)
    if not ready or not builder.is_ready(tuned.backend, tuned.precision):
        return None
    try:
        built = builder.build(tuned.backend, tuned.precision)
    except Exception:  # a damaged graph, or a library that is no longer what it was
        return None
    return Choice(built, f"backend: {describe(built)} (as tuned: {tuned.report})")


def _beside_pytorch(builder: BackendBuilder, name: str, workload: Workload, hint: str) -> Choice:
    """The graph, if it is there and something like a video is coming; else PyTorch, until it is ready."""
    if workload != "few":
        known = builder.known_verdict(name, "fp32")
        if known is not None and not known.passed:
            return _torch(builder, "fp32", f"{hint}; {name} is not within its tolerance: {known.parity}")
        if known is not None and builder.is_ready(name):
            try:
                built = builder.build(name, "fp32")
            except Exception:  # whatever is wrong with it, a new one is made below
                pass
            else:
                return Choice(built, f"backend: {describe(built)} ({known.parity}){hint}")
    # Nothing that lasts refers to the preparation but its thread and the backend: else it would never be given up.
    preparation = Preparation(lambda running: _prepare(running, builder, name))
    first = builder.build("torch", "fp32")
    note = f"backend: {describe(first)} on {builder.device}; {name} takes over in a longer run"
    return Choice(Takeover(first, preparation), note + hint)


def _prepare(running: Preparation, builder: BackendBuilder, name: str) -> Backend:
    """Make the graph in another process, compare, open it here and see that it runs.

    Raises:
        RuntimeError: the graph does not pass, or could not be made.
        UserError: the cache cannot be written.
    """
    if builder.known_verdict(name, "fp32") is None or not builder.is_ready(name):
        folder = cache.work_folder(builder.graph_keys(name, "fp32")[0])
        try:
            running.run_process(write_job(folder, builder, name), environment())
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    verdict = builder.known_verdict(name, "fp32")
    if verdict is None or not verdict.passed:
        raise RuntimeError("no verdict was kept" if verdict is None else verdict.parity)
    # Results are the same however many batches are in flight, so those who wait for each need no other graph.
    backend = replace(builder, identity=builder.fingerprint).build(name, "fp32")
    for height, width in builder.sizes:
        if running.stopped:
            break
        backend.start(blank_images(builder.detector, (height, width)))()
    return backend


def open_network(
    detector: Detector,
    metadata: Metadata,
    sizes: Sequence[tuple[int, int]],
    options: PredictorOptions,
    *,
    sizes_vary: bool,
) -> Network:
    """The detector on its device, with the backend that suits it.

    Args:
        detector: stays as it is: a copy around its parameters runs.
        metadata: of its weights.
        sizes: every (height, width) that it will see, or bounds of them.
        options: how it is run.
        sizes_vary: images come in sizes of their own.

    Raises:
        UserError: there is no such device, or the backend cannot run it.
        ValueError: there is no such backend or precision.
    """
    device = choose_device(options.device)
    copied = for_inference(detector, device)
    choice = choose_backend(
        copied,
        metadata,
        sizes,
        device,
        backend=options.backend,
        precision=options.precision,
        workload=options.workload,
        sizes_vary=sizes_vary,
        compile=options.compile,
    )
    postprocessor = prepare_postprocess(copied, choice.backend.precision)
    return Network(copied, device, choice, postprocessor, partial(_postprocessing, device))


@contextmanager
def _postprocessing(device: torch.device, precision: str) -> Iterator[None]:
    """Of a second stage, which runs in PyTorch."""
    with torch.inference_mode(), full_precision(device, precision):
        yield
