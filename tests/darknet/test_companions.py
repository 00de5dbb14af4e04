from __future__ import annotations

from pathlib import Path

import pytest

from yolofpn.config import DarknetHeader
from yolofpn.darknet.cfg import parse_cfg
from yolofpn.darknet.companions import choose_resize, find_cfg, find_names, resize_note
from yolofpn.data.class_names import COCO_NAMES
from yolofpn.errors import UserError

YOLOV3_NUMBERS = 62_001_757


def touch(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_given_cfg_comes_first(tmp_path: Path) -> None:
    touch(tmp_path / "x.cfg")
    assert find_cfg(tmp_path / "x.weights", 1, "other.cfg") == (Path("other.cfg"), "cfg: other.cfg (as given)")


@pytest.mark.parametrize(
    ("weights", "cfg"),
    [
        ("x.weights", "x.cfg"),
        ("yolo-fastest-1.1.weights", "yolo-fastest-1.1.cfg"),
        ("x_best.weights", "x_best.cfg"),
        ("x_best.weights", "x.cfg"),
        ("x_last.weights", "x.cfg"),
        ("x_final.weights", "x.cfg"),
        ("x_ema.weights", "x.cfg"),
        ("x_40000.weights", "x.cfg"),
        ("backup/x_best.weights", "x.cfg"),
        ("x.backup", "x.cfg"),
    ],
)
def test_cfg_is_found_by_its_name(tmp_path: Path, weights: str, cfg: str) -> None:
    touch(tmp_path / cfg)
    path, note = find_cfg(tmp_path / weights, YOLOV3_NUMBERS)
    assert path == tmp_path / cfg
    assert note == f"cfg: {tmp_path / cfg} (found by its name)"


def test_own_stem_wins_over_the_shortened_one(tmp_path: Path) -> None:
    touch(tmp_path / "x.cfg")
    touch(tmp_path / "x_best.cfg")
    assert find_cfg(tmp_path / "x_best.weights", 1)[0].name == "x_best.cfg"


def test_one_folder_up_of_a_bare_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "x.cfg")
    (tmp_path / "backup").mkdir()
    monkeypatch.chdir(tmp_path / "backup")
    assert find_cfg(Path("x_best.weights"), 1)[0] == tmp_path / "x.cfg"


@pytest.mark.parametrize("cfg", ["y.cfg", "x_worst.cfg", "../x_worst.cfg", "x_best_1.cfg"])
def test_no_cfg(tmp_path: Path, cfg: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    touch(folder / cfg)
    with pytest.raises(UserError, match="weights"):
        find_cfg(folder / "x_best.weights", 1)


@pytest.mark.parametrize(
    ("numbers", "name"),
    [(YOLOV3_NUMBERS, "yolov3"), ((35_434_956 - 20) // 4, "yolov3-tiny"), ((252_209_544 - 20) // 4, "yolov3-spp")],
)
def test_own_cfg_by_the_count_of_numbers(tmp_path: Path, numbers: int, name: str) -> None:
    path, note = find_cfg(tmp_path / "downloaded.weights", numbers)
    assert path.name == f"{name}.cfg"
    assert f"our own of {name}," in note
    with pytest.raises(UserError, match="no cfg found"):
        find_cfg(tmp_path / "downloaded.weights", numbers + 1)


def test_names_beside_weights_or_cfg_in_order(tmp_path: Path) -> None:
    weights, cfg = tmp_path / "backup" / "x_best.weights", tmp_path / "x.cfg"
    for path in (weights.parent / "classes.txt", tmp_path / "obj.names", tmp_path / "x.names"):
        touch(path, f"{path.name}\n")
        assert find_names(weights, cfg, 1) == ((path.name,), f"names: {path} (found)")
    given = touch(tmp_path / "given.names", "given\n")
    assert find_names(weights, cfg, 1, given) == (("given",), f"names: {given} (as given)")


def test_the_only_names_file_of_the_right_number(tmp_path: Path) -> None:
    weights, cfg = tmp_path / "x.weights", tmp_path / "x.cfg"
    touch(tmp_path / "other.names", "one\ntwo\n")
    touch(tmp_path / "broken.names", "one\n\nthree\n")
    fitting = touch(tmp_path / "mine.names", "a\nb\nc\n")
    assert find_names(weights, cfg, 3)[0] == ("a", "b", "c")
    assert str(fitting) in find_names(weights, cfg, 3)[1]
    touch(tmp_path / "second.names", "d\ne\nf\n")
    assert find_names(weights, cfg, 3)[0] == ("0", "1", "2")


def test_names_without_a_file(tmp_path: Path) -> None:
    names, note = find_names(tmp_path / "x.weights", tmp_path / "x.cfg", 80)
    assert names == COCO_NAMES
    assert "COCO" in note
    names, note = find_names(tmp_path / "x.weights", tmp_path / "x.cfg", 3)
    assert names == ("0", "1", "2")
    assert "--names" in note


def test_names_of_the_wrong_number(tmp_path: Path) -> None:
    touch(tmp_path / "obj.names", "cat\ndog\n")
    with pytest.raises(UserError, match=r"obj.names: holds 2 names, .*x.weights has 3 classes"):
        find_names(tmp_path / "x.weights", tmp_path / "x.cfg", 3)
    with pytest.raises(UserError, match="holds 2 names"):
        find_names(tmp_path / "x.weights", tmp_path / "x.cfg", 80, tmp_path / "obj.names")


@pytest.mark.parametrize(
    ("line", "revision", "resize"),
    [
        ("", 0, "letterbox"),
        ("", 5, "stretch"),
        ("letter_box=1", 5, "letterbox"),
        ("letter_box=0", 0, "stretch"),
    ],
)
def test_resize(line: str, revision: int, resize: str) -> None:
    cfg = parse_cfg(f"[net]\nwidth=32\nheight=32\n{line}\n[convolutional]\nfilters=1\n", "x.cfg")
    header = DarknetHeader(major=0, minor=2, revision=revision, seen=0)
    assert choose_resize(cfg, header) == resize
    note = resize_note(cfg, header)
    assert note.startswith(f"resize: {resize}") and "--resize" in note
