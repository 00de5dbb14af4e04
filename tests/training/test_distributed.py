"""Two processes learn and measure what one does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.amp.grad_scaler import GradScaler
from torch.optim import SGD

from tests.training.commands import run_ranks, train
from tests.training.small import write_cfg, write_images
from yolofpn.errors import UserError
from yolofpn.models.two_stage import matcher
from yolofpn.training.distributed import answer_of_main

pytestmark = pytest.mark.slow

IMAGES = 12


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    write_images(folder / "data", IMAGES)
    write_cfg(folder)
    return folder


def arguments(run: Path, batch_size: int, *overrides: str) -> list[str]:
    flags = ["--cfg", "small.yaml", "--data", "data/data.yaml", "--output", str(run), "--device", "cpu"]
    return [*flags, "--batch-size", str(batch_size), *overrides]


def test_two_processes_learn_what_one_does(files: Path, tmp_path: Path) -> None:
    # Three global batches of 4 in an epoch, two of them to a step: four steps, with and without accumulation.
    # The rate is one at which the loss falls; where it explodes, so do the last digits.
    settings = ["--epochs", "2", "train.freeze_norm=true", "train.nominal_batch_size=8", "train.eval_interval=2"]
    settings.append("train.optimizer.lr=0.005")
    one = train(arguments(tmp_path / "one", 4, *settings), files)
    two = train(arguments(tmp_path / "two", 2, *settings), files, ranks=2)
    assert (one.code, two.code) == (0, 0), two.output
    alone, shared = (torch.load(tmp_path / run / "last.pt", weights_only=True) for run in ("one", "two"))
    assert alone["progress"]["step"] == shared["progress"]["step"] == 4
    for part in ("model", "ema"):
        for name, tensor in alone[part].items():
            difference = (tensor - shared[part][name]).abs().max()
            assert difference <= 5e-5 * tensor.abs().max(), name
    learnt = alone["model"]["head.p4.predict.bias"] - alone["ema"]["head.p4.predict.bias"]
    assert learnt.abs().max() > 1e-4  # they did move
    losses = [run.output.split("loss ")[1].split(" lr")[0] for run in (one, two)]
    assert losses[0] == losses[1]
    first, second = (state["cpu"] for state in shared["rng"])
    assert len(alone["rng"]) == 1 and not torch.equal(first, second)
    assert "batch norm" not in two.output
    assert two.output.count("epoch 2/2") == 1  # of one process


def measure(output: str) -> int:
    """On this rank: write down the metrics of a model that is the same on all."""
    from yolofpn.training.distributed import join_ranks
    from yolofpn.training.run_plan import TrainOptions, make_plan
    from yolofpn.training.setup import set_up

    device = torch.device("cpu")
    with join_ranks() as ranks:
        plan = make_plan(TrainOptions(cfg=Path("small.yaml"), data="data/data.yaml", batch_size=2))
        setup = set_up(plan, device, ranks, lambda line: None)
        with torch.no_grad():
            for level in ("p4", "p5"):
                per_anchor = setup.model.get_parameter(f"head.{level}.predict.bias").view(2, -1)
                per_anchor[:, 4:] += 4  # much is found then
        metrics = setup.validation(setup.model)
        detections = len(setup.validation.collect(setup.model).table().detections)
    numbers = {**metrics.values, "images": metrics.images, "detections": detections}
    Path(f"{output}-{ranks.rank}.json").write_text(json.dumps(numbers))
    return 0


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in the processes: sums over threads round otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_evaluation_counts_every_image_once(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    measure("one")
    assert run_ranks(measure, files, 2, "two").code == 0
    alone, first, second = (json.loads((files / f"{name}.json").read_text()) for name in ("one-0", "two-0", "two-1"))
    assert alone["images"] == 5  # not a multiple of two processes or of the batch
    assert alone["detections"] > 100 and alone["AR100"] > 0
    assert alone == first == second


def gradients_of_two_stages(output: str) -> int:
    """On this rank: accumulate the gradients of its images, each a batch of its own, and write them down."""
    from tests.training.accumulation import draw_first, images_of, small_two_stage, uneven_batch
    from yolofpn.config import load_config
    from yolofpn.training.build_trainer import as_network
    from yolofpn.training.distributed import join_ranks
    from yolofpn.training.learner import Learner

    matcher._draw = draw_first
    device = torch.device("cpu")
    with join_ranks() as ranks:
        config = load_config(Path("small.yaml"))
        model, batch = small_two_stage("rcnn", config), uneven_batch()
        network = as_network(model, config.train, device, ranks, print)
        scaler = GradScaler("cpu", init_scale=8.0)
        learner = Learner(model, network, None, SGD(model.parameters(), 1.0), scaler, device)
        own = range(4)[ranks.rank :: ranks.world_size]
        learner.add_gradients(
            [images_of(batch, index, index + 1) for index in own] if ranks.world_size > 1 else [batch]
        )
        torch.save({name: p.grad / 8 for name, p in model.named_parameters() if p.grad is not None}, f"{output}.pt")
    return 0


@pytest.mark.usefixtures("one_thread")
def test_two_processes_accumulate_the_gradients_of_the_large_batch(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two stages, whose losses are divided by numbers that differ between images, with a scaler."""
    monkeypatch.chdir(files)
    monkeypatch.setattr(matcher, "_draw", matcher._draw)  # it is put back
    gradients_of_two_stages("whole")
    two = run_ranks(gradients_of_two_stages, files, 2, "shared")
    assert two.code == 0 and "batch norm's statistics are those of each process's own images" in two.output
    whole, shared = (torch.load(files / f"{name}.pt", weights_only=True) for name in ("whole", "shared"))
    assert whole.keys() == shared.keys()
    for name, gradient in whole.items():
        assert (shared[name] - gradient).abs().max() <= 1e-4 * gradient.abs().max() + 1e-9, name


def test_what_fails_in_the_main_process_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> bool:
        raise TimeoutError

    assert answer_of_main(lambda: True) and not answer_of_main(lambda: False)
    with pytest.raises(TimeoutError):
        answer_of_main(fail)
    monkeypatch.setattr("yolofpn.training.distributed.from_main", lambda _: (False, True))
    with pytest.raises(UserError):
        answer_of_main(lambda: False)
