"""Units of work: images whose rows share a part file, and what an earlier run has done of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from yolofpn.engines.identities import DIGEST, digests, identity
from yolofpn.engines.listing import Listed


@dataclass(frozen=True)
class Unit:
    """Images that one worker detects in, and whose rows are written together.

    Attributes:
        name: of its part file, without suffix; the same in every run over the same sources.
        listed: the images, or a tar alone.
        again: of images whose rows are there, the indices of those that are tried again; None: there are no rows yet.
    """

    name: str
    listed: tuple[Listed, ...]
    again: tuple[int, ...] | None = None

    def to_json(self) -> str:
        """As text, with escapes for names of files that are not UTF-8."""
        return json.dumps([self.name, [[each.uri, each.kind, each.message] for each in self.listed], self.again])

    @classmethod
    def from_json(cls, text: str) -> Unit:
        """What ``to_json`` gave."""
        name, listed, again = json.loads(text)
        return cls(name, tuple(Listed(*each) for each in listed), None if again is None else tuple(again))


@dataclass(frozen=True)
class DoneUnits:
    """What the part files of an earlier run hold.

    Attributes:
        failed: by name of each part the indices of its rows with an error.
        images: [N] digests of the images of all parts, sorted.
    """

    failed: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    images: NDArray[np.bytes_] = field(default_factory=lambda: np.zeros(0, DIGEST))

    def holds(self, names: list[str]) -> NDArray[np.bool_]:
        """[len(names)] bool: which of the images, given by their identities, have rows; there are some."""
        asked = digests(names)
        places = np.searchsorted(self.images, asked)
        found: NDArray[np.bool_] = self.images[np.minimum(places, len(self.images) - 1)] == asked
        return found


def make_units(listed: Iterable[Listed], size: int) -> Iterator[Unit]:
    """Group images in the order in which they are listed; a tar is a unit of its own."""
    number = 0
    images: list[Listed] = []
    for each in listed:
        if each.kind == "tar":
            yield _unit(number, (each,))
            number += 1
            continue
        images.append(each)
        if len(images) == size:
            yield _unit(number, tuple(images))
            number, images = number + 1, []
    if images:
        yield _unit(number, tuple(images))


def undone(units: Iterable[Unit], done: DoneUnits) -> Iterator[Unit]:
    """The units that have no part yet, and those with images to be tried again.

    Where the sources have changed since, units are others: of these, the images that any part has are left out. Damaged
    images of a tar are not tried again: the tar was read.
    """
    tars = {name.rpartition("-")[2] for name in done.failed}  # digests, which its number does not change
    for unit in units:
        if unit.listed[0].kind == "tar":
            if unit.name.rpartition("-")[2] not in tars:
                yield unit
            continue
        if unit.name in done.failed:
            if again := done.failed[unit.name]:
                yield replace(unit, again=again)
            continue
        if not len(done.images):
            yield unit
            continue
        known = done.holds([identity(each.uri) for each in unit.listed])
        left = tuple(each for each, is_known in zip(unit.listed, known.tolist(), strict=True) if not is_known)
        if left:
            yield unit if len(left) == len(unit.listed) else _unit(int(unit.name.split("-")[1]), left)


def _unit(number: int, listed: tuple[Listed, ...]) -> Unit:
    names = "\0".join(identity(each.uri) for each in listed)
    digest = hashlib.blake2b(names.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
    return Unit(f"part-{number:08d}-{digest}", listed)
