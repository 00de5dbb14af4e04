"""ncnn, for phones and small computers with ARM processors; its converter pnnx reads TorchScript."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from yolofpn.errors import UserError
from yolofpn.hardware import num_threads
from yolofpn.runtimes.libraries import import_extra
from yolofpn.runtimes.one_by_one import OneByOne, RunGraph
from yolofpn.runtimes.runtime import METADATA_KEY, GraphForm, GraphShape, Layout, Runtime

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from yolofpn.detector import Detector
    from yolofpn.runtimes.conversion import FloatPart
    from yolofpn.structures import Limits

_MAGIC = "7767517"  # the first line of every text form since 2017
_HEADER = 2  # lines: magic, and the numbers of layers and of blobs
_SHAPE = "-23330"  # the parameter in which a layer may hold the shape of what it gives
INPUT, OUTPUT = "in0", "out"  # pnnx's names; outputs are numbered


class NCNN(Runtime):
    """ncnn's .param files, whose numbers are in a .bin file beside each.

    ncnn reads as many lines as the second one announces: the metadata are one more. Graphs take float32, one image at
    a time: of the range 0..255, or of layouts for other programs 0..1.
    """

    key: ClassVar[str] = "ncnn"
    suffix: ClassVar[str] = ".param"
    beside: ClassVar[tuple[str, ...]] = (".bin",)
    module: ClassVar[str] = "ncnn"
    extra: ClassVar[str] = "ncnn"
    packages: ClassVar[tuple[str, ...]] = ("pnnx", "ncnn")
    layouts: ClassVar[tuple[Layout, ...]] = ("raw", "decoded")
    storage: ClassVar[tuple[str, ...]] = ("fp16",)
    has_batches: ClassVar[bool] = False

    @classmethod
    def convert(
        cls,
        detector: Detector,
        size: tuple[int, int],
        batch: int | None = None,
        calibration: Sequence[Tensor] | None = None,
    ) -> FloatPart:
        """The dense part, from which ``save`` makes the graph."""
        return cls.convert_form(detector, size, batch, GraphForm())

    @classmethod
    def convert_form(
        cls,
        detector: Detector,
        size: tuple[int, int],
        batch: int | None,
        form: GraphForm,
        limits: Limits | None = None,
    ) -> FloatPart:
        """See ``convert``."""
        from yolofpn.runtimes.conversion import float_part

        import_extra("pnnx", "pnnx")
        return float_part(detector, size, form)

    @classmethod
    def save(cls, graph: FloatPart, path: Path, info: str | None = None, precision: str = "fp32") -> None:
        """Convert to ``path`` (.param) and its .bin, whose numbers are fp16 if ``precision`` is.

        Raises:
            UserError: pnnx fails, or leaves an operator that ncnn does not have.
        """
        with tempfile.TemporaryDirectory(dir=path.parent) as name:
            param, numbers = _run_pnnx(graph, Path(name), half=precision == "fp16")
            numbers.replace(path.with_suffix(".bin"))
            lines = _with_shapes(param.read_text(encoding="utf-8").splitlines(), graph)
        if info is not None:
            lines.append(f"{METADATA_KEY} {info}")
        path.write_text("\n".join([*lines, ""]), encoding="utf-8", newline="\n")

    @classmethod
    def read(cls, path: Path) -> tuple[str | None, GraphShape]:
        """Read the metadata and what the layers say of their shapes, without ncnn."""
        layers, text = _read(path)
        found: dict[str, list[int]] = {}
        for words in layers:
            values = dict(word.split("=", 1) for word in words if "=" in word)
            if INPUT in words and words[0] == "Input":
                found[INPUT] = [int(values[key]) for key in "210"]
            elif _SHAPE in values:
                _, dims, *sizes = map(int, values[_SHAPE].split(","))
                found[next(word for word in words[4:] if word.startswith(OUTPUT))] = sizes[:dims][::-1]
        entry = found.pop(INPUT)
        outputs = [found[f"{OUTPUT}{index}"] for index in range(len(found))]
        return text, GraphShape(None, [None, *entry], [[None, *sizes] for sizes in outputs])

    @classmethod
    def open(
        cls,
        find_graph: Callable[[tuple[int, int]], Path],
        map_names: Sequence[str],
        size: tuple[int, int],
        precision: str,
        *,
        throughput: bool = False,
    ) -> OneByOne:
        """Open the graph; it runs one image at a time on all CPU cores."""
        return OneByOne(cls.key, lambda path: _open(path, len(map_names)), find_graph, map_names, size)


def _open(path: Path, count: int) -> tuple[RunGraph, str | None]:
    """What runs a graph of so many outputs, and its metadata; ncnn has fp16 on ARM processors alone.

    Raises:
        UserError: ncnn cannot run it.
    """
    _, info = _read(path)
    ncnn = NCNN.library()
    net = ncnn.Net()
    net.opt.num_threads = num_threads()
    for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, option, False)
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
        raise UserError(f"{path}: ncnn {ncnn.__version__} cannot run this graph")

    def run(image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        import numpy as np

        extractor = net.create_extractor()
        # Cloned, because a layer that works in place crashes on memory that ncnn does not count references of.
        extractor.input(INPUT, ncnn.Mat(image).clone())
        outputs = []
        for index in range(count):
            code, output = extractor.extract(f"{OUTPUT}{index}")
            if code:
                raise UserError(f"{path}: ncnn could not compute its output {index}: is there enough memory?")
            outputs.append(np.array(output))
        return outputs

    return run, info


def _run_pnnx(graph: FloatPart, folder: Path, *, half: bool) -> tuple[Path, Path]:
    """The .param and the .bin file that pnnx makes of a part, in ``folder``.

    Raises:
        UserError: it makes none.
    """
    import torch

    from yolofpn.runtimes.conversion import quiet

    pnnx = import_extra("pnnx", "pnnx")
    script = folder / "part.pt"
    trace: Any = torch.jit.trace  # has no types
    with quiet(), torch.no_grad():
        trace(graph.module, graph.example).save(script)
    files = {f"{kind}{part}": folder / f"{kind}.{part}" for kind in ("pnnx", "ncnn") for part in ("param", "bin", "py")}
    words = [f"inputshape={list(graph.example.shape)}f32".replace(" ", ""), f"fp16={int(half)}"]
    words += [f"pnnxonnx={folder / 'pnnx.onnx'}", *(f"{name}={path}" for name, path in files.items())]
    done = subprocess.run(
        [pnnx.EXEC_PATH, str(script), *words], cwd=folder, capture_output=True, text=True, errors="replace"
    )
    made = files["ncnnparam"], files["ncnnbin"]
    if done.returncode or not all(path.is_file() for path in made):
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
        raise UserError(f"pnnx cannot convert this network; it said: {said[-1]}")
    return made


def _read(path: Path) -> tuple[list[list[str]], str | None]:
    """The words of each layer's line, and the metadata behind the layers (None: there is none).

    Raises:
        ValueError: it is no .param file.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines or lines[0] != _MAGIC:
        raise ValueError(f"{path}: is not the text form of a graph of ncnn")
    end = _HEADER + int(lines[1].split()[0])
    if end > len(lines):
        raise ValueError(f"{path}: ends too early")
    texts = (line.removeprefix(f"{METADATA_KEY} ") for line in lines[end:] if line.startswith(f"{METADATA_KEY} "))
    return [line.split() for line in lines[_HEADER:end]], next(texts, None)


def _with_shapes(lines: list[str], graph: FloatPart) -> list[str]:
    """Lines of a .param file with the sizes of its input and outputs, which pnnx leaves out."""
    shapes = {f"{OUTPUT}{index}": shape[1:] for index, shape in enumerate(graph.outputs)}
    _, channels, height, width = graph.example.shape
    changed = lines[:_HEADER]
    for line in lines[_HEADER:]:
        kind, _, _, _, *words = line.split()
        names = [word for word in words if word in shapes]
        if kind == "Input":
            line += f" 0={width} 1={height} 2={channels}"
        elif names:
            sizes = shapes[names[0]][::-1]  # three numbers, of fewer dimensions the last ones are 1
            line += f" {_SHAPE}=4,{len(sizes)},{','.join(map(str, [*sizes, 1, 1][:3]))}"
        changed.append(line)
    return changed
