"""Data sets in tar files: what is read from them, in which order, and from where."""

from __future__ import annotations

import errno
import io
import json
import shutil
import tarfile
from functools import partial
from pathlib import Path
from typing import IO

import cv2
import numpy as np
import pytest
import torch

from tests.training.commands import Fault, train
from tests.training.small import write_cfg, write_images
from yolofpn.config import load_config
from yolofpn.data import convert_labels as conversion
from yolofpn.data import shard_cache
from yolofpn.data.convert_labels import convert_labels
from yolofpn.data.dataset import DetectionDataset, concatenate
from yolofpn.data.layouts import open_data
from yolofpn.data.sampler import SampleKey, TrainBatchSampler
from yolofpn.data.shard_cache import local_shard
from yolofpn.data.training_samples import TrainingSamples
from yolofpn.data.transforms import Augmentation
from yolofpn.data.writers.webdataset_writer import pack_shards
from yolofpn.errors import InputError, UserError
from yolofpn.training.checkpoint import Progress
from yolofpn.training.run_folder import closing_lines

IMAGES = 12
LIMIT = 20_000  # bytes: three images of 8 kB to a shard


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set and the same in shards of three images."""
    monkeypatch.setenv("YOLOFPN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shard_cache, "_failed", {})  # of other tests, whose stores have the same names
    monkeypatch.setattr(conversion, "pack_shards", partial(pack_shards, limit=LIMIT))
    write_images(tmp_path / "data", IMAGES)
    result = convert_labels(tmp_path / "data", tmp_path / "shards", "webdataset")
    assert not result.failures and "train: 4 shards" in result.lines
    return tmp_path / "shards"


def load(data: Path, split: str = "train") -> DetectionDataset:
    return open_data(data).load(split)


def by_name(dataset: DetectionDataset) -> dict[str, tuple[bytes, list[list[float]], list[int]]]:
    found = {}
    for index, path in enumerate(dataset.paths):
        target = dataset.target(index)
        rows = dataset.image(index).tobytes(), target.boxes.tolist(), target.labels.tolist()
        found[Path(path).name] = rows
    return found


@pytest.mark.slow
def test_shards_hold_what_the_files_hold(shards: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        assert by_name(load(shards, split)) == by_name(load(shards.parent / "data", split))
    assert sorted(path.name for path in (shards / "train").iterdir()) == [f"train-{n:06d}.tar" for n in range(4)]
    again = convert_labels(shards, tmp_path / "back", "yolo")
    assert not again.failures
    back = {name.partition("__")[2]: rows for name, rows in by_name(load(tmp_path / "back")).items()}
    assert back == by_name(load(shards))
    subset = load(shards).subset([7, 2])
    assert subset.image(1).tobytes() == load(shards).image(2).tobytes()


def test_an_image_to_detect_on_is_a_file(shards: Path) -> None:
    packed, files = load(shards), load(shards.parent / "data")
    assert packed.first_file() is None
    assert concatenate([packed, files]).first_file() == files.first_file() == files.paths[0]
    config = load_config(write_cfg(shards.parent), [f"data.source={shards}"])
    progress = Progress(epoch=3, best_ap=0.5, best_epoch=2)
    for dataset, count in ((packed, 0), (files, 1)):
        lines = closing_lines(Path("run"), config, progress, dataset.first_file())
        assert len([line for line in lines if " detect " in line]) == count
        assert [line for line in lines if " evaluate " in line and str(shards) in line]


def test_webdataset_reads_them(shards: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    found = {}
    for path in sorted((shards / "train").iterdir()):
        for sample in webdataset.WebDataset(str(path), shardshuffle=False):
            image = cv2.imdecode(np.frombuffer(sample["png"], dtype=np.uint8), cv2.IMREAD_COLOR)
            objects = json.loads(sample["json"])["objects"]
            assert image is not None
            boxes = [[float(np.float32(side)) for side in entry["box"]] for entry in objects]
            found[f"{sample['__key__']}.png"] = image.tobytes(), boxes, [entry["name"] == "dark" for entry in objects]
    assert found == by_name(load(shards))


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def png(side: int = 40) -> bytes:
    return cv2.imencode(".png", np.full((side, 2 * side, 3), 90, dtype=np.uint8))[1].tobytes()


def test_labels_of_other_programs_and_damaged_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOFPN_CACHE", str(tmp_path / "cache"))
    coco = {"annotations": [{"bbox": [10, 5, 20, 30], "category_id": 1}, {"bbox": [1, 2], "category_id": 0}]}
    files = {
        "a/1.png": png(),
        "a/1.txt": b"0 0.5 0.5 0.25 0.5\nx 1 1 1 1\n",
        "a/2.png": png(),
        "a/2.json": json.dumps(coco).encode(),
        "a/3.png": png(),
        "4.jpg": b"not an image",
        "5.json": b"{}",
    }
    folder = tmp_path / "set"
    write_tar(folder / "train-0.tar", files)
    whole = write_tar(folder / "train-1.tar", {f"{n}.png": png() for n in range(3)}).read_bytes()
    (folder / "train-1.tar").write_bytes(whole[: len(whole) // 3])
    write_tar(folder / "train-2.tar", {"z.png": png()}, "w:gz")
    with pytest.raises(UserError, match="names"):
        load(folder)
    (folder / "data.yaml").write_text("format: webdataset\nnames: [cat, dog]\nsplits: {train: {images: .}}\n")
    dataset = open_data(folder).load("all")
    names = [Path(path).name for path in dataset.paths]
    assert names[:3] == ["1.png", "2.png", "3.png"] and len(names) >= 3
    assert dataset.sizes[0].tolist() == [40, 80]
    assert dataset.target(0).boxes.tolist() == [[30, 10, 50, 30]] and dataset.labels[0] == 0
    assert dataset.target(1).boxes.tolist() == [[10, 5, 30, 35]] and dataset.labels[1] == 1
    assert dataset.labelled.tolist()[:3] == [True, True, False]
    reported = " ".join(Path(problem.file).name for problem in dataset.problems)
    for name in ("1.png", "2.png", "4.jpg", "train-2.tar"):
        assert name in reported


def claim(path: Path, name: str, size: int, kind: bytes = tarfile.REGTYPE, *, really: bool = False) -> None:
    """Append a header of a file of so many bytes to a tar, and a sparse file of them if it should be ``really`` so."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = size, kind
    content = path.read_bytes().rstrip(b"\0")
    content += bytes(-len(content) % 512)
    path.write_bytes(content + entry.tobuf(tarfile.GNU_FORMAT))
    if really:
        with path.open("r+b") as file:
            file.truncate(len(content) + 512 + size + 1024)


@pytest.mark.parametrize(
    ("size", "kind", "labelled", "really"),
    [
        (9 * 2**30, tarfile.REGTYPE, False, True),
        (4 * 2**40, tarfile.REGTYPE, True, False),
        (2**50, tarfile.REGTYPE, False, False),
        (9 * 2**30, tarfile.XHDTYPE, False, True),
        (9 * 2**30, tarfile.GNUTYPE_LONGNAME, False, True),
    ],
)
def test_the_sizes_of_headers_are_not_believed(
    size: int, kind: bytes, labelled: bool, really: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YOLOFPN_CACHE", str(tmp_path / "cache"))
    files = {"1.png": png(), "1.json": b'{"objects": [{"name": "cat", "box": [1, 2, 3, 4]}]}'}
    if labelled:
        files["2.json"] = b'{"width": 80, "height": 40, "objects": []}'
    path = write_tar(tmp_path / "set" / "train-0.tar", files)
    claim(path, "2.png", size, kind, really=really)
    dataset = load(tmp_path / "set", "all")
    assert [Path(name).name for name in dataset.paths] == ["1.png"]
    assert dataset.image(0).shape == (40, 80, 3)
    assert {problem.file.rpartition("set/")[2].partition("/")[0] for problem in dataset.problems} == {"train-0.tar"}


def test_a_shard_that_was_replaced_by_a_shorter_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOFPN_CACHE", str(tmp_path / "cache"))
    files = {"1.png": png(), "1.json": b'{"objects": [{"name": "cat", "box": [1, 2, 3, 4]}]}'}
    path = write_tar(tmp_path / "set" / "train-0.tar", files)
    dataset = load(tmp_path / "set", "all")
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(InputError):
        dataset.image(0)


def test_an_epoch_goes_from_shard_to_shard_and_resumes_anywhere() -> None:
    shards = np.repeat(np.arange(8, dtype=np.int32), [5, 9, 7, 6, 8, 7, 5, 6])  # unequal: 53 images

    def sampler(rank: int = 0, world_size: int = 1, at_once: int = 2) -> TrainBatchSampler:
        return TrainBatchSampler(
            53, 4, [(32, 32)], rank=rank, world_size=world_size, shards=shards, shuffle_shards=at_once
        )

    batches = list(sampler())
    seen = [key.index for batch in batches for key in batch]
    assert set(seen) == set(range(53)) and len(seen) == 56
    turns = list(dict.fromkeys(shards[seen[:53]].tolist()))
    for first in range(0, 8, 2):  # two shards are done before the next two begin
        own = np.isin(shards, turns[first : first + 2])
        assert own[seen[: own.sum()]].all()
        seen = seen[int(own.sum()) :]
    resumed = sampler()
    resumed.start_epoch(0, 5)
    assert list(resumed) == batches[5:]
    resumed.start_epoch(1)
    assert list(resumed) != batches
    ranks = [[key.index for batch in sampler(rank, 2, 1) for key in batch] for rank in range(2)]
    assert len(ranks[0]) == len(ranks[1]) == 28 and set(ranks[0]) | set(ranks[1]) == set(range(53))
    shared = set(shards[ranks[0]]) & set(shards[ranks[1]])
    assert len(shared) <= 2  # the one that both have a part of, and the first one, which fills the end up


def test_mosaics_are_of_one_shard(shards: Path) -> None:
    dataset = load(shards)
    assert dataset.shards is not None
    samples = TrainingSamples(dataset, Augmentation(mosaic=1.0, mixup=1.0), seed=3)
    for index in range(0, len(dataset), 2):
        own = dataset.shards.shard[list(samples[SampleKey(index, 0, (64, 64))].indices)]
        assert len(own) == 5 and len(set(own.tolist())) == 1


@pytest.mark.slow
def test_a_killed_training_on_shards_resumes_bit_for_bit(shards: Path) -> None:
    folder = shards.parent
    write_cfg(folder)
    settings = ["train.checkpoint_minutes=1e-9", "train.shuffle_shards=2", "--epochs", "2", "--device", "cpu"]
    flags = ["--cfg", "small.yaml", "--data", "shards", *settings]
    whole = train([*flags, "--output", "whole"], folder)
    assert whole.code == 0, whole.output
    killed = train([*flags, "--output", "killed"], folder, Fault(("yolofpn.training.engine", "Trainer._step"), 5))
    assert killed.code == -9, killed.output
    resumed = train(["--resume", "killed"], folder)
    assert resumed.code == 0 and "resuming in epoch 2 at step 4" in resumed.output, resumed.output
    states = [torch.load(folder / name / "last.pt", weights_only=True)["model"] for name in ("whole", "killed")]
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


class Store:
    """An fsspec file system in memory."""

    def __init__(self, folder: Path) -> None:
        fsspec = pytest.importorskip("fsspec")
        self.system = fsspec.filesystem("memory")
        self.urls = []
        for path in sorted(folder.glob("*.tar")):
            self.system.pipe(f"/set/{path.name}", path.read_bytes())
            self.urls.append(f"memory://set/{path.name}")


def test_shards_of_a_store_are_kept_up_to_a_limit(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(shards / "train")
    folder = shards.parent / "remote"
    folder.mkdir()
    (folder / "train.txt").write_text("".join(f"{url}\n" for url in [*store.urls, "memory://set/missing.tar"]))
    (folder / "data.yaml").write_text("format: webdataset\nsplits: {train: {images: train.txt}}\n")
    size = sum(path.stat().st_size for path in (shards / "train").glob("*.tar"))
    monkeypatch.setenv("YOLOFPN_SHARD_CACHE_GB", str(0.6 * size / 1e9))
    kept = shards.parent / "cache" / "shards"
    dataset = open_data(folder).load("all")
    assert by_name(dataset) == by_name(load(shards))
    assert [Path(problem.file).name for problem in dataset.problems] == ["missing.tar"]
    assert 0 < sum(path.stat().st_size for path in kept.glob("*.tar")) <= 0.6 * size
    store.system.rm("/set", recursive=True)
    readable = [_readable(dataset, index) for index in range(len(dataset))]
    assert any(readable) and not all(readable)


def _readable(dataset: DetectionDataset, index: int) -> bool:
    try:
        dataset.image(index)
    except InputError:
        return False
    return True


def test_a_download_is_tried_again_and_says_nothing_secret(
    shards: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("yolofpn.remote_files.PAUSES", (0.0, 0.0))
    content = next((shards / "train").glob("*.tar"))
    attempts: list[str] = []
    failures = 2

    class Failing:
        """A file system of which the first attempts fail."""

        def open(self, place: str, mode: str) -> IO[bytes]:
            attempts.append(place)
            if len(attempts) <= failures:
                raise ConnectionResetError(f"{place}: broken")
            return content.open(mode)

    monkeypatch.setattr(shard_cache, "file_system", lambda url, extra: (Failing(), url))
    assert local_shard("http://store/a.tar?signature=secret").read_bytes() == content.read_bytes()
    attempts.clear()
    failures = 9
    for _ in range(2):  # the next image of the shard does not wait for further attempts
        with pytest.raises(InputError) as failed:
            local_shard("http://store/b.tar?signature=secret")
        assert "secret" not in str(failed.value) and len(attempts) == 3
    failures = 0
    monkeypatch.setattr(shard_cache, "FAILED_FOR", 0.0)
    assert local_shard("http://store/b.tar?signature=secret").read_bytes() == content.read_bytes()


def test_a_changed_shard_that_fails_is_not_tried_for_each_image(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolofpn.remote_files.PAUSES", (0.0,))
    content = next((shards / "train").glob("*.tar"))
    size, attempts = 1, 0

    class Changing:
        def info(self, place: str) -> dict[str, int]:
            return {"size": size}

        def open(self, place: str, mode: str) -> IO[bytes]:
            nonlocal attempts
            attempts += 1
            if size > 1:
                raise ConnectionResetError
            return content.open(mode)

    monkeypatch.setattr(shard_cache, "file_system", lambda url, extra: (Changing(), url))
    assert local_shard("http://store/c.tar").read_bytes() == content.read_bytes() and attempts == 1
    size = 2
    monkeypatch.setattr(shard_cache, "_compared", set())  # as in the next run
    for _ in range(3):
        with pytest.raises(InputError):
            local_shard("http://store/c.tar")
    assert attempts == 3  # two more, not six


@pytest.mark.parametrize("url", ["https://me:hunter2@store/a.tar", "https://me:hun/ter2@store/a.tar"])
def test_passwords_of_stores_are_refused_and_not_shown(url: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{url}\n")
    (tmp_path / "data.yaml").write_text("format: webdataset\nnames: [a]\nsplits: {train: {images: list.txt}}\n")
    with pytest.raises(UserError) as refused:
        load(tmp_path)
    assert "ter2" not in str(refused.value)


def test_what_killed_downloads_left_is_removed(shards: Path) -> None:
    store = Store(shards / "train")
    path = local_shard(store.urls[0])
    path.unlink()
    left = path.with_name(f".{path.name}.123.part")
    left.write_bytes(b"half")
    assert local_shard(store.urls[0]) == path and path.is_file() and not left.exists()


def test_a_shard_that_changed_at_its_url(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(shards / "train")
    url = store.urls[0]
    (shards / "train.txt").write_text(f"{url}\n")
    (shards / "data.yaml").write_text(
        "format: webdataset\nnames: [bright, dark]\nsplits: {train: {images: train.txt}}\n"
    )
    downloads: list[str] = []
    download = shard_cache._download

    def counted(place: str, path: Path) -> None:
        downloads.append(place)
        download(place, path)

    monkeypatch.setattr(shard_cache, "_download", counted)

    def names() -> list[str]:
        """Of a run of its own."""
        monkeypatch.setattr(shard_cache, "_compared", set())
        dataset = load(shards, "all")
        return [Path(path).name for path in dataset.paths if dataset.image(0) is not None]

    before = names()
    assert names() == before and downloads == [url]
    same_size = write_tar(shards.parent / "new.tar", {"new.png": png(), "new.txt": b"0 .5 .5 .5 .5"}).read_bytes()
    size = len(local_shard(url).read_bytes())
    store.system.pipe("/set/train-000000.tar", same_size.ljust(size, b"\0"))
    assert names() == ["new.png"] and downloads == [url] * 2
    store.system.rm("/set", recursive=True)
    assert names() == ["new.png"] and downloads == [url] * 2


def test_what_the_cache_cannot_hold_is_said_at_the_start(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(shards / "train")
    folder = shards.parent / "remote"
    folder.mkdir()
    (folder / "train.txt").write_text("".join(f"{url}\n" for url in store.urls))
    (folder / "data.yaml").write_text("format: webdataset\nsplits: {train: {images: train.txt}}\n")
    largest = sorted((path.stat().st_size for path in (shards / "train").glob("*.tar")), reverse=True)
    monkeypatch.setenv("YOLOFPN_SHARD_CACHE_GB", str(sum(largest[:2]) / 1e9))
    remote, local = open_data(folder).load("all").shards, load(shards).shards
    assert remote is not None and local is not None
    remote.check_cache(2, 1)
    for at_once, processes in ((3, 1), (2, 2)):
        with pytest.raises(UserError, match="shuffle_shards"):
            remote.check_cache(at_once, processes)
        local.check_cache(at_once, processes)
    for wrong in ("much", "-1", "nan"):
        monkeypatch.setenv("YOLOFPN_SHARD_CACHE_GB", wrong)
        with pytest.raises(UserError, match=f"YOLOFPN_SHARD_CACHE_GB={wrong}"):
            open_data(folder).load("all")


def test_a_full_disk_is_said_at_once(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(shards / "train")
    attempts = []

    def full(*_: object) -> None:
        attempts.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("yolofpn.data.shard_cache.shutil.copyfileobj", full)
    with pytest.raises(UserError, match="space") as refused:
        local_shard(store.urls[0])
    assert not isinstance(refused.value, InputError) and len(attempts) == 1
    assert not list((shards.parent / "cache" / "shards").glob("*part"))


def test_shards_need_their_images(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--images"):
        convert_labels(tmp_path / "data", tmp_path / "none", "webdataset", images="none")
    dataset = load(shards)
    shutil.rmtree(shards / "train")
    with pytest.raises(InputError):
        dataset.image(0)
