"""Plots: what is drawn, and that a PNG is written without a display."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.evaluation.scenes import Style, random_scene, table_of
from tests.training.commands import run_ranks
from yolofpn.data.images import read_image
from yolofpn.evaluation import evaluation_plots
from yolofpn.evaluation.coco import match_coco, precision_at_recall
from yolofpn.evaluation.confusion import confusion_matrix
from yolofpn.evaluation.evaluation_plots import plot_confusion, plot_f1, plot_precision_recall
from yolofpn.evaluation.operating_point import f1_over_thresholds, match_darknet

pytestmark = pytest.mark.usefixtures("drawn_plots")
THRESHOLDS = np.linspace(0, 1, 101)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved, in order."""
    saved: list[Figure] = []
    save = evaluation_plots._save

    def remember(figure: Figure, path: Path) -> None:
        saved.append(figure)
        save(figure, path)

    monkeypatch.setattr(evaluation_plots, "_save", remember)
    return saved


def assert_is_image(path: Path) -> None:
    image = read_image(path)
    assert min(image.shape[:2]) > 400
    assert image.std() > 5  # something is drawn


def curve_labels(figure: Figure) -> list[str]:
    legend = figure.axes[0].get_legend()
    return [text.get_text() for text in legend.get_texts()] if legend else []


@pytest.mark.slow
@pytest.mark.parametrize("classes", [3, 80])
def test_curves_of_few_and_many_classes(classes: int, tmp_path: Path, figures: list[Figure]) -> None:
    table = table_of(random_scene(0, Style(classes=classes, images=60)), classes)
    names = [f"class {label}" for label in range(classes)]
    outcomes = match_darknet(table)
    has_objects = outcomes.positives > 0
    precision = precision_at_recall(table, match_coco(table))[:, 0, 0]
    plot_precision_recall(tmp_path / "plots" / "pr.png", precision, names)
    plot_f1(tmp_path / "f1.png", THRESHOLDS, f1_over_thresholds(outcomes, THRESHOLDS), has_objects, names)
    for figure, path in zip(figures, ("plots/pr.png", "f1.png"), strict=True):
        assert_is_image(tmp_path / path)
        assert len(figure.axes[0].lines) == has_objects.sum() + 1  # the last class has no objects, the mean is one more
        assert len(curve_labels(figure)) == (3 if classes == 3 else 1)
    ap50 = precision[has_objects].mean()
    assert curve_labels(figures[0])[-1] == f"all classes {ap50:.3f}"


@pytest.mark.slow
def test_curves_without_objects_say_so(tmp_path: Path, figures: list[Figure]) -> None:
    plot_precision_recall(tmp_path / "pr.png", np.full((2, 101), -1.0), ["a", "b"])
    plot_f1(tmp_path / "f1.png", THRESHOLDS, np.zeros((2, 101)), np.zeros(2, dtype=bool), ["a", "b"])
    for figure in figures:
        assert [text.get_text() for text in figure.axes[0].texts] == ["no objects"]


@pytest.mark.slow
def test_confusion_shows_numbers_where_they_can_be_read(tmp_path: Path, figures: list[Figure]) -> None:
    for classes in (3, 31):
        matrix = confusion_matrix(table_of(random_scene(0, Style(classes=classes, images=20)), classes), 0.25)
        plot_confusion(tmp_path / f"{classes}.png", matrix, [f"class {label}" for label in range(classes)])
        assert_is_image(tmp_path / f"{classes}.png")
        shown = sorted(text.get_text() for text in figures[-1].axes[0].texts)
        assert shown == (sorted(map(str, matrix[matrix > 0])) if classes == 3 else [])
        assert [text.get_text() for text in figures[-1].axes[0].get_yticklabels()][-1] == "background"


def pyplot_is_imported() -> int:
    return "yolofpn.evaluation.evaluation_plots" not in sys.modules or "matplotlib.pyplot" in sys.modules


@pytest.mark.slow
def test_pyplot_is_not_imported(tmp_path: Path) -> None:
    """Its global state would open windows and hold on to figures; in a process that is about to train."""
    assert run_ranks(pyplot_is_imported, tmp_path, 1).code == 0
