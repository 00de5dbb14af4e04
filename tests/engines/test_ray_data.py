"""``detect.py --engine ray`` on a cluster of two nodes on this machine, which lose processes and storage.

Ray is not in ``dev``: see CONTRIBUTING.md.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import pytest

from tests.commands import Outcome, call
from tests.engines.flaky_s3 import Flaky, flaky_s3
from tests.inference.live_fakes import until
from tests.tiny_detector import GREEN, RED, quarters
from yolofpn.cli import detect as command
from yolofpn.engines.engine_report import EngineReport

pytestmark = pytest.mark.slow
WITHOUT = "detection by Ray Data needs ray[data], s3fs, moto[server] and duckdb, which are not in dev"
for module in ("ray.data", "s3fs", "moto", "duckdb"):
    pytest.importorskip(module, reason=WITHOUT)

SECRET = "hunter2"
# Every process of the cluster dies of opening a certain file, as of an image that a decoder does not survive.
DEADLY = """
import os, signal, sys
def die(event, arguments):
    if event == "open" and str(arguments[0]).endswith("deadly.png"):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(die)
"""
FLAGS = ("--backend", "torch", "--engine", "ray")


@pytest.fixture(scope="module")
def storage() -> Iterator[Flaky]:
    """S3 with the credentials in the environment, before any worker starts."""
    with pytest.MonkeyPatch.context() as patch, flaky_s3() as (address, flaky):
        patch.setenv("AWS_ENDPOINT_URL", address)
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield flaky


@pytest.fixture(scope="module")
def cluster(storage: Flaky, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head and one more node, each with a processor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        folder = tmp_path_factory.mktemp("start")
        (folder / "sitecustomize.py").write_text(DEADLY)
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "object_store_memory": 200 << 20}
        found = Cluster()

        def start_head() -> str:
            port = free_port()
            found.add_node(**node, include_dashboard=False, ray_client_server_port=port)
            return f"ray://127.0.0.1:{port}"

        found.client_address = started(start_head)
        started(lambda: found.add_node(**node))
        yield found
        found.shutdown()


def started(start: Callable[[], Any]) -> Any:
    """What ``start`` returns, which starts a node; Ray gives up when a busy machine needs more than 30 s for it."""
    for _ in range(5):
        try:
            return start()
        except Exception as error:
            if "timed out" not in str(error):
                raise
    return start()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def detect(cluster: Any, capsys: pytest.CaptureFixture[str], *words: object, client: bool = False) -> Outcome:
    """Run it as a driver in the cluster, or as a client outside."""
    address = cluster.client_address if client else cluster.address
    return call(command.main, capsys, *words, *FLAGS, "--address", address)


def content(index: int) -> bytes:
    image = quarters(RED, *[GREEN] * (index % 4), height=64 + 32 * (index % 3), width=96)
    return cv2.imencode(".png", image)[1].tobytes()


class Web:
    """Serves images ``/0.png``, ``/1.png``, ...; ``at`` has what happens when so many have been asked for."""

    def __init__(self, at: dict[int, Callable[[], None]]) -> None:
        lock = threading.Lock()
        web = self
        self.count = 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with lock:
                    web.count += 1
                    if (event := at.get(web.count)) is not None:
                        event()
                data = content(int(self.path.strip("/").partition(".")[0]))
                self.send_response(200)
                self.send_header("Content-Type", "image/png")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def write_list(self, count: int) -> list[str]:
        """The addresses, which are in ``list.txt`` with a secret."""
        host = f"127.0.0.1:{self.server.server_port}"
        names = [f"http://{host}/{index}.png?token=" for index in range(count)]
        Path("list.txt").write_text("\n".join(name + SECRET for name in names))
        return [f"{name}***" for name in names]


def workers_of(node: Any) -> list[int]:
    """Processes of a node that detect."""
    raylet = node.all_processes["raylet"][0].process.pid
    children = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
    return [int(pid) for pid in children if b"MapWorker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def objects_found(folder: Path) -> Counter[tuple[str, int]]:
    """Each line of a run as the source and its number of detections."""
    lines = [line for path in sorted(folder.glob("part-*.jsonl")) for line in path.read_text().splitlines()]
    return Counter((row["source"], len(row["detections"])) for row in map(json.loads, lines))


def test_images_of_flaky_storage_as_by_a_plain_run(
    cluster: Any, storage: Flaky, weights: Path, in_own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import duckdb
    import pandas
    import s3fs

    Path("in").mkdir()
    for index in range(40):
        Path(f"in/{index}.png").write_bytes(content(index) if index != 11 else b"no image")
    plain = ("--weights", weights, "--backend", "torch", "--media", "none", "--format", "coco", "--output", "plain")
    assert call(command.main, capsys, "in", *plain).code == 1
    s3 = s3fs.S3FileSystem(skip_instance_cache=True)
    s3.mkdir("bucket")
    s3.put("in", "bucket/", recursive=True)

    form = ("--format", "parquet,coco", "--part-size", "8", "--batch-size", "4")
    outcome = detect(cluster, capsys, "s3://bucket/in/", "--weights", weights, *form, "--output", "s3://bucket/out")
    assert outcome.code == 1 and outcome.err.count("failed: ") == 1 and "11.png" in outcome.err
    assert SECRET not in outcome.out + outcome.err and storage.refused > 3

    s3.get("bucket/out", "out", recursive=True)
    names = sorted(path.name for path in Path("out").iterdir())
    assert len([name for name in names if name.startswith("part-") and name.endswith(".parquet")]) == 5
    assert set(names) >= {"detections.coco.json", "images.json", "run.json"} and len(names) == 8
    rows = duckdb.sql("select image, boxes, scores, names, error from 'out/*.parquet' order by image").fetchall()
    assert len({row[0] for row in rows}) == len(rows) == 40
    found = {
        row[0].rpartition("/")[2]: [
            ([round(side, 2) for side in box], round(score, 4), name)
            for box, score, name in zip(row[1], row[2], row[3], strict=True)
        ]
        for row in rows
        if row[4] is None
    }
    lines = map(json.loads, Path("plain/detections.jsonl").read_text().splitlines())
    assert found == {
        Path(line["source"]).name: [(each["box"], each["score"], each["name"]) for each in line["detections"]]
        for line in lines
    }
    assert len(pandas.read_parquet("out/part-00000000-" + names_after(names, 0))) == 8
    results = [json.loads(Path(folder, "detections.coco.json").read_text()) for folder in ("plain", "out")]
    assert results[0] == results[1] and len(results[0]) > 40


def names_after(names: list[str], number: int) -> str:
    head = f"part-{number:08d}-"
    return next(name.removeprefix(head) for name in names if name.startswith(head))


def test_a_killed_worker_and_a_killed_node_lose_nothing(
    cluster: Any, weights: Path, in_own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed: list[int] = []

    def kill_worker() -> None:
        pid = next(pid for node in cluster.list_all_nodes() for pid in workers_of(node))
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    def kill_node() -> None:
        node = next(node for node in cluster.list_all_nodes() if node is not cluster.head_node)
        cluster.remove_node(node, allow_graceful=False)
        killed.append(0)

    web = Web({30: kill_worker, 60: kill_node})
    names = web.write_list(160)
    outcome = detect(cluster, capsys, "list.txt", "--weights", weights, "--part-size", "5", "--output", "out")
    started(lambda: cluster.add_node(num_cpus=1, object_store_memory=200 << 20))
    assert outcome.code == 0 and len(killed) == 2, outcome.err
    assert objects_found(Path("out")) == {(name, 1 + index % 4): 1 for index, name in enumerate(names)}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 1)])
def test_a_killed_driver_is_resumed(
    number: signal.Signals,
    code: int,
    cluster: Any,
    weights: Path,
    in_own_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    processes: list[subprocess.Popen[bytes]] = []
    web = Web({50: lambda: processes[0].send_signal(number)})
    names = web.write_list(100)
    words = ["list.txt", "--weights", str(weights), "--part-size", "5"]
    door = [sys.executable, "-m", "yolofpn", "detect", *words, *FLAGS, "--address", cluster.address, "--output", "out"]
    processes.append(subprocess.Popen(door))
    assert processes[0].wait() == code
    outcome = detect(cluster, capsys, *words, "--resume", "out", client=True)
    assert outcome.code == 0 and "resuming" in outcome.out
    assert objects_found(Path("out")) == {(name, 1 + index % 4): 1 for index, name in enumerate(names)}
    assert SECRET not in "".join(path.read_text() for path in Path("out").iterdir())
    assert web.count < 100 + 50


def test_a_mistake_that_all_workers_make_is_one_error(
    cluster: Any, weights: Path, in_own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("good.png").write_bytes(content(0))
    outcome = detect(
        cluster, capsys, "good.png", "--weights", weights, "--device", "cuda:7", "--output", "out", client=True
    )
    assert outcome.code == 2 and outcome.err.count("error: ") == 1 and "Traceback" not in outcome.err


def test_workers_share_a_gpu(
    cluster: Any, weights: Path, in_own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray counts GPUs, and knows not whether there are any."""
    import ray

    node = started(lambda: cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=200 << 20))
    used: list[float] = []

    def look() -> None:
        until(lambda: not ray.available_resources().get("GPU"), 10)  # before the request is given up
        used.append(ray.cluster_resources()["CPU"] - ray.available_resources().get("CPU", 0.0))

    try:
        names = Web({1: look}).write_list(40)
        words = ("list.txt", "--weights", weights, "--device", "cpu", "--part-size", "5")
        outcome = detect(cluster, capsys, *words, "--gpus-per-worker", ".5", "--output", "out")
        assert outcome.code == 0 and len(objects_found(Path("out"))) == len(names), outcome
        assert used == [2.0], "the processors of two workers, and the GPU that they share"
        outcome = detect(cluster, capsys, *words, "--gpus-per-worker", "2", "--output", "none")
        assert outcome.code == 2 and outcome.err.count("\n") == 1 and "1 GPU" in outcome.err
    finally:
        cluster.remove_node(node)


HOLDS_ALL = """
import sys, time, ray
ray.init(sys.argv[1], log_to_driver=False)
class Holder:
    def ready(self): return True
holders = [ray.remote(num_cpus=1)(Holder).remote() for _ in range(int(ray.cluster_resources()["CPU"]))]
ray.get([holder.ready.remote() for holder in holders])
print("held", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("client", [False, True])
def test_a_cluster_without_free_processors_is_waited_for(
    client: bool,
    cluster: Any,
    weights: Path,
    in_own_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    command = [sys.executable, "-c", HOLDS_ALL, cluster.address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "held\n"

            def say(report: EngineReport, line: str) -> None:
                said.append(line)
                if line.startswith("waiting"):
                    holder.kill()

            monkeypatch.setattr(EngineReport, "say", say)
            monkeypatch.setattr("yolofpn.engines.cluster.WAITING", 1.0)
            Path("good.png").write_bytes(content(0))
            outcome = detect(cluster, capsys, "good.png", "--weights", weights, "--output", "out", client=client)
        finally:
            holder.kill()
    assert outcome.code == 0, outcome
    assert [line for line in said if "first worker" in line and "0 of 2 CPUs" in line], said


def test_an_image_that_kills_its_process_is_a_row_with_an_error(
    cluster: Any, weights: Path, in_own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    for name in ("a", "b", "deadly", "z"):
        Path(f"in/{name}.png").write_bytes(content(0))
    outcome = detect(cluster, capsys, "in", "--weights", weights, "--part-size", "3", "--output", "out")
    assert outcome.code == 1 and outcome.err.count("failed: ") == 1 and "deadly.png" in outcome.err
    assert sorted(Path(name).name for name, _ in objects_found(Path("out"))) == [
        "a.png",
        "b.png",
        "deadly.png",
        "z.png",
    ]
