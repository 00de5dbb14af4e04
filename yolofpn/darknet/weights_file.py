"""Darknet's ``.weights`` files: a short header, then the float32 parameters of each layer, without names.

A network provides the list of its layers in Darknet's order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from yolofpn.config import DarknetHeader
from yolofpn.errors import UserError
from yolofpn.files import unfinished
from yolofpn.regular_files import open_regular_file

_MODERN_REVISION = 5  # written by AlexeyAB's and hank-ai's Darknet; pjreddie's writes 0
NEW_HEADER = DarknetHeader(major=0, minor=2, revision=_MODERN_REVISION, seen=0)
_NUMBER = np.dtype("<f4")


class NormEps(NamedTuple):
    """Epsilon of batch norm, which divides by sqrt(variance + value), or by sqrt(variance) + value."""

    value: float
    outside_root: bool = False


MODERN_EPS = NormEps(1e-5)
PJREDDIE_EPS = NormEps(1e-6, outside_root=True)


def norm_eps_of(header: DarknetHeader) -> NormEps:
    """Return the epsilon of the program that wrote ``header``."""
    return MODERN_EPS if header.revision == _MODERN_REVISION else PJREDDIE_EPS


class WeightLayer(NamedTuple):
    """A layer with parameters in the file; with batch norm ``conv`` has no bias."""

    conv: nn.Conv2d | nn.Linear
    norm: nn.BatchNorm1d | nn.BatchNorm2d | None = None

    @property
    def shape(self) -> tuple[torch.Size, bool]:
        """Return the shape of the kernel, and whether there is batch norm."""
        return self.conv.weight.shape, self.norm is not None

    def copy_from(self, source: WeightLayer) -> None:
        """Copy the parameters of ``source``, a layer of the same shape."""
        self.conv.load_state_dict(source.conv.state_dict())
        if self.norm is not None and source.norm is not None:
            self.norm.load_state_dict(source.norm.state_dict())


class LooseNumbers(NamedTuple):
    """Parameters of a layer without a kernel: [batchnorm], [implicit], a weighted [shortcut]; in the file's order."""

    tensors: tuple[Tensor, ...]

    @property
    def shape(self) -> tuple[torch.Size, bool]:
        """Never that of a ``WeightLayer``."""
        return torch.Size([sum(tensor.numel() for tensor in self.tensors)]), False


WeightLayers: TypeAlias = Sequence[WeightLayer]
StoredLayers: TypeAlias = Sequence[WeightLayer | LooseNumbers]


@dataclass(frozen=True)
class LoadedLayers:
    """What ``read_layers`` found.

    Attributes:
        loaded: number of loaded layers, from the first on.
        total: number of layers; the others are unchanged.
    """

    header: DarknetHeader
    loaded: int
    total: int

    @property
    def complete(self) -> bool:
        """Whether the file has all layers."""
        return self.loaded == self.total


@dataclass(frozen=True)
class WeightsFile:
    """An opened file: its header and its parameters, which are read lazily.

    Attributes:
        origin: the file's name, as errors show it.
        size: bytes of the whole file.
    """

    origin: str
    header: DarknetHeader
    size: int
    numbers: NDArray[np.float32]

    def layers_held(self, counts: Sequence[int]) -> int:
        """Return how many layers the file has, given the number of values of each layer.

        A file may end after any layer: backbones such as darknet53.conv.74 hold the first layers of a network.

        Raises:
            UserError: if it ends within a layer, or holds more than all of them.
        """
        header_size = len(pack_header(self.header))
        ends = [header_size + end * _NUMBER.itemsize for end in accumulate(counts, initial=0)]
        if self.size in ends[1:]:
            return ends.index(self.size, 1)
        found, expected = f"{self.size:,}", f"{ends[-1]:,}"
        problem = "too long" if self.size > ends[-1] else "truncated"
        raise UserError(
            f"{self.origin}: holds {found} bytes, this network needs {expected}: {problem}, or for another cfg"
        )


def open_weights(source: str | Path | bytes, origin: str | None = None) -> WeightsFile:
    """Open a ``.weights`` file, given as a path or as its bytes.

    Raises:
        UserError: if it cannot be read, is empty, or does not begin like a Darknet file.
    """
    origin = origin or ("weights" if isinstance(source, bytes) else str(source))
    if isinstance(source, bytes):
        size, head = len(source), source[:20]
    else:
        size, head = _read_head(Path(source), origin)
    header = _unpack_header(head, size, origin)
    offset = len(pack_header(header))
    count = (size - offset) // _NUMBER.itemsize
    numbers: NDArray[np.float32]
    if isinstance(source, bytes) or count == 0:
        numbers = np.frombuffer(source if isinstance(source, bytes) else head, _NUMBER, count, offset)
    else:
        numbers = np.memmap(source, _NUMBER, mode="r", offset=offset, shape=(count,))
    return WeightsFile(origin, header, size, numbers)


def read_layers(source: str | Path | bytes | WeightsFile, layers: StoredLayers) -> LoadedLayers:
    """Load a ``.weights`` file into ``layers``, which are in Darknet's order.

    A file that ends after some of the layers fills these; the others are left alone.

    Raises:
        UserError: if the file cannot be read, is no Darknet file, or its size does not fit the layers.
    """
    weights = source if isinstance(source, WeightsFile) else open_weights(source)
    loaded = weights.layers_held([count_numbers([layer]) for layer in layers])
    start = 0
    for tensor in _tensors(layers[:loaded]):
        numbers = np.array(weights.numbers[start : start + tensor.numel()])
        tensor.copy_(torch.from_numpy(numbers).view(tensor.shape))
        start += tensor.numel()
    return LoadedLayers(weights.header, loaded, len(layers))


def write_layers(path: str | Path, layers: StoredLayers, header: DarknetHeader = NEW_HEADER) -> None:
    """Write ``layers`` as a ``.weights`` file; what ``read_layers`` took from a file comes out byte for byte.

    The file appears under its name only once it is whole.

    Raises:
        UserError: if it cannot be written.
    """
    path = Path(path)
    try:
        with unfinished(path) as part, part.open("wb") as file:
            file.write(pack_header(header))
            for tensor in _tensors(layers):
                file.write(tensor.cpu().float().contiguous().numpy().astype(_NUMBER, copy=False).tobytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def count_numbers(layers: StoredLayers) -> int:
    """Return the number of values of ``layers`` in a file: kernels, biases and all four of batch norm."""
    return sum(tensor.numel() for tensor in _tensors(layers))


def pack_header(header: DarknetHeader) -> bytes:
    """Return the bytes of a header; ``seen`` has four bytes up to version 0.1 and eight from 0.2 on."""
    form = "<iiiQ" if _has_long_seen(header.major, header.minor) else "<iiiI"
    return struct.pack(form, header.major, header.minor, header.revision, header.seen)


@torch.no_grad()
def _tensors(layers: StoredLayers) -> Iterator[Tensor]:
    """Yield the parameters of each layer in Darknet's order."""
    for layer in layers:
        if isinstance(layer, LooseNumbers):
            yield from (tensor.detach() for tensor in layer.tensors)
            continue
        conv, norm = layer
        statistics: list[Tensor | None] = [norm.weight, norm.running_mean, norm.running_var] if norm is not None else []
        bias = conv.bias if norm is None else norm.bias
        # A fully connected layer stores its kernel before the statistics, a convolution after them.
        middle = [conv.weight, *statistics] if isinstance(conv, nn.Linear) else [*statistics, conv.weight]
        for tensor in (bias, *middle):
            if tensor is None:
                raise ValueError(f"{conv} needs a bias, or a batch normalisation with statistics")
            yield tensor.detach()


def _has_long_seen(major: int, minor: int) -> bool:
    return major * 10 + minor >= 2


def _read_head(path: Path, origin: str) -> tuple[int, bytes]:
    try:
        with open_regular_file(path) as file:
            return path.stat().st_size, file.read(20)
    except OSError as error:
        raise UserError(f"{origin}: {error.strerror}: give the path of a Darknet .weights file") from None


def _unpack_header(head: bytes, size: int, origin: str) -> DarknetHeader:
    if size == 0:
        raise UserError(f"{origin}: is empty (0 bytes): copy or download it again")
    if head.startswith((b"PK", b"\x80")):
        raise UserError(f"{origin}: is a PyTorch file (a pickle), not Darknet weights; pickles are never opened here")
    if head[4:9] == b"\0\0\0\0{":
        raise UserError(f"{origin}: is a safetensors file, not Darknet weights: name it .safetensors")
    if head.isascii() and head.replace(b"\n", b" ").replace(b"\r", b" ").decode().isprintable():
        raise UserError(f"{origin}: is a text, not Darknet weights: {head.decode()!r}...: download it again")
    if size < 16:
        raise UserError(f"{origin}: holds {size} bytes, not even the header of Darknet weights: truncated")
    major, minor, revision = struct.unpack_from("<iii", head)
    if not (0 <= major < 1000 and 0 <= minor < 1000):
        raise UserError(f"{origin}: does not begin like Darknet weights (version {major}.{minor})")
    if _has_long_seen(major, minor) and size < 20:
        raise UserError(f"{origin}: holds {size} bytes, not even the header of Darknet weights: truncated")
    seen = struct.unpack_from("<Q" if _has_long_seen(major, minor) else "<I", head, 12)[0]
    return DarknetHeader(major=major, minor=minor, revision=revision, seen=seen)
