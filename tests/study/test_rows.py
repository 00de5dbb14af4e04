"""The shipped studies: every row is a complete model, and differs from the others in one thing."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import torch

from studies.paper import PAPER_TABLES
from studies.study_plan import choose_rows, load_study
from yolofpn.config import Config, RCNNHeadConfig, YOLOHeadConfig
from yolofpn.config import load_config as read_config
from yolofpn.models.build import build_model
from yolofpn.models.two_stage.proposal_network import ProposalNetwork

CFG = Path(__file__).parents[2] / "cfg"
STUDIES = sorted(path for path in (CFG / "study").glob("*.yaml") if "\nrows:" in path.read_text())
MODELS = sorted({*CFG.glob("*.yaml"), *(CFG / "study").glob("*.yaml")} - set(STUDIES))
ONE_STAGE = sorted((CFG / "study").glob("yolo-*.yaml"))
TWO_STAGE = sorted((CFG / "study").glob("rcnn-*.yaml"))


@cache
def load_config(path: Path, overrides: tuple[str, ...] = ()) -> Config:
    """For reading only."""
    return read_config(path, overrides)


@pytest.mark.slow
@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_every_model_is_built_and_explained(path: Path) -> None:
    config = load_config(path)
    with torch.device("meta"):
        build_model(config.model, 80, config.input, config.postprocess)
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for topic in ("command", "hardware", "expected"):
        assert any(line.startswith(f"# {topic} ") for line in head), topic
    command = next(line for line in head if line.startswith("# command"))
    assert f"--cfg {path.relative_to(CFG.parent).as_posix()}" in command
    assert config.data is None or Path(config.data.source).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_row_of_every_study_is_built(path: Path) -> None:
    study = load_study(path)
    assert study.rows
    for row in study.rows.values():
        if row.cfg is not None:
            overrides = (*study.overrides, *row.overrides)
            config = load_config(path.parent / row.cfg, overrides)
            if overrides:  # as it is, it was built above
                with torch.device("meta"):
                    detector = build_model(config.model, 3, config.input, config.postprocess)
                assert detector.num_classes == (1 if isinstance(detector, ProposalNetwork) else 3)


@pytest.mark.parametrize("name", ["one-stage", "two-stage", "separate-stages"])
def test_small_studies_have_the_same_rows(name: str) -> None:
    large, small = (load_study(CFG / "study" / f"{name}{size}.yaml") for size in ("", "-small"))
    assert [row.model_copy(update={"overrides": ()}) for row in small.rows.values()] == list(large.rows.values())
    assert list(small.rows) == list(large.rows)
    assert small.tables == large.tables


def without_neck_and_anchors(config: Config) -> dict[str, object]:
    """Nor the network of the second stage, which is the paper's conv5 in its row (a)."""
    tree = config.model_dump()
    del tree["model"]["neck"]
    tree["model"]["head"].pop("anchors", None)
    for key in ("type", "size"):
        tree["model"]["head"].get("roi", {}).pop(key, None)
    return tree


def test_one_stage_rows_differ_in_the_pyramid_alone() -> None:
    configs = {path.stem.split("-")[1]: load_config(path) for path in ONE_STAGE}
    assert_only_the_pyramid_differs(configs)
    for letter, config in configs.items():
        head, levels = config.model.head, config.model.neck.levels
        assert isinstance(head, YOLOHeadConfig)
        flat = [anchor for anchors in head.anchors for anchor in anchors]
        assert len(flat) == len(set(flat)) == 9
        assert len(head.anchors) == len(levels) == (1 if letter in "abf" else 3)


def test_two_stage_rows_differ_in_the_pyramid_alone() -> None:
    configs = {path.stem.split("-")[1]: load_config(path) for path in TWO_STAGE}
    assert_only_the_pyramid_differs(configs)
    for letter, config in configs.items():
        head = config.model.head
        assert isinstance(head, RCNNHeadConfig)
        sizes = [size for level in head.anchors.sizes for size in level]
        assert sizes == [32, 64, 128, 256, 512]
        assert len(head.anchors.ratios) == 3
        assert len(head.anchors.sizes) == (1 if letter in "abf" else 5)
        assert (head.roi.type, head.roi.size) == (("conv5", 14) if letter == "a" else ("mlp", 7))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rpn", "fast-rcnn"])
def test_rows_of_one_stage_are_those_of_both_without_the_other(kind: str) -> None:
    paths = {path.stem.removeprefix(f"{kind}-")[0]: path for path in sorted((CFG / "study").glob(f"{kind}-*.yaml"))}
    configs = {letter: load_config(path) for letter, path in paths.items()}
    assert_only_the_pyramid_differs(configs)
    table = PAPER_TABLES[kind.replace("-", "_")]
    for (letter, config), both in zip(configs.items(), map(load_config, TWO_STAGE), strict=True):
        head, whole = config.model.head, both.model.head
        assert config.model.neck == both.model.neck and config.input == both.input and config.augment == both.augment
        assert isinstance(whole, RCNNHeadConfig) and head.type == kind.replace("-", "_")
        assert all(getattr(head, key) == getattr(whole, key) for key in type(head).model_fields if key != "type")
        expected = next(line for line in paths[letter].read_text().splitlines() if line.startswith("# expected"))
        printed = [float(number) for number in re.findall(r"\d+\.\d", expected)]
        assert printed == list(table.rows[letter])
    proposals = {config.data.proposals for config in configs.values() if config.data is not None}
    assert len(proposals) == 1 and (proposals == {None}) == (kind == "rpn")


def test_the_rows_of_fast_rcnn_start_from_one_rpns_proposals() -> None:
    study = load_study(CFG / "study" / "separate-stages.yaml")
    assert choose_rows(study, ("fast-rcnn-a",)) == ["rpn-c", "fast-rcnn-a"]
    for name, row in study.rows.items():
        kind, letter = name.rsplit("-", 1)
        assert row.cfg is not None and row.cfg.startswith(f"{kind}-{letter}-")
        assert (row.table, row.paper_row) == (kind.replace("-", "_"), letter)
        assert row.proposals_of == (None if kind == "rpn" else "rpn-c")


def assert_only_the_pyramid_differs(configs: dict[str, Config]) -> None:
    assert list(configs) == list("abcdef")
    alike = [without_neck_and_anchors(config) for config in configs.values()]
    assert all(each == alike[0] for each in alike)
    necks = {letter: config.model.neck for letter, config in configs.items()}
    assert {letter: (neck.top_down, neck.lateral) for letter, neck in necks.items()} == {
        **dict.fromkeys("abd", (False, True)),
        **dict.fromkeys("cf", (True, True)),
        "e": (True, False),
    }
    assert [necks[letter].levels for letter in "abf"] == [(4,), (5,), (2,)]
    same = ("type", "channels", "upsample")
    built = [neck for neck in necks.values() if neck.type != "none"]
    assert all(getattr(neck, key) == getattr(necks["c"], key) for neck in built for key in same)


@pytest.mark.parametrize("path", ONE_STAGE, ids=lambda path: path.stem)
def test_small_rows_predict_nine_boxes_per_place(path: Path) -> None:
    small = load_study(CFG / "study" / "one-stage-small.yaml")
    config = load_config(path, tuple(small.overrides))
    model = build_model(config.model, 3, config.input, config.postprocess).eval()
    with torch.inference_mode():
        maps = model.dense(torch.zeros(1, 3, 64, 96, dtype=torch.uint8))
    places = {name: (raw.shape[1] // 8, *raw.shape[2:]) for name, raw in maps.items()}
    shapes = {"p2": (16, 24), "p3": (8, 12), "p4": (4, 6), "p5": (2, 3)}
    anchors = 9 // len(config.model.neck.levels)
    assert places == {f"p{k}": (anchors, *shapes[f"p{k}"]) for k in config.model.neck.levels}
