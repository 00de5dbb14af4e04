"""Images inside of tar files (shards), which are read at their offsets without unpacking."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolofpn.addresses import is_url, shown_url, without_user
from yolofpn.data.shard_cache import local_shard, require_room
from yolofpn.errors import InputError

NO_SHARD = -1  # of an image with a file of its own


@dataclass(frozen=True, eq=False)
class Shards:
    """Where the images of a data set lie in their tar files.

    Attributes:
        places: path or URL of each tar file.
        shard: [N] int32, index into ``places``; ``NO_SHARD``: the image has a file of its own.
        offsets: [N] int64, first byte of the image in it.
        sizes: [N] int64, its bytes.
    """

    places: tuple[str, ...]
    shard: NDArray[np.int32]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def read(self, index: int, name: str) -> bytes | None:
        """The encoded image ``index``; None if it has a file of its own.

        Args:
            index: which image.
            name: of it, for messages.

        Raises:
            InputError: its shard is missing, shorter than when it was opened, or cannot be downloaded.
        """
        shard, size = int(self.shard[index]), int(self.sizes[index])
        if shard == NO_SHARD:
            return None
        path = local_shard(self.places[shard])
        try:
            with path.open("rb") as file:
                # Where there is less, so much memory is not even reserved.
                whole = file.seek(0, 2) >= int(self.offsets[index]) + size
                file.seek(int(self.offsets[index]))
                content = file.read(size) if whole else b""
        except OSError as error:
            raise InputError(f"{name}: {error.strerror or error}") from None
        if len(content) < size:
            raise InputError(f"{name}: {shard_name(self.places[shard])} is shorter than when it was opened: damaged")
        return content

    def check_cache(self, at_once: int, processes: int) -> None:
        """Look whether the shards that a training mixes fit into the cache.

        Args:
            at_once: how many each process reads in turns.
            processes: of this machine, each of which has its own.

        Raises:
            UserError: they do not.
        """
        remote = np.array([is_url(place) for place in self.places], dtype=np.bool_)
        ends = np.zeros(len(self.places), dtype=np.int64)  # of the last image: the file is hardly larger
        own = self.shard != NO_SHARD
        np.maximum.at(ends, self.shard[own], (self.offsets + self.sizes)[own])
        largest = np.sort(ends[remote])[::-1][: at_once * processes]
        if len(largest):
            require_room(int(largest.sum()), f"the {len(largest)} shards that are mixed at a time")

    def subset(self, chosen: NDArray[np.int64]) -> Shards:
        """The places of the images ``chosen``."""
        return Shards(self.places, self.shard[chosen], self.offsets[chosen], self.sizes[chosen])

    @property
    def nbytes(self) -> int:
        """Memory of the arrays in bytes."""
        return self.shard.nbytes + self.offsets.nbytes + self.sizes.nbytes


def join_shards(parts: Sequence[tuple[Shards | None, int]]) -> Shards | None:
    """The places of the images of several data sets, given with their numbers of images."""
    if all(shards is None for shards, _ in parts):
        return None
    places: list[str] = []
    rows: list[tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]] = []
    for shards, count in parts:
        if shards is None:
            zeros = np.zeros(count, dtype=np.int64)
            rows.append((np.full(count, NO_SHARD, dtype=np.int32), zeros, zeros))
            continue
        moved = np.where(shards.shard == NO_SHARD, NO_SHARD, shards.shard + len(places)).astype(np.int32)
        rows.append((moved, shards.offsets, shards.sizes))
        places += shards.places
    shard, offsets, sizes = zip(*rows, strict=True)
    return Shards(tuple(places), np.concatenate(shard), np.concatenate(offsets), np.concatenate(sizes))


def shards_in(places: Iterable[Path]) -> list[Path]:
    """The tar files of folders, in order of their names."""
    return sorted(path for place in places for path in place.glob("*.tar") if path.is_file())


def shard_name(place: str) -> str:
    """A shard as messages and image names call it: a URL without its query, which may be a signature."""
    return shown_url(place).partition("?")[0] if is_url(place) else place


def image_name(place: str, member: str) -> str:
    """What an image of a shard is called: ``train-000000.tar/0001.jpg`` in the folder of the shard."""
    return posixpath.join(shard_name(place), member)


def has_password(place: str) -> bool:
    """Whether a URL has a user or password in it."""
    return is_url(place) and without_user(place) != place
