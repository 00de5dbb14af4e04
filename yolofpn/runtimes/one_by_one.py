"""Runs graphs that know neither batches nor bytes, as those of runtimes for phones."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from yolofpn.runtimes.newest import NewestSizes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolofpn.runtimes.backend import Batch, Wait

# float32 [N, H, W] in, each of the graph's outputs out.
RunGraph: TypeAlias = "Callable[[NDArray[np.float32]], Sequence[NDArray[np.float32]]]"


class OneByOne:
    """A ``Backend``: the graph of each (height, width) is opened when it is first needed, and runs image by image.

    Args:
        name: the runtime's key.
        open_graph: a graph's file -> what runs it, and the metadata in it (None: there is none).
        find_graph: (height, width) -> the file of the graph for it.
        map_names: of the graph's outputs, in their order.
        size: (height, width) to open at once.
    """

    precision = "fp32"
    slots = 1

    def __init__(
        self,
        name: str,
        open_graph: Callable[[Path], tuple[RunGraph, str | None]],
        find_graph: Callable[[tuple[int, int]], Path],
        map_names: Sequence[str],
        size: tuple[int, int],
    ) -> None:
        self.name = name
        self._map_names = tuple(map_names)
        self._graphs: NewestSizes[tuple[RunGraph, str | None]] = NewestSizes(lambda size: open_graph(find_graph(size)))
        _ = self._graphs[size]

    def start(self, batch: Batch) -> Wait:
        """The work is done when this returns."""
        import numpy as np  # not for --help

        from yolofpn.runtimes.backend import as_floats

        run, info = self._graphs[batch.shape[2], batch.shape[3]]
        # Of layouts for other programs, whose metadata say that they take no bytes, bytes are 0..1; else 0..255.
        unit = info is not None and not json.loads(info).get("uint8", True)
        outputs = [run(image) for image in as_floats(batch, unit=unit)]
        maps = {name: np.stack(each) for name, each in zip(self._map_names, zip(*outputs, strict=True), strict=True)}
        return lambda: maps
