"""What a source on the command line stands for."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from yolofpn.errors import InputError, UserError
from yolofpn.sources.resolve import Source, resolve_sources


@pytest.fixture
def folder(tmp_path: Path, tiny_video: Path) -> Path:
    """Images, a video, an animation, and what has to be left out."""
    root = tmp_path / "pics"
    for name in ("b.jpg", "a.PNG", "sub/c.bmp", "sub/deep/a.jpg", ".hidden.jpg", ".cache/x.jpg", "sub/._d.jpg"):
        write_image(root / name)
    for name in ("notes.txt", "sub/c.xml", "Thumbs.db"):
        (root / name).write_text("not an image")
    (root / "sub" / "clip.mp4").write_bytes(tiny_video.read_bytes())
    pages = [PIL.Image.new("L", (4, 4), shade) for shade in (0, 128, 255)]
    pages[0].save(root / "moving.gif", save_all=True, append_images=pages[1:], duration=[50, 200, 50])
    return root


def write_image(path: Path, height: int = 4, width: int = 6) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = cv2.imencode(path.suffix.lower() or ".png", np.zeros((height, width, 3), np.uint8))[1]
    path.write_bytes(data.tobytes())
    return path


def relative_paths(specs: Sequence[str | Path]) -> list[str]:
    return [source.relative_path.as_posix() for source in resolve_sources([str(spec) for spec in specs])]


def only(spec: str | Path, vid_stride: int = 1) -> Source:
    (source,) = resolve_sources([str(spec)], vid_stride=vid_stride)
    return source


def failure(source: Source) -> str:
    with pytest.raises(InputError) as error:
        list(source.frames())
    return str(error.value)


def test_image(folder: Path) -> None:
    path = folder / "b.jpg"
    source = only(path)
    assert source == Source(str(path), "image", Path("b.jpg"), source.read, path, 1)
    (frame,) = source.frames()
    assert (frame.source, frame.index, frame.time, frame.clock, frame.size) == (str(path), 0, 0.0, None, (4, 6))


def test_video(folder: Path) -> None:
    path = folder / "sub" / "clip.mp4"
    source = only(path)
    assert (source.kind, source.relative_path, source.path) == ("video", Path("clip.mp4"), path)
    assert (source.frame_count, source.fps) == (12, 10.0)
    assert len(list(source.frames())) == 12
    assert len(list(source.frames())) == 12  # opened anew each time


@pytest.mark.parametrize(("stride", "count"), [(1, 12), (5, 3), (12, 1), (100, 1)])
def test_stride_counts(folder: Path, stride: int, count: int) -> None:
    source = only(folder / "sub" / "clip.mp4", stride)
    assert source.frame_count == len(list(source.frames())) == count
    assert source.fps == 10.0


def test_animation_is_a_video(folder: Path) -> None:
    source = only(folder / "moving.gif")
    assert source.kind == "video"
    assert [(frame.index, frame.time) for frame in source.frames()] == [(0, 0.0), (1, 0.05), (2, 0.25)]
    strided = only(folder / "moving.gif", 2)
    assert [(frame.index, frame.time) for frame in strided.frames()] == [(0, 0.0), (2, 0.25)]


def test_folder_is_recursive_sorted_and_mixed(folder: Path) -> None:
    sources = list(resolve_sources([str(folder)]))
    expected = ["a.PNG", "b.jpg", "moving.gif", "sub/c.bmp", "sub/clip.mp4", "sub/deep/a.jpg"]
    assert [source.relative_path.as_posix() for source in sources] == expected
    assert [source.name for source in sources] == [str(folder / name) for name in expected]
    assert [source.kind for source in sources] == ["image", "image", "video", "image", "video", "image"]
    assert all(len(list(source.frames())) >= 1 for source in sources)


def test_folder_with_circular_links(folder: Path) -> None:
    plain = relative_paths([folder])
    (folder / "sub" / "loop").symlink_to(folder, target_is_directory=True)
    assert relative_paths([folder]) == plain


def test_folder_is_read_lazily(folder: Path) -> None:
    sources = resolve_sources([str(folder)])
    assert next(sources).relative_path == Path("a.PNG")
    write_image(folder / "sub" / "late.jpg")
    assert "sub/late.jpg" in [source.relative_path.as_posix() for source in sources]


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    write_image(tmp_path / ".cache" / "x.jpg")
    with pytest.raises(UserError, match="no images or videos"):
        resolve_sources([str(tmp_path)])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["b.jpg"]),
        ("**/*.jpg", ["b.jpg", "sub/deep/a.jpg"]),
        ("sub/*", ["c.bmp", "clip.mp4"]),
        ("*", ["a.PNG", "b.jpg", "moving.gif"]),
        ("*/deep/a.jpg", ["sub/deep/a.jpg"]),
        ("su?", ["c.bmp", "clip.mp4", "deep/a.jpg"]),
        ("[ab].*", ["a.PNG", "b.jpg"]),
    ],
)
def test_pattern(folder: Path, pattern: str, expected: list[str]) -> None:
    assert relative_paths([folder / pattern]) == expected


def test_pattern_relative_to_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert relative_paths(["**/a.*"]) == ["a.PNG", "sub/deep/a.jpg"]


def test_pattern_without_a_match(folder: Path) -> None:
    with pytest.raises(UserError, match="nothing"):
        resolve_sources([str(folder / "*.tiff")])


def test_brackets_in_a_real_name(tmp_path: Path) -> None:
    assert relative_paths([write_image(tmp_path / "dog [1].jpg")]) == ["dog [1].jpg"]


def test_equal_relative_paths_do_not_collide(folder: Path) -> None:
    """Nor those that differ in suffix or case only, as labels would overwrite each other."""
    write_image(folder / "B.bmp")
    write_image(folder / "b-2.jpg")
    specs = [folder / name for name in ("b.jpg", "b-2.jpg", "B.bmp", "b.jpg", "sub/deep/a.jpg", "a.PNG")]
    assert relative_paths(specs) == ["b.jpg", "b-2.jpg", "B-3.bmp", "b-4.jpg", "a.jpg", "a-2.PNG"]
    assert relative_paths([folder / "sub", folder / "sub"])[3:] == ["c-2.bmp", "clip-2.mp4", "deep/a-2.jpg"]


def test_list(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "here" / "own.jpg")
    (tmp_path / "lists").mkdir()
    names = tmp_path / "lists" / "train.txt"
    lines = [
        "\ufeff# images",
        "",
        f"{folder}/b.jpg",
        "own.jpg",
        "  ../pics/sub/*.bmp  ",
        "missing.jpg",
        "../pics/sub/deep",
    ]
    names.write_text("\r\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path / "here")
    sources = list(resolve_sources([str(names)]))
    assert [source.relative_path.as_posix() for source in sources] == [
        "b.jpg",
        "own.jpg",
        "c.bmp",
        "missing.jpg",
        "a.jpg",
    ]
    assert failure(sources[3]) == "missing.jpg: no such file or folder; check the path"


def test_list_on_standard_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"# list\n{folder}/b.jpg\n{folder}/sub/c.bmp\n"))
    assert relative_paths(["-"]) == ["b.jpg", "c.bmp"]


def test_bad_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "list.txt"
    path.write_text("# nothing\n\n")
    with pytest.raises(UserError, match="source"):
        resolve_sources([str(path)])
    path.write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(InputError, match="readable"):
        resolve_sources([str(path)])
    path.write_text("list.txt\n-\n")
    assert [failure(source).partition(": ")[2] for source in resolve_sources([str(path)])] == [
        "a list cannot name another list; name both on the command line"
    ] * 2
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xd8\xff\xe0"), encoding="utf-8"))
    (source,) = resolve_sources(["-"])
    assert "no such file" in failure(source)
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InputError, match="standard"):
        list(resolve_sources(["-"]))


def test_missing_file(folder: Path) -> None:
    with pytest.raises(InputError, match="folder"):
        resolve_sources([str(folder / "none.jpg")])
    missing, there, nothing, pattern = resolve_sources(
        [str(folder / name) for name in ("none.jpg", "b.jpg", ".cache/none", "*.tiff")]
    )
    assert "none.jpg: no such file" in failure(missing)
    assert "no such file" in failure(nothing)
    assert "nothing matches" in failure(pattern)
    assert len(list(there.frames())) == 1


@pytest.mark.parametrize("name", ["x" * 300 + ".jpg", "a\0.jpg"])
def test_impossible_names(name: str) -> None:
    with pytest.raises(InputError, match=r"cannot be opened|no such file"):
        resolve_sources([name])


@pytest.mark.parametrize("name", ["text.jpg", "text.mp4", "text.gif", "text.dat", "text"])
def test_content_that_is_neither_image_nor_video(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for content in ("this is text\n" * 50, ""):
        path.write_text(content)
        source = only(path)
        assert failure(source).startswith(f"{path}: ")
        assert (source.frame_count in (None, 1), source.fps) == (True, None)


def test_unknown_suffix_is_told_by_content(folder: Path, tmp_path: Path) -> None:
    for name, kind in (("b.jpg", "image"), ("sub/clip.mp4", "video"), ("moving.gif", "video")):
        copy = tmp_path / "download.bin"
        copy.write_bytes((folder / name).read_bytes())
        assert only(copy).kind == kind
        assert len(list(only(copy).frames())) == {"image": 1, "video": only(copy).frame_count or 3}[kind]


def test_truncated_image_is_not_taken_for_a_video(data_dir: Path, tmp_path: Path) -> None:
    for name in ("truncated_image.png", "truncated_jpeg.jpg", "broken_data_stream.png"):
        copy = tmp_path / "download.bin"
        copy.write_bytes((data_dir / "odd" / name).read_bytes())
        assert "damaged or cut off" in failure(only(copy))


def test_odd_files_give_a_source_each(data_dir: Path) -> None:
    sources = {source.relative_path.name: source for source in resolve_sources([str(data_dir / "odd" / "*")])}
    animated = {name for name, source in sources.items() if source.kind == "video"}
    assert animated == {"apng_mode_16bit.png", "iss634.gif", "iss634-2.webp"}  # the bomb is refused by its header
    assert len(list(sources["iss634-2.webp"].frames())) == 42


def test_camera_number() -> None:
    source = only("0")
    assert (source.name, source.kind, source.relative_path) == ("camera 0", "stream", Path("camera-0"))
    assert (source.path, source.frame_count, source.fps) == (None, None, None)


def test_file_address(folder: Path) -> None:
    assert only((folder / "b.jpg").as_uri()).path == folder / "b.jpg"
    assert len(list(resolve_sources([folder.as_uri()]))) == 6


def test_wrong_calls() -> None:
    with pytest.raises(UserError, match="source"):
        resolve_sources([])
    with pytest.raises(UserError, match="stride of 0"):
        resolve_sources(["a.jpg"], vid_stride=0)
