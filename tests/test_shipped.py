"""What ships with the project is found in a checkout and in an installed package; other weights are refused."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny_detector import write_tiny
from yolofpn import shipped
from yolofpn.data.images import read_image
from yolofpn.errors import UserError
from yolofpn.inference.load_detector import load_for_inference
from yolofpn.inference.predictor import Predictor
from yolofpn.shipped import (
    default_graph,
    default_sources,
    default_weights,
    find_config,
    initial_weights,
    sample_images,
    shipped_configs,
    verify_weights,
)
from yolofpn.weights import load_weights

REPOSITORY = Path(__file__).parents[1]


def ship(folder: Path, content: bytes, *, name: str = "a.safetensors", sums: str | None = None) -> Path:
    """``folder`` with weights and their checksum, as ``sha256sum`` writes it unless ``sums`` is given."""
    folder.mkdir(parents=True)
    (folder / name).write_bytes(content)
    (folder / "SHA256SUMS").write_text(sums or f"{hashlib.sha256(content).hexdigest()}  {name}\n")
    return folder / name


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Where a checkout and an installed package have their weights; both are empty."""
    found = (tmp_path / "clone" / "weights", tmp_path / "site-packages" / "yolofpn" / "default_weights")
    monkeypatch.setattr(shipped, "_WEIGHTS_FOLDERS", found)
    return found


def refusal() -> str:
    with pytest.raises(UserError) as error:
        default_weights()
    assert len(str(error.value).splitlines()) == 2
    assert "--weights" in str(error.value).splitlines()[1]
    return str(error.value)


@pytest.mark.parametrize("place", [0, 1], ids=["checkout", "installed"])
def test_weights_are_found(places: tuple[Path, Path], place: int) -> None:
    path = ship(places[place], b"numbers")
    assert default_weights() == path


def test_a_checkout_goes_before_an_installed_package(places: tuple[Path, Path]) -> None:
    ship(places[1], b"old")
    path = ship(places[0], b"new")
    assert default_weights() == path


def test_the_checksum_may_be_of_a_binary_listing(places: tuple[Path, Path]) -> None:
    sums = f"{hashlib.sha256(b'x').hexdigest()} *a.safetensors\n"
    path = ship(places[0], b"x", sums=sums)
    assert default_weights() == path


def test_weights_that_are_not_there(places: tuple[Path, Path]) -> None:
    assert refusal().startswith("the default weights are missing: fetch or install yolofpn again, whole\n")
    path = ship(places[0], b"numbers")
    path.unlink()
    assert refusal().startswith(f"{path}: is missing: fetch")


def test_weights_that_are_not_what_was_shipped(places: tuple[Path, Path]) -> None:
    path = ship(places[0], bytes(2000))
    path.write_bytes(bytes(1999))
    assert refusal().startswith(f"{path}: is not the file that ships with yolofpn (1,999 bytes, another sha256)")
    path.write_bytes(bytes(1999) + b"\x01")
    assert refusal().startswith(f"{path}: is not the file that ships with yolofpn (2,000 bytes, another sha256)")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2000\n")
    assert refusal().startswith(f"{path}: is only Git LFS's note of where the weights are: git lfs pull")


@pytest.mark.parametrize("sums", ["nothing", "0" * 63 + "  a.safetensors\n", "0" * 64 + "  ../a.safetensors\n"])
def test_a_damaged_checksum(places: tuple[Path, Path], sums: str) -> None:
    path = ship(places[0], b"numbers", sums=sums)
    assert refusal().startswith(f"{path.with_name('SHA256SUMS')}: is not a list of sha256sum")


def test_weights_that_may_not_be_read(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = ship(places[0], b"numbers")

    open_path = Path.open

    def deny(self: Path, *mode: Any, **options: Any) -> Any:
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return open_path(self, *mode, **options)

    monkeypatch.setattr(Path, "open", deny)
    assert refusal().startswith(f"{path}: cannot be read (Permission denied)")


def test_what_is_loaded_was_checked(places: tuple[Path, Path], tmp_path: Path) -> None:
    tiny = write_tiny(tmp_path / "tiny")
    path = ship(places[0], tiny.read_bytes(), name=tiny.name)
    for companion in (".cfg", ".names"):
        shutil.copy(tiny.with_suffix(companion), path.with_suffix(companion))
    loaded = load_weights("auto")
    assert loaded.notes[0] == f"weights: {path} (the default weights; sha256 verified)"
    assert loaded.metadata.names == ("red", "potted plant")
    path.write_bytes(path.read_bytes() + bytes(4))
    with pytest.raises(UserError, match=r"another sha256"):
        load_weights("auto")


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("cfg/faster_rcnn-r50-fpn.yaml", "cfg/two-stage/faster_rcnn-r50-fpn.yaml"),
        ("/clone/cfg/faster_rcnn.yaml", "cfg/two-stage/faster_rcnn.yaml"),
        ("cfg/yolofpn-lite.yaml", "cfg/yolofpn-lite.yaml"),
        ("yolofpn-lite.yaml", "cfg/yolofpn-lite.yaml"),
        ("yolofpn-lite", "cfg/yolofpn-lite.yaml"),
        ("cfg/data/coco.yaml", "cfg/data/coco.yaml"),
    ],
)
def test_configs_are_found_by_file_name_from_anywhere(
    typed: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(typed) == REPOSITORY / found
    assert capsys.readouterr().err == f"{typed}: using {REPOSITORY / found}\n"


@pytest.mark.parametrize("typed", ["cfg/nothing.yaml", "mine/yolofpn.yaml", "yolofpn.cfg", "cfg", "", "\0", "x" * 5000])
def test_other_paths_are_returned_as_they_are(
    typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(typed) == Path(typed)
    assert capsys.readouterr().err == ""


def test_a_file_of_the_user_goes_before_a_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("yolofpn.yaml").write_text("mine")
    assert find_config("yolofpn.yaml") == Path("yolofpn.yaml")


def test_a_folder_called_cfg_beside_an_installed_package_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others, ours = tmp_path / "cfg", tmp_path / "yolofpn" / "default_cfg"
    for folder, name in ((others, "x.yaml"), (ours, "yolofpn.yaml")):
        folder.mkdir(parents=True)
        (folder / name).touch()
    monkeypatch.setattr(shipped, "_CONFIG_FOLDERS", (others, ours))
    assert shipped_configs() == [ours / "yolofpn.yaml"]
    assert find_config("cfg/x.yaml") == Path("cfg/x.yaml")


def test_file_names_of_configs_are_unique() -> None:
    names = [path.name for path in shipped_configs()]
    assert len(names) == len(set(names)) > 30


def test_the_sample_images_can_be_read_and_have_their_terms_beside_them() -> None:
    folder = Path(default_sources()[0]).resolve()
    images = sample_images()
    assert len(images) >= 3
    terms = (folder / "README.md").read_text(encoding="utf-8")
    for path in images:
        assert read_image(path).shape[2] == 3
        assert f"| `{path.name}` |" in terms
    assert sum(path.stat().st_size for path in images) < 400_000
    assert sorted(folder.iterdir()) == sorted([*images, folder / "README.md"])


def test_the_folder_is_named_as_seen_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY / "yolofpn")
    assert default_sources() == ("sample_images",)
    monkeypatch.chdir(tmp_path)
    assert default_sources() == (str(REPOSITORY / "yolofpn" / "sample_images"),)


def test_no_sample_images_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "_SAMPLE_IMAGES", tmp_path)
    assert sample_images() == []
    with pytest.raises(UserError, match="folder"):
        default_sources()


@pytest.mark.slow
def test_an_installed_package_holds_them_too(tmp_path: Path) -> None:
    """Built as pip builds it, from a tree that has the default weights in it."""
    tree, built = tmp_path / "tree", tmp_path / "built"
    package = tree / "yolofpn"
    shutil.copytree(REPOSITORY / "yolofpn" / "sample_images", package / "sample_images")
    for name in ("__init__.py", "shipped.py", "errors.py"):
        shutil.copy(REPOSITORY / "yolofpn" / name, package / name)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, tree / name)
    ship(tree / "weights", b"numbers")
    shutil.copytree(REPOSITORY / "cfg", tree / "cfg")
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(built)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True, timeout=300)
    installed = built / "yolofpn"
    assert {path.name for path in (installed / "sample_images").glob("*.jpg")} == {
        path.name for path in sample_images()
    }
    assert {path.name for path in (installed / "default_weights").iterdir()} == {"SHA256SUMS", "a.safetensors"}
    configs = {str(path.relative_to(installed / "default_cfg")) for path in (installed / "default_cfg").rglob("*.yaml")}
    assert configs == {str(path.relative_to(REPOSITORY / "cfg")) for path in shipped_configs()}
    assert (installed / "shipped.py").is_file()


def test_only_the_chosen_initial_weights_are_hashed(places: tuple[Path, Path]) -> None:
    folder = ship(places[0], b"x").parent
    sums = {
        name: hashlib.sha256(name.encode()).hexdigest() for name in ("a.safetensors", "b.safetensors", "c.safetensors")
    }
    (folder / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))
    (folder / "b.safetensors").write_bytes(b"b.safetensors")
    (folder / "c.safetensors").write_bytes(b"damaged")
    assert initial_weights() == [folder / "b.safetensors", folder / "c.safetensors"]
    verify_weights(folder / "b.safetensors")
    with pytest.raises(UserError, match="sha256"):
        verify_weights(folder / "c.safetensors")


@pytest.mark.slow
def test_the_graph_of_the_default_weights_is_theirs() -> None:
    """Made by tools/export_default_graph.sh from the weights that ship now."""
    graph = default_graph()
    if graph is None:
        pytest.skip("no graph of the default weights ships: tools/export_default_graph.sh makes it")
    assert graph.stem == default_weights().stem and graph.stat().st_size < 10_000_000
    exported, own = load_for_inference(graph), load_weights("auto")
    assert exported.metadata == own.metadata
    images = [str(path) for path in sample_images()]
    found = Predictor(exported.detector, exported.metadata, score_thresh=0.1)(images)
    expected = Predictor(own.detector, own.metadata, score_thresh=0.1, backend="torch")(images)
    assert sum(map(len, found)) > 3
    for one, other in zip(found, expected, strict=True):
        assert one.labels.tolist() == other.labels.tolist()
        np.testing.assert_allclose(one.boxes, other.boxes, rtol=0, atol=0.05)
        np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=1e-3)
