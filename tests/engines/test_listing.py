"""What names images for an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolofpn.engines.listing import check_sources, list_images
from yolofpn.engines.storage import shown
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


def test_secrets_are_not_shown() -> None:
    for address in (
        f"s3://key:{SECRET}@bucket/x.jpg",
        f"https://host/x.jpg?X-Amz-Signature={SECRET}&X-Amz-Security-Token={SECRET}&X-Amz-Credential={SECRET}&v=1",
        f"az://container/x.jpg?sv=1&sig={SECRET}",
    ):
        assert SECRET not in shown(address) and "x.jpg" in shown(address)
