"""Classes that were learnt one group after the other, and the metrics of each group."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import Field

from yolofpn.data.class_names import normalise_name
from yolofpn.errors import UserError
from yolofpn.evaluation.coco import NO_OBJECTS
from yolofpn.evaluation.metrics import Metrics
from yolofpn.fields import StrictModel
from yolofpn.files import replace_file, write_errors
from yolofpn.reading import MAX_CLASSES, MAX_TEXT_BYTES, ParseError, parse_json, read_bounded

CLASS_GROUPS = "class_groups.json"  # in a run folder, beside the weights
Groups: TypeAlias = tuple[tuple[str, ...], ...]


class _File(StrictModel):
    """The contents of ``class_groups.json``: names of the classes of the first training, then of each addition."""

    groups: tuple[tuple[str, ...], ...] = Field(max_length=MAX_CLASSES)


@dataclass(frozen=True)
class GroupMetrics:
    """The metrics of a group of classes.

    Attributes:
        names: of its classes.
        objects: number of objects, without ignored ones.
        AP: mean over its classes that have objects, in [0, 1]; -1 if none has.
        AP50: likewise at IoU .5.
    """

    names: tuple[str, ...]
    objects: int
    AP: float
    AP50: float

    def to_json(self) -> dict[str, Any]:
        """Return an entry of ``groups``."""
        return asdict(self)


def write_class_groups(folder: Path, groups: Groups) -> None:
    """Write the file into a run folder.

    Raises:
        UserError: it cannot be written.
    """
    text = json.dumps({"groups": groups}, ensure_ascii=False)
    with write_errors(folder / CLASS_GROUPS):
        replace_file(folder / CLASS_GROUPS, text.encode())


def read_class_groups(weights: str | Path) -> Groups:
    """Read the groups of a run folder, or of the folder of a weights file; empty where there are none.

    Raises:
        UserError: the file is there, and damaged.
    """
    path = Path(weights)
    path = (path if path.is_dir() else path.parent) / CLASS_GROUPS
    if not path.is_file():
        return ()
    try:
        return _File.model_validate(parse_json(read_bounded(path, MAX_TEXT_BYTES).decode())).groups
    except (ParseError, OSError, ValueError):
        raise UserError(f"{path}: is damaged: without it all classes are reported as one group") from None


def class_groups_of(weights: str | Path, names: Sequence[str]) -> Groups:
    """Read the groups of weights; empty where there are none or a file beside them is about other classes.

    Args:
        weights: a file or a run folder; what is neither, such as 'auto', has no folder that tells of groups.
        names: of all their classes, in any spelling of ``normalise_name``.

    Raises:
        UserError: the file is there, and damaged.
    """
    groups = read_class_groups(weights) if Path(weights).exists() else ()
    known = [normalise_name(name) for group in groups for name in group]
    return groups if known == [normalise_name(name) for name in names] else ()


def group_metrics(metrics: Metrics, groups: Groups) -> list[GroupMetrics]:
    """Compute the metrics of each group; classes are found by their names, in any spelling of ``normalise_name``."""
    by_name = {normalise_name(each.name): each for each in metrics.per_class}
    results = []
    for names in groups:
        found = [by_name[key] for key in map(normalise_name, names) if key in by_name]
        values = {key: [each.values[key] for each in found if each.values[key] != NO_OBJECTS] for key in ("AP", "AP50")}
        means = {
            key: sum(of_classes) / len(of_classes) if of_classes else NO_OBJECTS for key, of_classes in values.items()
        }
        results.append(GroupMetrics(names, sum(each.objects for each in found), **means))
    return results


def format_groups(results: Sequence[GroupMetrics]) -> str:
    """Format a table with a line per group: the classes of the first training, then those of each addition."""
    lines = [f"{'classes':<24} {'objects':>8} {'AP':>6} {'AP50':>6}"]
    for number, group in enumerate(results):
        title = (
            f"{len(group.names)} of the first training" if number == 0 else f"{len(group.names)} of addition {number}"
        )
        lines.append(f"{title:<24} {group.objects:8d} {_shown(group.AP):>6} {_shown(group.AP50):>6}")
    return "\n".join(lines)


def _shown(value: float) -> str:
    return "-" if value == NO_OBJECTS else f"{value:.3f}"
