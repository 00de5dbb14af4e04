from __future__ import annotations

from pathlib import Path

import pytest
import torch

from yolofpn.errors import UserError
from yolofpn.evaluation.class_groups import (
    CLASS_GROUPS,
    class_groups_of,
    format_groups,
    group_metrics,
    read_class_groups,
    write_class_groups,
)
from yolofpn.evaluation.metrics import DetectionMetrics
from yolofpn.structures import Detections, Target

GROUPS = (("cat", "dog"), ("TV",))


def test_a_groups_ap_is_the_mean_of_its_classes_with_objects() -> None:
    metrics = DetectionMetrics(["dog", "tv monitor", "cat"])
    boxes = torch.tensor([[0.0, 0.0, 50.0, 50.0], [60.0, 60.0, 90.0, 90.0]])
    target = Target(boxes, torch.tensor([0, 2]), torch.zeros(2, dtype=torch.bool), torch.tensor([2500.0, 900.0]))
    metrics.add(Detections(boxes[:1], [0.9], [0]), target)
    first, second = group_metrics(metrics.compute(), GROUPS)
    assert (round(first.AP, 6), round(first.AP50, 6)) == (0.5, 0.5)  # dog 1, cat 0
    assert (first.objects, second.objects, second.AP50) == (2, 0, -1)
    assert format_groups([first, second]).splitlines()[2].split()[-2:] == ["-", "-"]
    assert first.to_json()["names"] == ("cat", "dog")


def test_groups_are_read_back_from_the_folder_and_beside_the_weights(tmp_path: Path) -> None:
    assert read_class_groups(tmp_path) == ()
    write_class_groups(tmp_path, GROUPS)
    assert read_class_groups(tmp_path) == read_class_groups(tmp_path / "weights.safetensors") == GROUPS


def test_groups_are_those_of_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder may be a run folder, from which other weights are evaluated."""
    write_class_groups(tmp_path, GROUPS)
    monkeypatch.chdir(tmp_path)
    names = ("Cat", "dog", "tv monitor")
    assert class_groups_of(tmp_path, names) == GROUPS
    assert class_groups_of("auto", names) == class_groups_of(tmp_path, ("cat", "dog", "horse")) == ()
    assert class_groups_of(tmp_path, names[:2]) == class_groups_of(tmp_path, (*names, "horse")) == ()


@pytest.mark.parametrize("content", ["{", '{"groups": 3}', '{"groups": [[]], "more": 1}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / CLASS_GROUPS).write_text(content)
    with pytest.raises(UserError, match=CLASS_GROUPS):
        read_class_groups(tmp_path)
