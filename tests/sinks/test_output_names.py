from pathlib import Path, PurePath, PurePosixPath

import pytest

from tests.inference.fakes import FakeSource, frame_of, image_source, video
from yolofpn.errors import UserError
from yolofpn.sinks.output_names import OutputNames, next_output_dir, source_stem
from yolofpn.text import safe_part


def test_folders_are_kept() -> None:
    assert source_stem(image_source("a/b/dog.v2.jpg")) == PurePath("a/b/dog.v2")


def test_a_stream_keeps_the_dots_of_its_name() -> None:
    assert source_stem(FakeSource(PurePath("192.168.1.5"), "stream")) == PurePath("192.168.1.5")


@pytest.mark.parametrize("path", ["../../etc/dog.jpg", "/etc/dog.jpg", "./etc/dog.jpg"])
def test_nothing_leads_out_of_the_output_folder(path: str) -> None:
    assert source_stem(FakeSource(PurePosixPath(path))) == PurePath("etc/dog")


def test_images_of_one_name_get_numbers() -> None:
    names = OutputNames()
    stems = [
        names.stem(image_source(name)).as_posix()
        for name in ("dog.jpg", "dog.png", "Dog.jpg", "dog-2.jpg", "a/dog.jpg")
    ]
    assert stems == ["dog", "dog-2", "Dog-3", "dog-2-2", "a/dog"]


def test_the_same_name_a_thousand_times() -> None:
    names = OutputNames()
    assert len({names.stem(image_source("dog.jpg")) for _ in range(1000)}) == 1000


def test_accents_that_some_file_systems_take_for_the_same_are_told_apart() -> None:
    names = OutputNames()
    assert names.claim(PurePath("\u00e4")) == PurePath("\u00e4")
    assert names.claim(PurePath("a\u0308")) == PurePath("a\u0308-2")


def test_names_with_other_suffixes_do_not_collide() -> None:
    names = OutputNames()
    assert names.claim(PurePath("dog"), ".jpg") == PurePath("dog.jpg")
    assert names.claim(PurePath("dog"), ".png") == PurePath("dog.png")
    assert names.claim(PurePath("dog"), ".jpg") == PurePath("dog-2.jpg")


def test_a_video_keeps_its_name_and_numbers_its_frames() -> None:
    names = OutputNames()
    one, other = video("clip.mp4"), video("clip.avi")
    stems = [names.frame_stem(source, frame_of(source, index=index)) for source in (one, other) for index in (0, 12)]
    expected = ["clip_000000", "clip_000012", "clip-2_000000", "clip-2_000012"]
    assert [stem.as_posix() for stem in stems] == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a:b*c?", "a_b_c_"),
        ("stop sign", "stop sign"),
        ("犬", "犬"),
        ("a/b\\c", "a_b_c"),
        ("line\nbreak\0", "line_break_"),
        ("..", ""),
        (" dot. ", "dot"),
        ("", ""),
    ],
)
def test_odd_characters_become_underscores(text: str, part: str) -> None:
    assert safe_part(text) == part


def test_long_names_are_cut_between_characters() -> None:
    assert safe_part("ä" * 200) == "ä" * 90


def test_output_folders_are_numbered_and_never_given_twice(tmp_path: Path) -> None:
    base = tmp_path / "runs" / "detect"
    assert next_output_dir(base, "images/dog.jpg") == base / "dog-1"
    assert next_output_dir(base, "dog.png") == base / "dog-2"
    assert next_output_dir(base, "dog-2") == base / "dog-2-1"
    (base / "dog-7").mkdir()
    (base / "dog-x").mkdir()
    assert next_output_dir(base, "dog.jpg") == base / "dog-8"
    assert next_output_dir(base, "..") == base / "detect-1"
    assert next_output_dir(base, "0") == base / "0-1"
    assert all(path.is_dir() for path in base.iterdir())


def test_an_output_folder_that_cannot_be_made_is_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match="--output"):
        next_output_dir(tmp_path / "runs" / "detect", "dog.jpg")
