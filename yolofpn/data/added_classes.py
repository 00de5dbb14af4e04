"""Class names of trained weights and of a data set that adds classes to them, merged into one list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from yolofpn.data.class_names import normalise_name
from yolofpn.data.dataset import DetectionDataset
from yolofpn.errors import UserError
from yolofpn.text import counted

_SHOWN = 10


@dataclass(frozen=True)
class AddedClasses:
    """The classes of a detector that learns further ones.

    Attributes:
        names: those of the weights in their order, then the new ones.
        category_ids: of each; new classes have the ids of the data set, where these are free.
        labels: by label of the data set, the label among ``names``.
        kept: labels of the classes that the data set does not label: unlabelled objects of them may be anywhere in it.
        new: labels of the new classes.
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...]
    labels: tuple[int, ...]
    kept: tuple[int, ...]
    new: tuple[int, ...]

    def relabel(self, dataset: DetectionDataset) -> DetectionDataset:
        """Return the data set with the merged classes; its boxes keep their class."""
        labels = np.array(self.labels, dtype=np.int32)[dataset.labels]
        return replace(dataset, names=self.names, category_ids=self.category_ids, labels=labels, source_ids=None)

    def describe(self) -> list[str]:
        """Return the lines to print: what is new, what is kept, and what the weights know already."""
        old = len(self.names) - len(self.new)
        again = [label for label in range(old) if label not in self.kept]
        lines = [
            f"classes: {len(self.new)} added to {old}: {self._listed(self.new)}; "
            f"{len(self.kept)} are kept without labels"
        ]
        if again:
            what = "it is" if len(again) == 1 else "they are"
            lines.append(
                f"classes: the weights already know {self._listed(again)}: {what} trained on the labels of the data, "
                "in which every object of these classes has to be labelled"
            )
        return lines

    def _listed(self, labels: Sequence[int]) -> str:
        more = ", ..." if len(labels) > _SHOWN else ""
        return ", ".join(self.names[label] for label in labels[:_SHOWN]) + more


def add_classes(
    names: Sequence[str], category_ids: Sequence[int], dataset: DetectionDataset, origin: str
) -> AddedClasses:
    """Merge the classes of weights and of a data set by name, as ``normalise_name`` compares them.

    A class that both have is that of the weights. If the data set has no box of it, it counts as not labelled: its name
    comes from a list that was written for all classes.

    Args:
        names: of the weights' classes.
        category_ids: of these, or empty.
        dataset: the training images.
        origin: the data set, as shown in errors.

    Raises:
        UserError: the data set has no class that the weights do not have.
    """
    places: dict[str, int] = {}
    for label, name in enumerate(names):
        places.setdefault(normalise_name(name), label)
    merged, ids = list(names), list(category_ids or range(len(names)))
    labels = []
    for label, name in enumerate(dataset.names):
        place = places.setdefault(normalise_name(name), len(merged))
        if place == len(merged):
            merged.append(name)
            wanted = dataset.category_ids[label]
            ids.append(wanted if wanted not in ids else max(ids) + 1)
        labels.append(place)
    new = range(len(names), len(merged))
    if not new:
        raise UserError(
            f"{origin}: adds no class: the weights know all of {counted(len(dataset.names), 'class')}; "
            "--data trains on them"
        )
    labelled = {labels[label] for label in np.unique(dataset.labels[~dataset.ignore]).tolist()}
    kept = tuple(label for label in range(len(names)) if label not in labelled)
    return AddedClasses(tuple(merged), tuple(ids), tuple(labels), kept, tuple(new))
