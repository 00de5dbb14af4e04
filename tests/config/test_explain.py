"""Every refusal names the file, the place in it, and the remedy."""

from pathlib import Path

import pytest

from tests.config.files import MODEL, write_config
from yolofpn.config import load_config
from yolofpn.errors import UserError


def complaint(folder: Path, *overrides: str, text: str = MODEL) -> list[str]:
    """The lines of the refusal, without the file's name that each begins with."""
    path = write_config(folder, text)
    with pytest.raises(UserError) as error:
        load_config(path, overrides)
    lines = str(error.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.neck.chanels=3", "model.neck.chanels: unknown key (did you mean 'channels'?)"),
        ("train.epoch=3", "train.epoch: unknown key (did you mean 'epochs'?)"),
        ("postproces={}", "postproces: unknown key (did you mean 'postprocess'?)"),
        ("epochs=3", "epochs: unknown key (did you mean 'train.epochs'?)"),
        ("train.lr=3", "train.lr: unknown key (did you mean 'train.optimizer.lr'?)"),
        (
            "train.optimizer={type: sgd, momentun: .9}",
            "train.optimizer.momentun: unknown key (did you mean 'momentum'?)",
        ),
        ("train.schedule={type: step, gama: .9}", "train.schedule.gama: unknown key (did you mean 'gamma'?)"),
        ("train.multi_scale={lowst: 9}", "train.multi_scale.lowst: unknown key (did you mean 'lowest'?)"),
        ("model.head.loss.boxes=ciou", "model.head.loss.boxes: unknown key (did you mean 'box'?)"),
        ("xyzzy=3", "xyzzy: unknown key"),
        ("model.neck.concat=3", "model.neck.concat: unknown key"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(tmp_path: Path, override: str, said: str) -> None:
    assert complaint(tmp_path, override) == [said]


def test_a_key_of_the_other_fusion_is_unknown_in_this_one(tmp_path: Path) -> None:
    assert complaint(tmp_path, "model.head.loss.assigner={type: best_anchor, iou_weight: 2}") == [
        "model.head.loss.assigner.iou_weight: unknown key (did you mean 'iou_weight'?)"
    ]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epochs=0", "train.epochs: Input should be greater than 0, found 0"),
        ("input.size=416", "input.size: expected a list, found 416"),
        ("input.size=[416]", "input.size.1: is missing"),
        ("input.size=[416, -1]", "input.size.1: Input should be greater than 0, found -1"),
        ("model.neck=3", "model.neck: expected a section of keys, found 3"),
        ("train=", "train: expected a section of keys, found nothing"),
        ("model.neck.type=pan", "model.neck: type 'pan' is none of 'concat', 'add', 'tiny', 'none'"),
        ("train.optimizer.lr=1", "train.optimizer: lacks the key 'type'"),
        (
            "postprocess.score_thresh=1.5",
            "postprocess.score_thresh: Input should be less than or equal to 1, found 1.5",
        ),
        (
            "postprocess.score_thresh=.nan",
            "postprocess.score_thresh: Input should be a finite number, found nan",
        ),
        (
            "postprocess.score_thresh=[.1, 2]",
            "postprocess.score_thresh.1: Input should be less than or equal to 1, found 2",
        ),
        ("model.head.anchors=[[[1, 2]]]", "model: head.anchors has 1 sets for the 2 levels [4, 5] of the neck"),
        (
            "model.head.anchors=[[[1, 2]], [[1, 2], [3, 4]]]",
            "model: head.anchors: every level needs the same number of anchors",
        ),
        ("train.multi_scale={lowest: 640}", "train.multi_scale: lowest 640 is above highest 608"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(tmp_path: Path, override: str, said: str) -> None:
    assert complaint(tmp_path, override) == [said]


def test_a_missing_section(tmp_path: Path) -> None:
    assert complaint(tmp_path, text="train: {epochs: 3}\n") == ["model: is missing"]
    assert complaint(tmp_path, text=MODEL.replace("    type: yolo\n", "")) == ["model.head: lacks the key 'type'"]


def test_all_errors_come_at_once(tmp_path: Path) -> None:
    lines = complaint(tmp_path, "train.epochs=0", "train.seed=x", "input.sise=3", "model.neck.upsample=cubic")
    assert sorted(line.split(":")[0] for line in lines) == [
        "input.sise",
        "model.neck.upsample",
        "train.epochs",
        "train.seed",
    ]
