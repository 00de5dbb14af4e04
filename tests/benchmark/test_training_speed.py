from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarking import training_speed
from benchmarking.command import main
from benchmarking.training_speed import DECODING, KEPT, LOADER, NETWORK, STEP, TRAINING, Feed, Turns
from tests.commands import call
from tests.data.small_dataset import write_dataset
from tests.training.small import write_cfg, write_images
from tests.training.test_learner import Pull, batch, make_learner
from yolofpn.data.loader import Batch, Loader
from yolofpn.data.sampler import TrainBatchSampler
from yolofpn.data.training_samples import TrainingSamples

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_speed, "IMAGES_PER_TURN", 4)


def test_command_measures_training_on_two_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, cfg, report = write_images(tmp_path, count=2), write_cfg(tmp_path), tmp_path / "out.json"
    words = ["--train", "--cfg", cfg, "--data", data, "--rounds", 1, "--batch-size", 2, "--json", report]
    outcome = call(main, capsys, *words)
    assert outcome.code == 0, outcome.err
    assert "% of the network alone; loss " in outcome.out and "| training / network |" in outcome.out
    tree = json.loads(report.read_text())
    assert {"machine", "versions", "time", "format_version"} <= tree.keys()
    assert [row["batch_size"] for row in tree["training"]] == [2]
    for row in tree["training"]:
        rates = row["images_per_second"]
        assert list(rates) == [NETWORK, STEP, TRAINING, LOADER, DECODING, KEPT]
        assert all(rate > 0 for rate in rates.values())
        assert row["share_of_network"] == pytest.approx(rates[TRAINING] / rates[NETWORK])
        assert row["loader_share"] == pytest.approx(rates[TRAINING] / rates[STEP])
        assert (row["img_size"], row["precision"], row["losses_finite"]) == ([64, 64], "float32", True)
        assert row["peak_memory"]["process_mb"] > 100


def test_train_needs_a_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(main, capsys, "--train", "--weights", tmp_path / "some.weights", "--data", tmp_path)
    assert outcome.code == 2
    assert "--cfg cfg/yolofpn-tiny.yaml" in outcome.err and len(outcome.err.splitlines()) == 1


def test_epochs_follow_each_other(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "images", count=4)
    samples = TrainingSamples(dataset, None, cache_bytes=0)
    feed = Feed(Loader(samples, TrainBatchSampler(4, 2, [(64, 64)])), workers=0)
    seen = [sorted(index for indices in next(feed.batches).indices for index in indices) for _ in range(6)]
    assert all(sorted(seen[start] + seen[start + 1]) == [0, 1, 2, 3] for start in (0, 2, 4))
    assert (feed.ahead, Feed(feed.loader, workers=3).ahead) == (0, 6)


class CountedFeed(Feed):
    """Batches of one gray image, counted."""

    def __init__(self, ahead: int) -> None:
        self.ahead, self.taken, self.batches = ahead, 0, self._counted()

    def _counted(self) -> Iterator[Batch]:
        while True:
            self.taken += 1
            yield batch(10)


def test_a_turn_is_of_whole_steps_and_leaves_out_what_was_loaded_ahead() -> None:
    turns = Turns(make_learner(Pull()), batches_per_step=2, batch_size=1, rate=0.1)
    assert (turns.steps, turns.batches) == (2, 4)
    for turn in (turns.training, turns.loading):
        feed = CountedFeed(ahead=3)
        assert min(turn(feed)) > 0
        assert feed.taken == 3 + 4
    assert len(turns.losses) == 1 + 2  # one with what was there already
    assert turns.losses[0] == 100 + 2  # of one image, however many make a step


def test_a_loss_that_is_no_number_is_told() -> None:
    model = Pull()
    turns = Turns(make_learner(model), batches_per_step=1, batch_size=1, rate=0.1)
    turns.step([batch(10)])
    assert turns.finite
    model.weight.data.fill_(math.nan)
    turns.step([batch(10)])
    assert not turns.finite


def test_the_bare_network_learns_nothing(tmp_path: Path) -> None:
    class Dense(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 2, 1)
            self.calls = 0

        def dense(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            self.calls += 1
            return {"p3": self.conv(images.float())}

    model = Dense()
    before = model.conv.weight.clone()
    turns = Turns(make_learner(model, channels_last=True), batches_per_step=1, batch_size=2, rate=0.1)
    assert min(turns.network(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))) > 0
    assert model.calls == 1 + 2 and torch.equal(model.conv.weight, before)
    assert model.conv.bias is not None and model.conv.bias.grad is not None
