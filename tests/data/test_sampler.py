from __future__ import annotations

from collections import Counter

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


def test_an_epoch_shows_every_picture_once_in_a_new_order() -> None:
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


def test_fewer_pictures_than_a_batch_holds() -> None:
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


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_has_every_picture_once_over_all_ranks(world_size: int) -> None:
    samplers = [EvalBatchSampler(11, 2, (416, 416), rank=rank, world_size=world_size) for rank in range(world_size)]
    batches = [batch for sampler in samplers for batch in sampler]
    assert sorted(key.index for batch in batches for key in batch) == list(range(11))
    assert all(len(batch) <= 2 and batch[0].size == (416, 416) for batch in batches)
    assert [len(sampler) for sampler in samplers] == [len(list(sampler)) for sampler in samplers]


def test_evaluation_of_nothing_and_of_fewer_pictures_than_ranks() -> None:
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
