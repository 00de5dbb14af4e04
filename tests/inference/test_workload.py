from __future__ import annotations

from pathlib import Path

import pytest

from yolofpn.inference import predictor_options
from yolofpn.inference.predictor_options import expected_workload


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        (["dog.jpg"], "few"),
        (["dog.jpg", "missing.png"], "few"),
        (["dog.jpg", "Street.MP4"], "many"),
        (["http://example.org/clip.mkv"], "many"),
        (["train.txt"], "many"),
        (["dog.jpg"] * predictor_options.MANY, "many"),
        (["0"], "live"),
        (["RTSP://user:secret@camera/stream"], "live"),
        (["street.mp4", "rtsp://camera/stream"], "live"),
        (["-"], "few"),
    ],
)
def test_what_is_typed_tells_how_much_is_coming(specs: list[str], expected: str) -> None:
    assert expected_workload(specs) == expected


def test_folders_are_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor_options, "MANY", 4)
    (tmp_path / "inner").mkdir()
    for name in ("a.jpg", "inner/b.jpg"):
        (tmp_path / name).touch()
    assert expected_workload([str(tmp_path)]) == "few"
    (tmp_path / "inner" / "c.jpg").touch()
    assert expected_workload([str(tmp_path)]) == "many"
    assert expected_workload([f"{tmp_path}/*.jpg"]) == "few"
    assert expected_workload([f"{tmp_path}/**/*"]) == "many"
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "inner" / "b.jpg").rename(tmp_path / "b.mkv")
    assert expected_workload([str(tmp_path)]) == "many"
