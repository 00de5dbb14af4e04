"""Training on several machines: two processes with a working directory and data of their own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from tests.once import made_once
from tests.training.commands import run_nodes, train, train_on_nodes
from tests.training.small import write_cfg, write_images
from yolofpn.data.sampler import TrainBatchSampler
from yolofpn.errors import UserError
from yolofpn.training.distributed import Ranks
from yolofpn.training.run_plan import TrainOptions
from yolofpn.training.shared_run import finished_run
from yolofpn.training.sync_norm import SharedBatchNorm2d

pytestmark = pytest.mark.slow

IMAGES = 7  # no multiple of two processes
EPOCHS = 2
LABELLED = 6  # the only training image with objects


def write_nodes(folder: Path) -> tuple[Path, Path]:
    """Two folders with the same data."""
    folders = folder / "first", folder / "second"
    for node in folders:
        write_images(node / "data", IMAGES)
        for path in (node / "data" / "labels" / "train").iterdir():
            if path.stem != f"train{LABELLED}":
                path.write_text("")
        write_cfg(node)
    return folders


@pytest.fixture
def nodes(tmp_path: Path) -> tuple[Path, Path]:
    return write_nodes(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of two machines after a run, and what they said; for reading only."""

    def run(folder: Path) -> None:
        nodes = write_nodes(folder)
        before = contents(nodes[1])
        outcome = train_on_nodes(flags(2), nodes, folder)
        assert outcome.code == 0, outcome.output
        assert contents(nodes[1]) == before, "only the main process writes"

    return made_once(tmp_path_factory, "two-machines", run)


def flags(batch_size: int, *more: str) -> list[str]:
    # PyTorch's batch norm rounds more in channels-last: near 0, where LeakyReLU has its bend, by enough to be seen.
    settings = [
        "train.sync_batch_norm=true",
        "train.channels_last=false",
        "train.nominal_batch_size=8",
        "train.optimizer.lr=0.005",
        "augment.mosaic=0",
    ]
    arguments = ["--cfg", "small.yaml", "--data", "data/data.yaml", "--output", "run", "--device", "cpu"]
    return [*arguments, "--batch-size", str(batch_size), "--epochs", str(EPOCHS), *settings, "augment.mixup=0", *more]


def contents(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def state(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    content: dict[str, dict[str, torch.Tensor]] = torch.load(folder / "run" / "last.pt", weights_only=True)
    return content


def epochs_without_objects(rank: int) -> list[int]:
    samplers = TrainBatchSampler(IMAGES, 2, [(64, 64)], seed=0, rank=rank, world_size=2)
    found = []
    for epoch in range(EPOCHS):
        samplers.start_epoch(epoch)
        if all(key.index != LABELLED for batch in samplers for key in batch):
            found.append(epoch)
    return found


def test_two_machines_learn_what_one_process_does(undisturbed: Path, tmp_path: Path) -> None:
    """With batch norm over both, gradients added up over batches, unequal shards and epochs without any object."""
    first, alone = undisturbed / "first", write_nodes(tmp_path)[0]
    assert epochs_without_objects(0) and epochs_without_objects(1)
    one = train(flags(4), alone)
    assert one.code == 0, one.output
    expected, found = state(alone), state(first)
    assert expected["progress"]["step"] == found["progress"]["step"] == EPOCHS
    for part in ("model", "ema"):
        for name, tensor in expected[part].items():
            difference = (tensor - found[part][name]).abs().max()
            assert difference <= 5e-3 * tensor.abs().max(), name
    said = (undisturbed / "output0.txt").read_text()
    assert "warning: batch norm" not in said
    rows = [(folder / "run" / "metrics.csv").read_text().splitlines() for folder in (alone, first)]
    assert len(rows[0]) == len(rows[1]) == EPOCHS + 1
    aps = [next(line for line in text.splitlines() if line.startswith("best: AP")) for text in (one.output, said)]
    assert aps[0] == aps[1]


KILLED_ONCE = """
import os, signal, sys

from yolofpn.cli.train import main
from yolofpn.training.engine import Trainer

step = Trainer._step

def killed(self, group):
    if (self.progress.epoch, os.environ["TORCHELASTIC_RESTART_COUNT"], os.environ["GROUP_RANK"]) == (1, "0", "1"):
        os.kill(os.getpid(), signal.SIGKILL)
    step(self, group)

Trainer._step = killed
raise SystemExit(main(sys.argv[1:]))
"""


def torchrun(*arguments: str) -> int:
    """On this node: ``torchrun``, whose processes are forked, as PyTorch is there already."""
    from torch.distributed.run import main

    place = [f"--node-rank={os.environ['RANK']}", f"--master-port={os.environ['MASTER_PORT']}"]
    main(["--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", *place, *arguments])
    return 0


def test_a_machine_that_dies_and_comes_back_changes_nothing(
    undisturbed: Path, nodes: tuple[Path, Path], tmp_path: Path
) -> None:
    script = tmp_path / "killed_once.py"
    script.write_text(KILLED_ONCE)
    started = ("--run-path", "--start-method=fork", "--max-restarts=1", "--monitor-interval=0.05", str(script))
    killed = run_nodes(torchrun, nodes, tmp_path, *started, *flags(2, "--auto-resume"))
    assert killed.code == 0, killed.output
    assert "lost contact" in killed.output and "resuming in epoch 2" in killed.output, killed.output
    assert killed.output.count("resuming") == 1, killed.output  # with --auto-resume it had begun anew
    expected, found = state(undisturbed / "first"), state(nodes[0])
    for part in ("model", "ema"):
        for name, tensor in expected[part].items():
            assert torch.equal(tensor, found[part][name]), name
    assert contents(nodes[1]) == contents(undisturbed / "second")


def resume(epochs: int) -> int:
    """On this rank: ``train.py --auto-resume``, in process."""
    from yolofpn.cli.train import main

    given = flags(2, "--auto-resume")
    given[given.index("--epochs") + 1] = str(epochs)
    return main(given)


def test_auto_resume(undisturbed: Path, tmp_path: Path) -> None:
    nodes = [Path(shutil.copytree(undisturbed / name, tmp_path / name)) for name in ("first", "second")]
    finished = run_nodes(resume, nodes, tmp_path, EPOCHS)
    assert finished.code == 0 and "is finished" in finished.output, finished.output
    longer = run_nodes(resume, nodes, tmp_path, EPOCHS + 1)
    assert longer.code == 0 and "resuming in epoch 3" in longer.output, longer.output
    swapped = run_nodes(resume, nodes[::-1], tmp_path, EPOCHS + 2)
    assert swapped.code == 2 and "--node-rank" in swapped.output, swapped.output


def test_restarts_need_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="--output"):
        finished_run(TrainOptions(auto_resume=True), Ranks())
    with pytest.raises(UserError, match="--dry-run"):
        finished_run(TrainOptions(auto_resume=True, output="run", dry_run=True), Ranks())
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    with pytest.raises(UserError, match="--auto-resume"):
        finished_run(TrainOptions(cfg="x"), Ranks())
    assert finished_run(TrainOptions(resume="run"), Ranks()) is None


def normalise(output: str) -> int:
    """On this rank: batch norm of its images, of which it has one more than the rank before."""
    from yolofpn.training.distributed import join_ranks

    with join_ranks() as ranks:
        generator = torch.Generator().manual_seed(0)
        images = 3 + 2 * torch.randn((3, 4, 5, 6), generator=generator)
        weights = torch.randn((3, 4, 5, 6), generator=generator)
        own = slice(None) if ranks.world_size == 1 else slice(0, 1) if ranks.is_main else slice(1, 3)
        plain = torch.nn.BatchNorm2d(4, eps=1e-3, momentum=0.3)
        with torch.no_grad():
            plain.weight.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
        norm = plain if ranks.world_size == 1 else SharedBatchNorm2d.of(plain)
        values = images[own].clone().requires_grad_()
        result = norm(values)
        (result * weights[own]).square().sum().backward()
        assert values.grad is not None and plain.weight.grad is not None
        kept = {"result": result.detach(), "gradient": values.grad, "weight": plain.weight.grad}
        torch.save(kept | dict(norm.named_buffers()), f"{output}{ranks.rank}.pt")
    return 0


def test_shared_batch_norm_is_that_of_all_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    normalise("whole")
    assert run_nodes(normalise, [tmp_path] * 2, tmp_path, "part").code == 0
    whole, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("whole0", "part0", "part1"))
    for name in ("result", "gradient"):
        assert torch.allclose(torch.cat([first[name], second[name]]), whole[name], atol=2e-5), name
    assert torch.allclose(first["weight"] + second["weight"], whole["weight"], rtol=1e-4)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.allclose(first[name], whole[name], rtol=1e-5) and torch.equal(first[name], second[name]), name
