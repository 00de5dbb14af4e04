"""The images of a run: what is learnt from, what is measured on, and the batches that they come in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from yolofpn.config import Config, InputConfig, YOLOHeadConfig
from yolofpn.config.config_file import DataSection
from yolofpn.data.anchor_clusters import network_box_sizes, poor_fit_warning
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.fingerprint import fingerprint
from yolofpn.data.layouts import DataSource, open_data
from yolofpn.data.loader import Loader, Padding
from yolofpn.data.proposal_files import how_to_write, with_proposals
from yolofpn.data.repeats import describe_repeats, repeat_factors
from yolofpn.data.sampler import TrainBatchSampler, multi_scale_sizes
from yolofpn.data.training_samples import CACHE_BYTES, TrainingSamples
from yolofpn.data.transforms import Augmentation
from yolofpn.errors import UserError
from yolofpn.training.distributed import Ranks


@dataclass(frozen=True)
class Splits:
    """The training and validation splits, which have the same classes.

    Attributes:
        data: names the data set.
        notes: lines to print.
        held_out: ``val`` is a part of the data set's training images.
    """

    data: DataSection
    train: DetectionDataset
    val: DetectionDataset
    notes: tuple[str, ...]
    held_out: bool = False

    @cached_property
    def digests(self) -> dict[str, str]:
        """Return the fingerprint of each split, which a resumed run verifies: see ``data/fingerprint.py``."""
        return {"train": fingerprint(self.train), "val": fingerprint(self.val)}

    def read_for(self, input: InputConfig) -> Splits:
        """Return the splits with images read as the network of ``input`` takes them."""
        train, val = (replace(split, depth=input.reading) for split in (self.train, self.val))
        return replace(self, train=train, val=val)


def open_splits(config: Config, overfit: int | None = None) -> Splits:
    """The train and val splits of the config's data set.

    Args:
        config: of the run.
        overfit: instead, so many training images with objects as both.

    Raises:
        UserError: no data set is named, it cannot be used, or no training image has an object.
    """
    data = config.data
    if data is None:
        raise UserError("no data set to train on: give one with --data, such as --data cfg/data/voc.yaml")
    source = open_data(data.source, Path(data.root) if data.root else None, data.voc_corners)
    train = _as_the_head_needs(config, data, source, "train")
    if train.ignore.all():
        found = "; ".join(note for note in source.notes if note.startswith("train: "))
        raise UserError(f"{data.source}: no training image has an object to learn\n{found}")
    if overfit is None:
        val = _as_the_head_needs(config, data, source, "val")
        if val.ignore.all():
            source.notes.append(
                "warning: val has no object, so AP stays -1, and the weights of the last epoch are kept"
            )
        return Splits(data, train, val, tuple(source.notes), source.holds_out)
    with_objects = [index for index in range(len(train)) if not bool(train.target(index).ignore.all())]
    chosen = train.subset(with_objects[:overfit])
    note = f"overfit: {len(chosen)} images with objects, as train and val"
    return Splits(data, chosen, chosen, (*source.notes, note))


def _as_the_head_needs(config: Config, data: DataSection, source: DataSource, split: str) -> DetectionDataset:
    """A split; without classes for a proposal network alone, with proposals for a second stage alone."""
    head = config.model.head
    if head.needs_proposals and data.proposals is None:
        raise UserError(
            "a head of type fast_rcnn finds no proposals itself: name files of them with "
            "data.proposals={train: FILE, val: FILE}\n" + how_to_write("train|val")
        )
    if not head.needs_proposals and data.proposals is not None:
        raise UserError(f"data.proposals: a head of type {head.type} takes none, only one of type fast_rcnn does")
    dataset = replace(source.load(split), depth=config.input.reading)
    if head.class_agnostic:
        return dataset.as_one_class()
    if data.proposals is not None:
        dataset, note = with_proposals(dataset, Path(getattr(data.proposals, split)), split)
        source.notes.append(note)
    return dataset


def anchor_warning(config: Config, dataset: DetectionDataset) -> str | None:
    """Return a warning if the config's anchors fit the data badly; None for two-stage heads."""
    if not isinstance(config.model.head, YOLOHeadConfig):
        return None
    anchors = [size for level in config.model.head.anchors for size in level]
    return poor_fit_warning(network_box_sizes(dataset, config.input.size), np.array(anchors, dtype=np.float64))


def training_sizes(config: Config) -> tuple[tuple[int, int], ...]:
    """(height, width) of the network's input that batches have."""
    scales = config.train.multi_scale
    return multi_scale_sizes(**scales.model_dump()) if scales else (config.input.size,)


def repeat_lines(config: Config, dataset: DetectionDataset) -> list[str]:
    """Return messages about images that an epoch repeats."""
    thresh = config.train.repeat_thresh
    return [describe_repeats(dataset, repeat_factors(dataset, thresh), thresh)] if thresh else []


def training_loader(
    config: Config,
    dataset: DetectionDataset,
    ranks: Ranks,
    *,
    workers: int = 0,
    pin_memory: bool = False,
    padding: Padding | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> Loader[TrainBatchSampler]:
    """Shuffled batches of augmented images; see ``Loader`` and ``TrainingSamples`` for the last four."""
    if dataset.shards is not None:
        dataset.shards.check_cache(config.train.shuffle_shards, ranks.on_machine)
    values = config.augment.model_dump(exclude={"close_epochs"})
    samples = TrainingSamples(
        dataset,
        Augmentation(**values),
        seed=config.train.seed,
        resize=config.input.resize,
        cache_bytes=cache_bytes,
    )
    sampler = TrainBatchSampler(
        len(dataset),
        config.train.batch_size,
        training_sizes(config),
        seed=config.train.seed,
        rank=ranks.rank,
        world_size=ranks.world_size,
        repeat_factors=repeat_factors(dataset, config.train.repeat_thresh).images,
        combine_epochs=max(0, config.train.epochs - config.augment.close_epochs),
        most_batches=config.train.epoch_batches,
        shards=None if dataset.shards is None else dataset.shards.shard,
        shuffle_shards=config.train.shuffle_shards,
    )
    return Loader(samples, sampler, workers=workers, pin_memory=pin_memory, padding=padding or Padding())
