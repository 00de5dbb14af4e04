"""What a runtime is: a library that runs a detector's dense part as a graph, and the file that holds such a graph."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from yolofpn.runtimes.libraries import import_extra

if TYPE_CHECKING:
    from torch import Tensor

    from yolofpn.detector import Detector
    from yolofpn.runtimes.backend import Backend
    from yolofpn.structures import Limits

METADATA_KEY = "yolofpn"
Layout: TypeAlias = Literal["raw", "decoded", "end2end"]


@dataclass(frozen=True)
class GraphForm:
    """What a graph takes and gives, for programs that read it without this package.

    Attributes:
        layout: 'raw': the maps; 'decoded': boxes and class scores [B, 4 + C, N]; 'end2end': the detections
            [1, K, 6] after NMS.
        uint8: it takes uint8 images in 0..255; else float, of bands in 0..255, of colours in 0..1, which 'raw' does
            not.
        opset: version of ONNX's operators; None: the runtime's own choice.
    """

    layout: Layout = "raw"
    uint8: bool = True
    opset: int | None = None


@dataclass(frozen=True)
class GraphShape:
    """What goes into a graph and comes out of it; None where any number does.

    Attributes:
        is_uint8: whether it takes bytes; else float. None: the format knows no bytes, so its metadata say it.
        input: batch, channels, height and width.
        outputs: the same of each map.
    """

    is_uint8: bool | None
    input: Sequence[int | None]
    outputs: Sequence[Sequence[int | None]]


class Runtime:
    """A library that runs graphs on the CPU; one subclass per library, which is never instantiated.

    Attributes:
        key: its name in ``--backend`` and ``export.py --format``.
        suffix: of its graph files.
        beside: suffixes of further files that a graph consists of; they have the same stem.
        module: what is imported to run a graph.
        extra: ``pip install '.[EXTRA]'`` installs it.
        packages: whose versions decide what its graphs are and compute.
        precisions: of arithmetic that it has; 'int8' only in graphs that are converted with images.
        sealed: whether a file may be changed in one place: then it holds the digest of itself (``seal.py``).
        layouts: that ``convert_form`` knows; 'raw' is that of ``convert``.
        storage: further precisions in which its files hold weights, but which it does not compute in.
        opens: suffixes of other runtimes' graphs that it opens as well.
        has_opsets: whether ``GraphForm.opset`` means anything to it.
        has_batches: whether its graphs know them; else a batch is run image by image.
    """

    key: ClassVar[str]
    suffix: ClassVar[str]
    beside: ClassVar[tuple[str, ...]] = ()
    module: ClassVar[str]
    extra: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    sealed: ClassVar[bool] = True
    layouts: ClassVar[tuple[Layout, ...]] = ("raw",)
    storage: ClassVar[tuple[str, ...]] = ()
    opens: ClassVar[tuple[str, ...]] = ()
    has_opsets: ClassVar[bool] = False
    has_batches: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def convert(
        cls,
        detector: Detector,
        size: tuple[int, int],
        batch: int | None = None,
        calibration: Sequence[Tensor] | None = None,
    ) -> Any:  # noqa: ANN401
        """The graph of a detector's dense part; ``convert.trace_dense`` gives what most libraries start from.

        Args:
            detector: it takes uint8 [B, 3, H, W] RGB and gives its maps, in their order.
            size: (height, width) of its input.
            batch: the only batch size; None: any.
            calibration: uint8 [1, 3, H, W] images from which an int8 graph takes its ranges.

        Raises:
            UserError: a library is not installed.
        """

    @classmethod
    def convert_form(
        cls, detector: Detector, size: tuple[int, int], batch: int | None, form: GraphForm, limits: Limits
    ) -> Any:  # noqa: ANN401
        """Like ``convert``, for another layout, input or opset; of runtimes that have ``layouts``.

        Args:
            detector: see ``convert``.
            size: see ``convert``.
            batch: see ``convert``.
            form: of the graph.
            limits: of the 'end2end' layout.
        """
        raise NotImplementedError

    @classmethod
    def compress(cls, graph: Any, detector: Detector) -> Any:  # noqa: ANN401
        """The graph in the form in which ``save`` stores weights as fp16; ``detector`` is what it was made from."""
        return graph

    @classmethod
    @abstractmethod
    def save(cls, graph: Any, path: Path, info: str | None = None, precision: str = "fp32") -> None:  # noqa: ANN401
        """Write what ``convert`` gave to ``path``, and the files beside it; ``info`` is kept in it.

        Raises:
            OSError: it cannot be written.
        """

    @classmethod
    @abstractmethod
    def read(cls, path: Path) -> tuple[str | None, GraphShape]:
        """The ``info`` in a file (None: there is none), and the shapes of the graph.

        It is called before a file is used, and may raise any error if that cannot be opened.
        """

    @classmethod
    @abstractmethod
    def open(
        cls,
        find_graph: Callable[[tuple[int, int]], Path],
        map_names: Sequence[str],
        size: tuple[int, int],
        precision: str,
        *,
        throughput: bool = False,
    ) -> Backend:
        """What runs graphs.

        Args:
            find_graph: (height, width) -> the file of the graph for it.
            map_names: of a graph's outputs, in their order.
            size: (height, width) to make ready at once.
            precision: one of ``precisions``.
            throughput: several batches will be in flight.
        """

    @classmethod
    def fast_precisions(cls, *, can_calibrate: bool) -> tuple[str, ...]:
        """Those worth measuring on this machine; int8 only if there are images for it."""
        return tuple(precision for precision in cls.precisions if precision != "int8")

    @classmethod
    def library(cls) -> Any:  # noqa: ANN401
        """The module that runs graphs.

        Raises:
            UserError: it is not installed; says how to.
        """
        return import_extra(cls.module, cls.extra)

    @classmethod
    def can_open(cls, path: Path) -> bool:
        """Whether the graph at ``path`` is one for this library, by its suffix."""
        return path.suffix in (cls.suffix, *cls.opens)

    @classmethod
    def files(cls, path: Path) -> list[Path]:
        """Of the graph at ``path``, that file first."""
        return [path, *(path.with_suffix(suffix) for suffix in cls.beside)]
