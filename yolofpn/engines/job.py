"""What the processes of an engine need to know of a run."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from yolofpn.inference.predictor_options import PredictorOptions


@dataclass(frozen=True)
class Job:
    """A run.

    Attributes:
        sources: what to detect in, as typed.
        column: of the paths in tables.
        folder: the working folder, from which relative paths lead.
        output: folder or address of the part files.
        form: key of their format.
        batch_size: images of a batch.
        part_size: images of a part file, except a tar's.
        options: how the detector is run.
        bands: whether the weights take bands.
        names: class names by label.
        category_ids: of the data set, by label; empty: there are none.
    """

    sources: tuple[str, ...]
    column: str | None
    folder: str
    output: str
    form: str
    batch_size: int
    part_size: int
    options: PredictorOptions
    bands: bool = False
    names: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()

    def enter_folder(self) -> None:
        """Work where the command was started; other machines may have no such folder."""
        with suppress(OSError):
            os.chdir(self.folder)

    def settings(self) -> dict[str, Any]:
        """What the rows depend on, apart from weights and sources."""
        kept = {key: value for key, value in asdict(self.options).items() if key not in ("device", "workload")}
        classes = {"names": self.names, "category_ids": self.category_ids}
        return {"format": self.form, "part_size": self.part_size, **classes, **kept}
