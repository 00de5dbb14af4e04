from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import sys
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.small_dataset import OBJECT, make_target, write_dataset
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.image_cache import ImageCache
from yolofpn.data.loader import Batch, Loader, Padding, collate
from yolofpn.data.sampler import EvalBatchSampler, SampleKey, TrainBatchSampler
from yolofpn.data.samples import EvaluationSamples, Sample
from yolofpn.data.training_samples import TrainingSamples
from yolofpn.data.transforms import Augmentation
from yolofpn.errors import UserError

SIZES = ((64, 64), (96, 96))
STRONG = Augmentation(vertical_flip=0.5, mosaic=0.5, mixup=0.5)


@pytest.fixture
def dataset(tmp_path: Path) -> DetectionDataset:
    return write_dataset(tmp_path / "images")


def training(
    dataset: DetectionDataset, *, seed: int = 5, workers: int = 0, start_method: str | None = None
) -> Loader[TrainBatchSampler]:
    samples = TrainingSamples(dataset, STRONG, seed=seed)
    return Loader(
        samples, TrainBatchSampler(len(dataset), 2, SIZES, seed=seed), workers=workers, start_method=start_method
    )


def batches_of(loader: Loader[TrainBatchSampler], epoch: int, start_batch: int = 0) -> list[Batch]:
    loader.sampler.start_epoch(epoch, start_batch)
    return list(loader)


def same_sample(first: Sample, second: Sample) -> bool:
    return torch.equal(first.image, second.image) and torch.equal(first.target.boxes, second.target.boxes)


def assert_same(first: Sequence[Batch], second: Sequence[Batch]) -> None:
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.images, other.images)
        assert one.indices == other.indices
        for a, b in zip(one.targets, other.targets, strict=True):
            assert all(
                torch.equal(getattr(a, name), getattr(b, name)) for name in ("boxes", "labels", "ignore", "areas")
            )
            assert a.image_id == b.image_id


def test_a_training_batch(dataset: DetectionDataset) -> None:
    loader = training(dataset)
    assert len(loader) == 3
    for number, batch in enumerate(batches_of(loader, 1)):
        assert isinstance(loader.sampler, TrainBatchSampler)
        height, width = loader.sampler.size_of(1, number)
        assert batch.images.shape == (2, 3, height, width) and batch.images.dtype == torch.uint8
        assert batch.images.is_contiguous()
        for target, indices in zip(batch.targets, batch.indices, strict=True):
            assert target.image_id == 100 + indices[0]
            assert target.boxes.dtype == torch.float32 and target.labels.dtype == torch.int64
            assert (target.boxes >= 0).all() and (target.boxes <= height).all()
        assert len(batch) == 2 and not batch.originals and not batch.placements


@pytest.mark.slow
def test_a_sample_is_a_pure_function_of_seed_epoch_and_index(dataset: DetectionDataset) -> None:
    keys = [SampleKey(index, epoch, (64, 64)) for epoch in range(3) for index in range(len(dataset))]
    samples = TrainingSamples(dataset, STRONG, seed=5)
    first = {key: samples[key] for key in keys}
    torch.manual_seed(1)
    again = TrainingSamples(dataset, STRONG, seed=5, cache_bytes=0)
    assert all(same_sample(again[key], first[key]) for key in reversed(keys))
    assert not same_sample(first[SampleKey(1, 0, (64, 64))], first[SampleKey(1, 1, (64, 64))])
    assert not same_sample(first[keys[1]], TrainingSamples(dataset, STRONG, seed=6)[keys[1]])


def test_each_repeat_is_varied_anew(dataset: DetectionDataset) -> None:
    samples = TrainingSamples(dataset, STRONG, seed=5)
    shown = [samples[SampleKey(4, 2, (64, 64), repeat)] for repeat in range(4)]
    assert not any(same_sample(one, other) for i, one in enumerate(shown) for other in shown[:i])
    assert all(sample.indices[0] == 4 for sample in shown)
    assert same_sample(samples[SampleKey(4, 2, (64, 64), 3)], shown[3])
    assert same_sample(samples[SampleKey(4, 2, (64, 64))], shown[0])


@pytest.mark.slow
def test_repeats_are_the_same_with_workers_and_in_the_middle_of_an_epoch(dataset: DetectionDataset) -> None:
    factors = np.array([1, 1, 2.5, 1, 1, 3.25])
    sampler = partial(TrainBatchSampler, len(dataset), 2, SIZES, seed=5, repeat_factors=factors)
    samples = TrainingSamples(dataset, STRONG, seed=5)
    whole = batches_of(Loader(samples, sampler()), 1)
    assert len(whole) == 5  # 9.75 samples, rounded
    assert_same(batches_of(Loader(samples, sampler(), workers=2), 1, start_batch=2), whole[2:])


@pytest.mark.slow
def test_workers_change_nothing(dataset: DetectionDataset) -> None:
    alone, helped = training(dataset), training(dataset, workers=2)
    for epoch in range(2):
        assert_same(batches_of(helped, epoch), batches_of(alone, epoch))


def test_an_epoch_goes_on_in_the_middle(dataset: DetectionDataset) -> None:
    whole = batches_of(training(dataset), 3)
    state = torch.get_rng_state()
    assert_same(batches_of(training(dataset), 3, start_batch=1), whole[1:])
    assert torch.equal(torch.get_rng_state(), state)


def test_samples_travel_to_spawned_processes(dataset: DetectionDataset) -> None:
    samples = TrainingSamples(dataset, STRONG, seed=5)
    key = SampleKey(2, 0, (64, 64))
    assert same_sample(pickle.loads(pickle.dumps(samples))[key], samples[key])
    pickle.dumps(EvaluationSamples(dataset))


@pytest.mark.slow
def test_spawned_workers_give_the_same_batches(dataset: DetectionDataset) -> None:
    spawned = training(dataset, workers=1, start_method="spawn")
    assert_same(batches_of(spawned, 0), batches_of(training(dataset), 0))


def test_mosaic_and_mixup_end_with_their_epochs(dataset: DetectionDataset) -> None:
    samples = TrainingSamples(dataset, Augmentation(mosaic=1, mixup=1), seed=0)
    sampler = TrainBatchSampler(6, 6, [(64, 64)], combine_epochs=2)
    counts = []
    for epoch in range(4):
        sampler.start_epoch(epoch)
        counts += [[len(samples[key].indices) for key in batch] for batch in sampler]
    assert counts == [[5] * 6, [5] * 6, [1] * 6, [1] * 6]


def test_partners_are_drawn_from_the_whole_data_set(dataset: DetectionDataset) -> None:
    samples = TrainingSamples(dataset, Augmentation(mosaic=1), seed=0)
    partners = {i for epoch in range(10) for i in samples[SampleKey(0, epoch, (64, 64))].indices[1:]}
    assert partners == set(range(6))


def test_without_augmentation_images_are_resized_as_for_evaluation(dataset: DetectionDataset) -> None:
    key = SampleKey(2, 9, (64, 96))
    plain, evaluated = TrainingSamples(dataset, None)[key], EvaluationSamples(dataset)[key]
    assert same_sample(plain, evaluated)
    assert torch.equal(plain.target.areas, evaluated.target.areas)


def test_evaluation_gives_places_and_originals(dataset: DetectionDataset) -> None:
    loader = Loader(EvaluationSamples(dataset), EvalBatchSampler(len(dataset), 4, (96, 64)))
    batches = list(loader)
    assert [len(batch) for batch in batches] == [4, 2] and len(loader) == 2
    index = 0
    for batch in batches:
        assert batch.images.shape[1:] == (3, 96, 64) and all(batch.readable)
        for target, original, placement in zip(batch.targets, batch.originals, batch.placements, strict=True):
            expected = dataset.target(index)
            assert original.image_id == target.image_id == 100 + index
            assert torch.equal(original.boxes, expected.boxes) and torch.equal(original.areas, expected.areas)
            # 80 x 60 into 64 x 96: scale 0.8, 24 rows of gray above.
            assert torch.allclose(target.boxes, expected.boxes * 0.8 + torch.tensor([0, 24, 0, 24]))
            assert torch.allclose(target.areas, expected.areas * 0.64)
            assert np.allclose(placement.to_image(target.boxes), expected.boxes, atol=1e-4)
            index += 1
    image = batches[0].images[1]
    assert (image[:, 10, :] == 128).all() and (image[:, 40, 10] >= OBJECT).all()


def test_images_are_rgb(dataset: DetectionDataset) -> None:
    # Image 5 has 5 more in OpenCV's channel 2, which is red.
    image = EvaluationSamples(dataset)[SampleKey(5, 0, (60, 80))].image
    assert image[:, 0, 0].tolist() == [45, 40, 40]
    view = TrainingSamples(
        dataset, Augmentation(hue=0, saturation=0, brightness=0, mosaic=0, scale=(1, 1), translate=0)
    )
    assert view[SampleKey(5, 0, (60, 80))].image[:, 0, 0].tolist() == [45, 40, 40]


def damage(dataset: DetectionDataset, index: int) -> None:
    Path(dataset.paths[index]).write_bytes(b"no image")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_does_not_end_the_training(dataset: DetectionDataset, workers: int) -> None:
    damage(dataset, 1)
    lines: list[str] = []
    samples = TrainingSamples(dataset, STRONG, seed=0)
    loader = Loader(samples, TrainBatchSampler(6, 2, SIZES), workers=workers, report=lines.append)
    batches = [batch for epoch in range(2) for batch in batches_of(loader, epoch)]
    assert sum(len(batch) for batch in batches) == 12
    assert all(1 not in indices for batch in batches for indices in batch.indices)
    assert len(lines) == 1 and dataset.paths[1] in lines[0]
    assert list(loader.failures) == [1]


def test_the_next_image_stands_in_for_an_unreadable_one(dataset: DetectionDataset) -> None:
    damage(dataset, 4)
    damage(dataset, 5)
    sample = TrainingSamples(dataset, None)[SampleKey(4, 0, (64, 64))]
    assert sample.indices == (0,) and set(sample.failures) == {4, 5} and sample.target.image_id == 100


def test_an_unreadable_image_counts_in_evaluation(
    dataset: DetectionDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(dataset, 2)
    loader = Loader(EvaluationSamples(dataset), EvalBatchSampler(6, 3, (64, 64)))
    first, second = loader
    assert first.readable == [True, True, False] and all(second.readable)
    assert (first.images[2] == 128).all() and len(first.targets[2]) == 0
    assert torch.equal(first.originals[2].boxes, dataset.target(2).boxes) and len(first.originals[2]) == 2
    assert capsys.readouterr().err.count(dataset.paths[2]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_readable_at_all_is_one_line(dataset: DetectionDataset, workers: int) -> None:
    for index in range(len(dataset)):
        damage(dataset, index)
    start = time.monotonic()
    with pytest.raises(UserError, match=r"\Ano readable image among 6 in a row[^\n]*\Z"):
        batches_of(training(dataset, workers=workers), 0)
    gc.collect()
    assert time.monotonic() - start < 5  # which torch waits for workers that are garbage, whenever that is found


def test_smaller_images_are_padded_at_the_right_and_below() -> None:
    images = [torch.full((3, 4, 6), 1, dtype=torch.uint8), torch.full((3, 5, 2), 2, dtype=torch.uint8)]
    batch = collate([Sample(image, make_target([]), (i,)) for i, image in enumerate(images)])
    assert batch.images.shape == (2, 3, 5, 6)
    assert torch.equal(batch.images[0, :, :4], images[0]) and (batch.images[0, :, 4] == 128).all()
    assert torch.equal(batch.images[1, :, :, :2], images[1]) and (batch.images[1, :, :, 2:] == 128).all()


def test_a_batch_moves_to_a_device(dataset: DetectionDataset) -> None:
    batch = batches_of(training(dataset), 0)[0].to("meta")
    assert batch.images.device.type == "meta" and all(target.boxes.device.type == "meta" for target in batch.targets)


def test_the_cache_keeps_to_its_memory(dataset: DetectionDataset) -> None:
    each = 60 * 80 * 3
    small, large, hopeless = (ImageCache(dataset, count * each) for count in (3, 6, 1))
    for cache in (small, large, hopeless):
        for index in [0, 1, 2, 3, 4, 5]:
            assert np.array_equal(cache.image(index), dataset.image(index))
    for index in range(6):
        damage(dataset, index)
    assert [cache.image(0).shape for cache in (small, large)] == [(60, 80, 3)] * 2
    assert large.image(5).shape == (60, 80, 3)
    for cache, index in ((small, 3), (hopeless, 0)):
        with pytest.raises(UserError):
            cache.image(index)


def resident_bytes(process_id: int | None) -> int:
    status = Path(f"/proc/{process_id}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_do_not_grow_over_epochs(dataset: DetectionDataset) -> None:
    many = dataset.subset([0, 1, 2, 3, 4, 5] * 5)
    loader = training(many, workers=2)
    memory = []
    for epoch in range(5):
        batches_of(loader, epoch)
        memory.append(sum(resident_bytes(child.pid) for child in multiprocessing.active_children()))
    assert memory[0] > 0
    assert memory[-1] - memory[2] < 8 * 2**20, memory


class Inherited:
    """Part of a cycle: only the garbage collector frees it, and it tells in which process."""

    def __init__(self, freed: Path) -> None:
        self.freed = freed
        self.itself = self

    def __del__(self) -> None:
        (self.freed / str(os.getpid())).touch()


class Collecting:
    """Samples, for the first of which the whole garbage is collected."""

    def __init__(self, samples: EvaluationSamples) -> None:
        self.samples = samples

    def __getitem__(self, key: SampleKey) -> Sample:
        if key.index == 0:
            gc.collect()
        return self.samples[key]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is inherited without fork")
def test_a_forked_worker_frees_nothing_of_its_parent(dataset: DetectionDataset, tmp_path: Path) -> None:
    gc.collect()
    gc.disable()  # the cycle must still be there when the worker begins
    try:
        Inherited(tmp_path)
        samples: Any = Collecting(EvaluationSamples(dataset, "letterbox"))
        loader = Loader(samples, EvalBatchSampler(len(dataset), 2, (64, 64)), workers=1, start_method="fork")
        assert len(list(loader)) == len(loader)
        assert not any(path.name.isdecimal() for path in tmp_path.iterdir())
        gc.collect()
        assert (tmp_path / str(os.getpid())).exists()
    finally:
        gc.enable()


@pytest.mark.slow
def test_more_workers_than_processors_are_no_matter(dataset: DetectionDataset) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loader = training(dataset, workers=(os.cpu_count() or 1) + 1)
        assert len(batches_of(loader, 0)) == 3


def test_padding_is_the_mean_up_to_a_multiple_and_targets_know_their_size() -> None:
    images = [torch.full((3, 5, 4), 9.5), torch.full((3, 3, 7), 7.25)]
    padding = Padding.for_network((0.2, 0.4, 0.61), 4)
    batch = collate([Sample(image, make_target([]), (i,)) for i, image in enumerate(images)], padding)
    assert batch.images.shape == (2, 3, 8, 8) and batch.images.dtype == torch.float32
    for image, padded, target in zip(images, batch.images, batch.targets, strict=True):
        height, width = image.shape[1:]
        assert torch.equal(padded[:, :height, :width], image)
        assert padded[:, -1, -1].tolist() == pytest.approx([0.2 * 255, 0.4 * 255, 0.61 * 255])
        assert target.image_size == (height, width)
    whole = collate([Sample(torch.zeros(3, 8, 4, dtype=torch.uint8), make_target([]), (0,))], padding)
    assert whole.images.shape == (1, 3, 8, 4) and whole.targets[0].image_size is None
    rounded = collate([Sample(torch.zeros(3, 8, 3, dtype=torch.uint8), make_target([]), (0,))], padding)
    assert rounded.images[0, :, 0, 3].tolist() == [51, 102, 156]  # .61 * 255 = 155.55
