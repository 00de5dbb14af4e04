"""Measures the range, mean and standard deviation of the channels of a data set's images, for ``input`` of a config."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from yolofpn.bands import Bands, Range, with_channels, wrong_channels
from yolofpn.config import Config, VocCorners, read_yaml, validate
from yolofpn.data.images import read_native
from yolofpn.data.layouts import open_data
from yolofpn.errors import InputError, UserError
from yolofpn.files import replace_file

MOST_IMAGES = 500
PIXELS = 10_000  # of an image that are looked at, at most
VALUES = 2**26  # of all images and channels that are looked at, at most
_PERCENTILES = (0.1, 99.9)
_MARGIN = 0.1  # of their distance: objects may be brighter than all but a thousandth


@dataclass(frozen=True)
class BandStatistics:
    """What was measured.

    Attributes:
        images: how many were read.
        dtype: of their values.
        extremes: smallest and largest value of each channel that was seen.
        range: the values of each channel that should become 0 and 1: from the 0.1th to the 99.9th percentile, and a
            tenth of their distance beyond, within the extremes. None for 8-bit colours, which stay as they are.
        mean: of each channel, where the range is 0..1.
        std: standard deviation of the same values.
        notes: images that were skipped.
    """

    images: int
    dtype: str
    extremes: tuple[Range, ...]
    range: tuple[Range, ...] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    notes: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """The keys of the section ``input``."""
        found: dict[str, Any] = {"channels": len(self.mean)}
        if self.range is not None:
            pairs = [list(pair) for pair in self.range]
            found["range"] = pairs[0] if len(pairs) == 1 else pairs
        return {**found, "mean": list(self.mean), "std": list(self.std)}

    def lines(self) -> list[str]:
        """The report, and the section to paste into a config."""
        spans = ", ".join(f"{low:g} to {high:g}" for low, high in self.extremes)
        section = [f"  {key}: {value}" for key, value in self.settings().items()]
        return [*self.notes, f"{self.images} images of {self.dtype}, values {spans}", "input:", *section]


def measure_bands(
    data: str | Path,
    *,
    root: Path | None = None,
    voc_corners: VocCorners | None = None,
    split: str = "train",
    channels: int | None = None,
    most: int = MOST_IMAGES,
) -> BandStatistics:
    """Measure the images of a split.

    Args:
        data: as ``open_data`` takes it.
        root: its folder, instead of the one that a file names.
        voc_corners: how VOC's corners are read, instead of how they look.
        split: which split.
        channels: of the images; None: as many as the first one has.
        most: images that are read, spread evenly over the split.

    Raises:
        UserError: the data set cannot be read, or none of the images can.
    """
    dataset = open_data(data, root, voc_corners).load(split)
    indices = np.unique(np.linspace(0, len(dataset) - 1, min(most, len(dataset))).round().astype(int))
    rng = np.random.default_rng(0)
    samples: list[NDArray[Any]] = []
    extremes: list[NDArray[Any]] = []
    notes: list[str] = []
    for index in indices.tolist():
        path = dataset.paths[index]
        try:
            content = dataset.encoded(index)
            values = _read(Path(path) if content is None else content, channels, path)
            if samples and values.dtype != samples[0].dtype:
                raise InputError(f"{path}: its values are {values.dtype}, those of others {samples[0].dtype}")
        except InputError as error:
            notes.append(f"skipped: {error}")
            continue
        channels = values.shape[2]
        flat = values.reshape(-1, channels)
        if flat.dtype.kind == "f":
            flat = flat[~np.isnan(flat).any(axis=1)]  # pixels without a value, such as those beside a satellite's path
        if len(flat) == 0:
            notes.append(f"skipped: {path}: each of its pixels has a band that is NaN")
            continue
        # Random pixels: evenly spaced ones may fall into the same few columns.
        most_pixels = max(1, min(PIXELS, VALUES // (len(indices) * channels)))
        samples.append(
            flat[rng.choice(len(flat), most_pixels, replace=False)] if len(flat) > most_pixels else flat.copy()
        )
        extremes += [flat.min(axis=0), flat.max(axis=0)]
    if not samples:
        raise UserError(f"{data}: none of the {len(indices)} images can be read\n" + "\n".join(notes[:3]))
    return _statistics(samples, np.array(extremes), notes)


def _read(source: Path | bytes, channels: int | None, path: str) -> NDArray[Any]:
    """The values [H, W, N] of an image.

    Raises:
        InputError: it cannot be read, has another number of channels, or infinite values.
    """
    values = with_channels(read_native(source, channels, name=path))
    if channels is not None and values.shape[2] != channels:
        raise InputError(wrong_channels(path, values.shape[2], channels))
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise InputError(f"{path}: has values that are infinite")
    return values


def _statistics(samples: Sequence[NDArray[Any]], extremes: NDArray[Any], notes: Sequence[str]) -> BandStatistics:
    dtype, channels = samples[0].dtype, samples[0].shape[1]
    lowest, highest = (ends.astype(np.float64).tolist() for ends in (extremes.min(axis=0), extremes.max(axis=0)))
    is_plain = dtype == np.uint8 and channels == 3
    ranges, means, stds = [], [], []
    for band in range(channels):  # one at a time: all in float64 would need eight bytes for each value
        values = np.concatenate([sample[:, band] for sample in samples])
        own = None if is_plain else _range_of(values, lowest[band], highest[band])
        scaled = Bands(1, own and (own,)).read_values(values[:, None], "sample") / 255
        ranges.append(own)
        means.append(_short(float(scaled.mean(dtype=np.float64))))
        stds.append(max(_short(float(scaled.std(dtype=np.float64))), 1e-6))
    return BandStatistics(
        len(samples),
        str(dtype),
        tuple(zip(lowest, highest, strict=True)),
        tuple(own for own in ranges if own is not None) or None,
        tuple(means),
        tuple(stds),
        tuple(notes),
    )


def _range_of(values: NDArray[Any], lowest: float, highest: float) -> Range:
    """The range of a band: its percentiles and a margin, within ``lowest`` and ``highest``."""
    low, high = np.percentile(values.astype(np.float64), _PERCENTILES).tolist()
    margin = _MARGIN * (high - low)
    low, high = max(low - margin, lowest), min(high + margin, highest)
    high = high if high > low else low + 1
    if values.dtype.kind != "f":
        low, high = math.floor(low), math.ceil(high)
    return _short(low), _short(high)


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def write_settings(path: Path, settings: dict[str, Any]) -> None:
    """Set keys of the section ``input`` of a model's YAML file; its comments stay.

    Raises:
        UserError: it cannot be read or written, or would no longer be a config.
    """
    read_yaml(path)  # says what is wrong with it
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 120
    tree = yaml.load(path.read_text(encoding="utf-8"))
    if tree.get("input") is None:
        tree["input"] = CommentedMap()
    section = tree["input"]
    section.fa.set_block_style()
    section.pop("range", None)
    for key, value in settings.items():
        section[key] = value
        if isinstance(value, list):
            section[key] = CommentedSeq(value)
            section[key].fa.set_flow_style()
    text = StringIO()
    yaml.dump(tree, text)
    plain = YAML(typ="safe", pure=True).load(text.getvalue())
    validate(Config, plain, str(path))
    try:
        replace_file(path, text.getvalue().encode())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
