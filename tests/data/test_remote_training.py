"""Training of two processes on shards of a web server and of object storage that fail now and then."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from tests.engines.flaky_s3 import Flaky, flaky_s3
from tests.training.commands import Outcome, run_nodes
from tests.training.small import write_cfg, write_images
from yolofpn.data import convert_labels as conversion
from yolofpn.data.convert_labels import convert_labels
from yolofpn.data.writers.webdataset_writer import pack_shards

pytestmark = pytest.mark.slow

SECRET = "hunter2"


class Web:
    """Serves the files of a folder: each file's first answer is an error, and its first content ends in the middle.

    Attributes:
        answers: number of answers with content so far.
        lost: a file that is missing as soon as ``answers`` is larger than ``lost_after``.
    """

    def __init__(self, folder: Path) -> None:
        self.answers = 0
        self.lost, self.lost_after = "", 0
        asked, cut = set[str](), set[str]()
        lock, web = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = folder / self.path.lstrip("/")
                with lock:
                    first = self.path not in asked
                    asked.add(self.path)
                    missing = not path.is_file() or (path.name == web.lost and web.answers > web.lost_after)
                    if first or missing:
                        self.send_error(503 if first else 404)
                        return
                    content = path.read_bytes()
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    if self.command == "HEAD":
                        return
                    web.answers += 1
                    whole = self.path in cut
                    cut.add(self.path)
                self.wfile.write(content if whole else content[: len(content) // 2])
                self.close_connection = True

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set in shards of three images, and a small config beside it."""
    monkeypatch.setenv("YOLOFPN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(conversion, "pack_shards", partial(pack_shards, limit=20_000))
    write_images(tmp_path / "data", 12)
    convert_labels(tmp_path / "data", tmp_path / "shards", "webdataset")
    write_cfg(tmp_path)
    return tmp_path / "shards"


@pytest.fixture
def web(shards: Path) -> Iterator[Web]:
    pytest.importorskip("aiohttp", reason="shards of web servers need fsspec[http]: pip install 'yolofpn[shards]'")
    server = Web(shards)
    yield server
    server.close()


@dataclass(frozen=True)
class Bucket:
    """An S3 server with the shards in ``s3://bucket/shards``."""

    environment: dict[str, str]
    flaky: Flaky


@pytest.fixture
def bucket(shards: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    for module in ("s3fs", "moto.server"):
        pytest.importorskip(module, reason="needs s3fs and moto[server], which are not in dev")
    import s3fs

    with flaky_s3() as (address, flaky):
        environment = {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        store = s3fs.S3FileSystem(skip_instance_cache=True)
        store.mkdir("bucket")
        store.put(str(shards), "bucket/", recursive=True)
        yield Bucket(environment, flaky)


def train(arguments: list[str], environment: dict[str, str]) -> int:
    """On this rank: ``train.py`` in an environment, which the processes of these tests do not have by themselves."""
    from yolofpn.cli.train import main

    os.environ.update(environment)
    return main(arguments)


def train_on(shards: Path, address: str, output: str, **environment: str) -> Outcome:
    """Two processes with a loading process each."""
    remote = shards.parent / "remote"
    remote.mkdir(exist_ok=True)
    for split in ("train", "val"):
        names = sorted(path.name for path in (shards / split).glob("*.tar"))
        (remote / f"{split}.txt").write_text("".join(f"{address}/{split}/{name}\n" for name in names))
    splits = "splits: {train: {images: train.txt}, val: {images: val.txt}}"
    (remote / "data.yaml").write_text(f"format: webdataset\nnames: [bright, dark]\n{splits}\n")
    flags = ["--cfg", "small.yaml", "--data", "remote", "--output", output, "--device", "cpu", "--workers", "1"]
    words = [*flags, "--epochs", "2", "train.shuffle_shards=1"]
    environment |= {"YOLOFPN_CACHE": str(shards.parent / f"cache of {output}")}
    return run_nodes(train, [shards.parent] * 2, shards.parent, words, environment)


def require_same_weights(folder: Path) -> None:
    states = [torch.load(folder / name / "last.pt", weights_only=True)["model"] for name in ("local", "remotely")]
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def room_for_shards(shards: Path, count: float) -> str:
    largest = max(path.stat().st_size for path in (shards / "train").glob("*.tar"))
    return str(count * largest / 1e9)


def test_a_flaky_web_server_changes_nothing(shards: Path, web: Web) -> None:
    local = train_on(shards, str(shards), "local")
    assert local.code == 0, local.output
    room = room_for_shards(shards, 2.5)
    remotely = train_on(shards, web.address, "remotely", YOLOFPN_SHARD_CACHE_GB=room)
    assert remotely.code == 0, remotely.output
    require_same_weights(shards.parent)
    assert web.answers > 2 * len(list(shards.glob("*/*.tar"))), "nothing had to be downloaded again"


def test_a_shard_that_is_lost_during_a_training(shards: Path, web: Web) -> None:
    web.lost, web.lost_after = "train-000001.tar", 2 * len(list(shards.glob("*/*.tar")))
    outcome = train_on(shards, web.address, "remotely", YOLOFPN_SHARD_CACHE_GB=room_for_shards(shards, 2.1))
    assert outcome.code == 0, outcome.output
    texts = [(shards.parent / f"output{rank}.txt").read_text() for rank in range(2)]
    assert "train-000001.tar: no such file" in "".join(texts)


def test_flaky_object_storage_changes_nothing(shards: Path, bucket: Bucket) -> None:
    for address, output in ((str(shards), "local"), ("s3://bucket/shards", "remotely")):
        outcome = train_on(shards, address, output, **bucket.environment)
        assert outcome.code == 0 and SECRET not in outcome.output, outcome.output
    require_same_weights(shards.parent)
    assert bucket.flaky.refused
