"""What names images for an engine."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import IncompleteRead
from pathlib import Path

import pytest

from yolofpn.addresses import shown
from yolofpn.engines import listing, path_tables, reading_on
from yolofpn.engines.listing import check_sources, list_images
from yolofpn.engines.ray_data import _gave_up
from yolofpn.errors import UserError

SECRET = "hunter2"


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")


def found(*specs: str, column: str | None = None) -> list[tuple[str, str]]:
    return [(each.kind, each.uri) for each in list_images(specs, column)]


@pytest.fixture(autouse=True)
def files(in_own_folder: Path) -> None:
    touch("in/b.jpg", "in/a/2.png", "in/a/10.JPG", "in/.hidden.jpg", "in/notes.doc", "in/c.mp4", "in/z/000.tar")


def test_folders_files_and_patterns_in_order() -> None:
    images = [("image", "in/a/10.JPG"), ("image", "in/a/2.png"), ("image", "in/b.jpg")]
    assert found("in") == [*images, ("failed", "in/c.mp4"), ("tar", "in/z/000.tar")]
    assert found("in/b.jpg", "in/a") == [images[2], *images[:2]]
    assert found("in/**/*.jpg") == [images[2]]
    assert found("in/a/{9..11}.JPG")[1] == images[0]
    assert [kind for kind, _ in found("in/a/{9..11}.JPG")] == ["failed", "image", "failed"]
    assert found("s/{008..010}.tar")[0][0] == "failed"


def test_lists_lead_from_where_they_lie() -> None:
    Path("in/list.txt").write_text("# head\n\na/2.png\nin/b.jpg\nhttp://host/x.jpg?a=1\nmissing.jpg\nother.txt\n")
    kinds = found("in/list.txt")
    assert kinds[:3] == [("image", "in/a/2.png"), ("image", "in/b.jpg"), ("image", "http://host/x.jpg?a=1")]
    assert [kind for kind, _ in kinds[3:]] == ["failed", "failed"]


@pytest.mark.parametrize("head", ["path,label", "image", "id,URL"])
def test_csv_with_a_usual_column(head: str) -> None:
    place = [name in ("path", "image", "URL") for name in head.split(",")].index(True)
    rows = [["x"] * len(head.split(",")) for _ in range(2)]
    rows[0][place], rows[1][place] = "in/b.jpg", "in/a/2.png"
    Path("t.csv").write_text("\n".join([head, *(",".join(row) for row in rows)]))
    assert found("t.csv") == [("image", "in/b.jpg"), ("image", "in/a/2.png")]


def test_csv_of_another_column() -> None:
    Path("t.csv").write_text('left,right\nin/b.jpg,"in/a/2.png"\n')
    assert found("t.csv", column="right") == [("image", "in/a/2.png")]
    for column in (None, "middle"):
        with pytest.raises(UserError, match="right"):
            found("t.csv", column=column)


def test_parquet() -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="Ray Data, which is not in dev, brings pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    paths = [f"in/{index}.jpg" for index in range(5000)]
    table = pyarrow.table({"n": range(5000), "path": paths, "label": ["x"] * 5000})
    parquet.write_table(table, "t.parquet")
    assert len(found("t.parquet")) == 5000
    with pytest.raises(UserError, match="column"):
        found("t.parquet", column="n")
    Path("broken.parquet").write_bytes(b"PAR1 no")
    assert [kind for kind, _ in found("broken.parquet")] == ["failed"]


def test_object_storage() -> None:
    fsspec = pytest.importorskip("fsspec", reason="it comes with PyTorch or Ray Data")
    memory = fsspec.filesystem("memory")
    for name in ("a/1.jpg", "a/b/2.png", "a/.h.jpg", "a/t.txt", "z.tar"):
        memory.pipe_file(f"/bucket/{name}", b"")
    images = [("image", "memory://bucket/a/1.jpg"), ("image", "memory://bucket/a/b/2.png")]
    assert found("memory://bucket/") == [*images, ("tar", "memory://bucket/z.tar")]
    assert found("memory://bucket/a/b/2.png") == images[1:]
    assert [kind for kind, _ in found("memory://bucket/*.tar")] == ["tar"]
    memory.pipe_file("/bucket/list.txt", b"a/1.jpg\n")
    assert found("memory://bucket/list.txt") == images[:1]
    assert [kind for kind, _ in found("memory://nothing/here/")] == ["failed"]


def test_mistyped_sources_are_told_at_once() -> None:
    Path("empty").mkdir()
    check_sources(["in", "in/b.jpg"])
    for spec in ("missing", "empty", "in/c.mp4", "x-*.jpg", f"unknown://me:{SECRET}@host/x/"):
        with pytest.raises(UserError) as caught:
            check_sources(["in", spec])
        assert SECRET not in str(caught.value)


def test_sources_with_something_good_in_them() -> None:
    Path("in/list.txt").write_text("other.txt\nx{5..3}.jpg\nin/b.jpg\n")
    touch("videos/a.mp4", "videos/b.jpg")
    check_sources(["videos", "in/list.txt", "in/a/{9..11}.JPG"])
    assert [kind for kind, _ in found("in/list.txt")] == ["failed", "failed", "image"]
    with pytest.raises(UserError, match="down"):
        check_sources(["x{5..3}.tar"])


def test_arrays_are_images_for_weights_of_bands() -> None:
    touch("bands/a.npy", "bands/b.NPY", "bands/c.doc")
    names = [each.uri for each in list_images(["bands"], bands=True)]
    assert names == ["bands/a.npy", "bands/b.NPY"] and found("bands") == []
    check_sources(["bands"], bands=True)


def test_names_with_signs_of_a_pattern() -> None:
    fsspec = pytest.importorskip("fsspec", reason="it comes with PyTorch or Ray Data")
    memory = fsspec.filesystem("memory")
    for name in ("photo[1].jpg", "what?.jpg", "photo1.jpg"):
        memory.pipe_file(f"/signs/{name}", b"")
    memory.pipe_file("/signs/list.txt", b"photo[1].jpg\nmemory://signs/what?.jpg\nmemory://signs/phot*.jpg\n")
    names = [uri.rpartition("/")[2] for kind, uri in found("memory://signs/list.txt") if kind == "image"]
    assert names == ["photo[1].jpg", "what?.jpg", "photo1.jpg", "photo[1].jpg"]


class Breaking(io.BytesIO):
    """Breaks after so many bytes, with an error that is no OSError and has a secret in its text."""

    def __init__(self, data: bytes, after: int) -> None:
        super().__init__(data)
        self._after = after

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= self._after:
            raise IncompleteRead(SECRET.encode())
        return super().read(min(4096, self._after - self.tell()) if size is None or size < 0 else size)

    read1 = read

    def readline(self, size: int | None = -1) -> bytes:
        if self.tell() >= self._after:
            raise IncompleteRead(SECRET.encode())
        return super().readline(size)

    def __next__(self) -> bytes:
        if line := self.readline():
            return line
        raise StopIteration


@pytest.mark.parametrize("suffix", ["txt", "csv"])
@pytest.mark.parametrize("mended", [True, False])
def test_a_list_is_read_on_where_its_connection_broke(
    monkeypatch: pytest.MonkeyPatch, suffix: str, mended: bool
) -> None:
    names = [f"s3://b/{index}.jpg" for index in range(900)]
    data = "\n".join([*(["image"] if suffix == "csv" else []), *names]).encode()
    opened: list[str] = []

    @contextmanager
    def opening(uri: str) -> Iterator[io.BytesIO]:
        opened.append(uri)
        yield io.BytesIO(data) if mended and len(opened) > 1 else Breaking(data, len(data) // 2)

    monkeypatch.setattr(listing, "open_stream", opening)
    monkeypatch.setattr(path_tables, "open_stream", opening)
    monkeypatch.setattr(reading_on, "PAUSES", (0.0,))
    listed = list(list_images([f"s3://b/list.{suffix}"]))
    if mended:
        assert [each.uri for each in listed] == names and len(opened) == 2
    else:
        assert [each.kind for each in listed[-2:]] == ["image", "failed"] and len(listed) < len(names)
        assert SECRET not in listed[-1].message and "IncompleteRead" in listed[-1].message


def test_an_engine_that_gave_up_says_no_secrets() -> None:
    error = RuntimeError(SECRET)
    error.cause = IncompleteRead(SECRET.encode())  # type: ignore[attr-defined]  # as Ray's errors have it
    assert SECRET not in _gave_up(error) and "IncompleteRead" in _gave_up(error)


def test_secrets_are_not_shown() -> None:
    for address in (
        f"s3://key:{SECRET}@bucket/x.jpg",
        f"https://host/x.jpg?X-Amz-Signature={SECRET}&X-Amz-Security-Token={SECRET}&X-Amz-Credential={SECRET}&v=1",
        f"az://container/x.jpg?sv=1&sig={SECRET}",
    ):
        assert SECRET not in shown(address) and "x.jpg" in shown(address)
