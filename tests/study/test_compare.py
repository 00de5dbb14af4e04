"""The tables of results made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studies.compare import compare, compare_table, format_table, read_results
from studies.paper import PAPER_TABLES
from studies.study_plan import Size, Study, keep_settings, load_study
from yolofpn.data.images import read_image
from yolofpn.errors import UserError

STUDY = """
title: Two rows
tables: [rpn, faster_rcnn]
rows:
  plain: {title: plain, cfg: plain.yaml, paper_row: c}
  odd: {title: odd, cfg: plain.yaml, paper_row: d}
  new: {title: new, weights_of: plain, pyramid: [0.5, 1]}
"""


def numbers(ap: float, small: float = 0.1) -> dict[str, Any]:
    recall = {"AR100": ap + 0.1, "AR1000": ap + 0.2, "AR1000s": small, "AR1000m": 0.5, "AR1000l": -1}
    return {"AP": ap, "AP50": 2 * ap, "APs": small, "APm": 0.25, "APl": -1, "proposals": recall}


def write_result(output: Path, row: str, seed: int, values: dict[str, Any]) -> None:
    folder = output / row / f"seed-{seed}"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(values))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "study.yaml").write_text(STUDY)
    keep_settings(tmp_path / "out", tmp_path / "study.yaml", Size(), {})
    return tmp_path / "out"


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_plots")
def test_means_and_spreads_beside_the_paper(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, ap in ((0, 0.30), (1, 0.34), (10, 0.35)):  # mean .33, deviations -.03, .01, .02: sqrt(.0014 / 2) = .0265
        write_result(output, "plain", seed, numbers(ap))
    write_result(output, "new", 0, numbers(0.4, small=-1))
    assert compare(output) == 0
    printed = capsys.readouterr().out
    detection = printed[printed.index("Detection") :].splitlines()
    assert detection[:4] == [
        "Detection, in per cent; the paper's: table 3, Faster R-CNN (ResNet-50, COCO)",
        "",
        "| system | seeds | AP50 | AP | APs | APm | APl |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    assert detection[4:9] == [
        "| plain | 3 | 66.0 ± 5.3 | 33.0 ± 2.6 | 10.0 ± 0.0 | 25.0 ± 0.0 | - |",
        "| paper, (c) |  | 56.9 | 33.9 | 17.8 | 37.7 | 45.8 |",
        "| odd | 0 | - | - | - | - | - |",
        "| paper, (d) |  | - | - | - | - | - |",  # the paper has no Faster R-CNN of that kind
        "| new | 1 | 80.0 | 40.0 | - | 25.0 | - |",
    ]
    assert "| plain | 3 | 43.0 ± 2.6 | 53.0 ± 2.6 | 10.0 ± 0.0 | 50.0 ± 0.0 | - |" in printed
    assert "| paper, (d) |  | 37.4 | 49.5 | 30.5 | 59.9 | 68.0 |" in printed
    assert printed.startswith((output / "table.md").read_text())
    image = read_image(output / "table.png")
    assert min(image.shape[:2]) > 400 and image.std() > 5


def test_seeds_in_order(output: Path) -> None:
    for seed in (10, 2, 0):
        write_result(output, "plain", seed, numbers(seed / 100))
    assert list(read_results(output / "plain")) == [0, 2, 10]


def test_nothing_to_compare(output: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="result"):
        compare(output)
    with pytest.raises(UserError, match="directory"):
        compare(tmp_path / "nowhere")
    write_result(output, "odd", 0, numbers(0.1))
    (output / "odd" / "seed-0" / "results.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        compare(output)
    (output / "study.json").write_text("[]")
    with pytest.raises(UserError, match="damaged"):
        compare(output)


def test_rows_of_one_table_only() -> None:
    rows = {
        "first": {"title": "first", "cfg": "f.yaml", "paper_row": "c", "table": "rpn"},
        "second": {"title": "second", "cfg": "s.yaml", "paper_row": "a", "table": "fast_rcnn", "proposals_of": "first"},
    }
    study = Study.model_validate({"title": "x", "tables": ["rpn", "fast_rcnn"], "rows": rows})
    detections = {key: value for key, value in numbers(0.2).items() if key != "proposals"}
    results = {"first": {0: numbers(0.3)}, "second": {0: detections}}
    (first,) = compare_table(study, results, PAPER_TABLES["rpn"])
    assert "| first | 1 | 40.0 | 50.0 | 10.0 | 50.0 | - |\n| paper, (c) |  | 44.0 " in format_table(
        PAPER_TABLES["rpn"], [first]
    )
    (second,) = compare_table(study, results, PAPER_TABLES["fast_rcnn"])
    assert "| second | 1 | 40.0 | 20.0 | 10.0 | 25.0 | - |\n| paper, (a) |  | 54.7 " in format_table(
        PAPER_TABLES["fast_rcnn"], [second]
    )


def test_fast_rcnn_rows(tmp_path: Path) -> None:
    study = Study.model_validate(
        {"title": "x", "tables": ["fast_rcnn"], "rows": {"r": {"title": "r", "cfg": "r.yaml", "paper_row": "d"}}}
    )
    table = PAPER_TABLES["fast_rcnn"]
    (row,) = compare_table(study, {"r": {0: numbers(0.2)}}, table)
    assert "| paper, (d) |  | 44.9 | 24.9 | 10.9 | 24.4 | 38.5 |" in format_table(table, [row])


def test_the_papers_tables_are_whole() -> None:
    for name, table in PAPER_TABLES.items():
        assert set(table.rows) >= ({"a", "b", "c"} if name == "faster_rcnn" else set("abcdef"))
        for values in table.rows.values():
            assert len(values) == len(table.columns)
        best = table.columns.index("AR1000" if table.of_proposals else "AP")
        means = {letter: values[best] or 0.0 for letter, values in table.rows.items()}
        assert max(means, key=lambda letter: means[letter]) == "c"


def test_the_papers_own_words_on_its_tables() -> None:
    """Section 5: what the feature pyramid (c) gains over the single map (a)."""

    def gain(table: str, column: str) -> float:
        place = PAPER_TABLES[table].columns.index(column)
        pyramid, single = (PAPER_TABLES[table].rows[letter][place] for letter in ("c", "a"))
        assert pyramid is not None and single is not None
        return round(pyramid - single, 1)

    assert [gain("rpn", column) for column in ("AR1000", "AR1000s")] == [8.0, 12.9]
    assert [gain("fast_rcnn", column) for column in ("AP", "APs")] == [2.0, 2.1]
    assert [gain("faster_rcnn", column) for column in ("AP", "AP50")] == [2.3, 3.8]


def test_studies_that_make_no_sense(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    for text, message in (
        ("title: x\ntables: [rpm]\nrows: {}\n", "tables.0"),
        ("title: x\ntables: []\nrows: {a: {title: a}}\n", "give either cfg or weights_of"),
        ("title: x\ntables: []\nrows: {a: {title: a, weights_of: b}}\n", "'b' is not a row with a cfg"),
        ("title: x\ntables: []\nrows: {a: {title: a, cfg: a.yaml, piramid: [1]}}\n", "did you mean 'rows.pyramid'"),
        ("title: x\ntables: []\nrows: {a: {title: a, cfg: a.yaml, proposals_of: b}}\n", "'b' is not a row"),
        ("title: x\ntables: []\nrows: {a: {title: a, cfg: a.yaml, proposals_of: a}}\n", "'a' makes none"),
        ("title: x\ntables: []\nrows: {a: {title: a, cfg: a.yaml, table: rpn}}\n", "'rpn' is none of the study's"),
        ("title: x\ntables: []\nrows: {a: {title: a, weights_of: b, proposals_of: b}}\n", "has its proposals too"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            load_study(path)


FIRST_AND_SECOND = """
title: x
tables: [rpn, fast_rcnn]
rows:
  first: {title: first, cfg: f.yaml, table: rpn}
  second: {title: second, cfg: s.yaml, proposals_of: first, table: fast_rcnn}
  again: {title: again, weights_of: second, table: fast_rcnn}
"""


@pytest.mark.parametrize("name", ["second", "again"])
@pytest.mark.parametrize("table", ["", ", table: rpn"], ids=["all tables", "rpn"])
def test_rows_on_the_proposals_of_others_have_none_to_compare(name: str, table: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(FIRST_AND_SECOND)
    assert list(load_study(path).rows) == ["first", "second", "again"]
    lines = FIRST_AND_SECOND.splitlines()
    (place,) = (index for index, line in enumerate(lines) if line.startswith(f"  {name}:"))
    lines[place] = lines[place].replace(", table: fast_rcnn", table)
    path.write_text("\n".join(lines))
    with pytest.raises(UserError) as error:
        load_study(path)
    assert f"rows.{name}.table: it takes another row's proposals and cannot stand in table 'rpn'" in str(error.value)
    assert "\n" not in str(error.value)
