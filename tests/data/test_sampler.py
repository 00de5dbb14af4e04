from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from yolofpn.data.sampler import (
    Draw,
    EvalBatchSampler,
    SampleKey,
    TrainBatchSampler,
    multi_scale_sizes,
    random_generator,
)

SIZES = multi_scale_sizes(320, 416, 32)


def epoch_of(sampler: TrainBatchSampler, epoch: int, start_batch: int = 0) -> list[list[SampleKey]]:
    sampler.start_epoch(epoch, start_batch)
    return list(sampler)


def test_multi_scale_sizes_are_those_of_the_paper() -> None:
    sizes = multi_scale_sizes()
    assert sizes[0] == (320, 320) and sizes[-1] == (608, 608) and len(sizes) == 10
    assert all(height == width and height % 32 == 0 for height, width in sizes)
    with pytest.raises(ValueError, match="no sizes"):
        multi_scale_sizes(608, 320)


def test_an_epoch_shows_every_image_once_in_a_new_order() -> None:
    sampler = TrainBatchSampler(24, 4, SIZES, seed=3)
    orders = [[key.index for batch in epoch_of(sampler, epoch) for key in batch] for epoch in range(3)]
    assert all(sorted(order) == list(range(24)) for order in orders)
    assert orders[0] != orders[1] != orders[2] and orders[0] != list(range(24))
    assert orders[1] == [key.index for batch in epoch_of(sampler, 1) for key in batch]
    assert orders[0] != [key.index for batch in TrainBatchSampler(24, 4, SIZES, seed=4) for key in batch]


def test_the_last_batch_is_filled_up_with_the_start_of_the_order() -> None:
    batches = [[key.index for key in batch] for batch in TrainBatchSampler(10, 4, SIZES)]
    assert [len(batch) for batch in batches] == [4, 4, 4]
    assert batches[2][2:] == batches[0][:2]
    assert {index for batch in batches for index in batch} == set(range(10))


def test_fewer_images_than_a_batch_holds() -> None:
    (batch,) = TrainBatchSampler(3, 8, SIZES)
    assert sorted(Counter(key.index for key in batch).values()) == [2, 3, 3]


def test_a_batch_has_one_size_and_batches_have_different_ones() -> None:
    sampler = TrainBatchSampler(400, 4, SIZES, seed=1)
    batches = epoch_of(sampler, 5)
    assert all(len({key.size for key in batch}) == 1 and batch[0].epoch == 5 for batch in batches)
    drawn = [batch[0].size for batch in batches]
    assert drawn == [sampler.size_of(5, number) for number in range(100)]
    counts = Counter(drawn)
    assert set(counts) == set(SIZES) and min(counts.values()) > 10  # 25 each are expected
    assert drawn != [sampler.size_of(6, number) for number in range(100)]


def test_an_epoch_goes_on_in_the_middle() -> None:
    sampler = TrainBatchSampler(23, 4, SIZES, seed=9)
    whole = epoch_of(sampler, 2)
    for start in range(len(whole) + 1):
        assert epoch_of(sampler, 2, start) == whole[start:]
        assert len(sampler) == len(whole) - start
    with pytest.raises(ValueError, match="no batch 7"):
        sampler.start_epoch(2, 7)


@pytest.mark.parametrize("num_samples", [24, 25, 31, 5])
def test_ranks_share_the_batches_that_one_process_would_have(num_samples: int) -> None:
    together = epoch_of(TrainBatchSampler(num_samples, 6, SIZES, seed=2), 4)
    ranks = [
        epoch_of(TrainBatchSampler(num_samples, 3, SIZES, seed=2, rank=rank, world_size=2), 4) for rank in range(2)
    ]
    assert len(ranks[0]) == len(ranks[1])
    assert [first + second for first, second in zip(*ranks, strict=True)] == together


FACTORS = np.array([1.0, 2.5, 1.0, 3.25, 1.0, 1.6, 1.0])  # 11.35


def test_repeats_are_numbered_and_every_epoch_is_of_one_length() -> None:
    sampler = TrainBatchSampler(7, 2, SIZES, seed=3, repeat_factors=FACTORS)
    assert (sampler.samples_per_epoch, sampler.batches_per_epoch) == (11, 6)
    drawn = set()
    for epoch in range(30):
        keys = [key for batch in epoch_of(sampler, epoch) for key in batch]
        assert len(keys) == 12 and keys[11].index == keys[0].index and keys[11].repeat == keys[0].repeat
        shown = Counter(key.index for key in keys[:11])
        assert {(key.index, key.repeat) for key in keys[:11]} == {(i, n) for i in shown for n in range(shown[i])}
        drawn.add(tuple(shown[i] for i in range(7)))
    assert {counts[:1] + counts[2:3] + counts[4:5] + counts[6:] for counts in drawn} == {(1, 1, 1, 1)}
    assert [{counts[i] for counts in drawn} for i in (1, 3, 5)] == [{2, 3}, {3, 4}, {1, 2}]


def test_epochs_with_repeats_are_pure_functions_of_seed_and_number() -> None:
    first, again, other = (TrainBatchSampler(7, 2, SIZES, seed=s, repeat_factors=FACTORS) for s in (3, 3, 4))
    whole = epoch_of(first, 5)
    assert epoch_of(again, 5) == whole != epoch_of(other, 5)
    for start in range(len(whole) + 1):
        assert epoch_of(again, 5, start) == whole[start:]


def test_ranks_share_repeats_as_they_share_batches() -> None:
    together = epoch_of(TrainBatchSampler(7, 4, SIZES, seed=2, repeat_factors=FACTORS), 4)
    ranks = [
        epoch_of(TrainBatchSampler(7, 2, SIZES, seed=2, rank=rank, world_size=2, repeat_factors=FACTORS), 4)
        for rank in range(2)
    ]
    assert [first + second for first, second in zip(*ranks, strict=True)] == together


def test_where_nothing_is_repeated_the_order_is_the_plain_one() -> None:
    plain, ones = TrainBatchSampler(7, 2, SIZES), TrainBatchSampler(7, 2, SIZES, repeat_factors=np.ones(7))
    order = random_generator(0, Draw.ORDER, 3).permutation(7).tolist()
    assert [key.index for batch in epoch_of(plain, 3) for key in batch] == [*order, order[0]]
    assert epoch_of(plain, 3) == epoch_of(ones, 3)
    assert all(key.repeat == 0 for batch in plain for key in batch)


@pytest.mark.parametrize("factors", [[1.0, 1.0], [1.0, 0.9, 1.0], [1.0, float("nan"), 1.0]])
def test_impossible_repeat_factors_are_refused(factors: list[float]) -> None:
    with pytest.raises(ValueError, match="repeat factor"):
        TrainBatchSampler(3, 2, SIZES, repeat_factors=np.array(factors))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_has_every_image_once_over_all_ranks(world_size: int) -> None:
    samplers = [EvalBatchSampler(11, 2, (416, 416), rank=rank, world_size=world_size) for rank in range(world_size)]
    batches = [batch for sampler in samplers for batch in sampler]
    assert sorted(key.index for batch in batches for key in batch) == list(range(11))
    assert all(len(batch) <= 2 and batch[0].size == (416, 416) for batch in batches)
    assert [len(sampler) for sampler in samplers] == [len(list(sampler)) for sampler in samplers]


def test_evaluation_of_nothing_and_of_fewer_images_than_ranks() -> None:
    assert list(EvalBatchSampler(0, 2, (64, 64))) == []
    assert [list(EvalBatchSampler(1, 2, (64, 64), rank=r, world_size=2)) for r in range(2)] == [
        [[SampleKey(0, 0, (64, 64))]],
        [],
    ]


def test_every_purpose_and_position_has_its_own_stream() -> None:
    positions = [(0,), (0, 0), (0, 1), (1, 0), (1,), (0, 0, 0)]
    drawn = {random_generator(5, purpose, *at).integers(2**62).item() for purpose in Draw for at in positions}
    assert len(drawn) == len(Draw) * len(positions)
    assert random_generator(5, Draw.SAMPLE, 1, 2).random() == random_generator(5, Draw.SAMPLE, 1, 2).random()


@pytest.mark.parametrize(
    ("num_samples", "batch_size", "rank", "world_size"), [(0, 4, 0, 1), (5, 0, 0, 1), (5, 4, 2, 2), (-1, 4, 0, 1)]
)
def test_impossible_batches_are_refused(num_samples: int, batch_size: int, rank: int, world_size: int) -> None:
    with pytest.raises(ValueError, match=r"batches|rank|at least one"):
        TrainBatchSampler(num_samples, batch_size, SIZES, rank=rank, world_size=world_size)
