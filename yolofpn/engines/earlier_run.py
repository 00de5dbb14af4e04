"""The folder of a run: its settings, and what it holds when it is resumed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from yolofpn.addresses import shown
from yolofpn.engines.identities import DIGEST, digests_of_keys
from yolofpn.engines.job import Job
from yolofpn.engines.listing import TAR_SUFFIXES
from yolofpn.engines.part_files import part_of
from yolofpn.engines.storage import join, names_in, read_bytes, remove, write_bytes
from yolofpn.engines.unit_detector import LARGEST_PART
from yolofpn.engines.units import DoneUnits
from yolofpn.errors import UserError
from yolofpn.remote_files import MissingError

SETTINGS = "run.json"
READERS = 16  # part files that are read at once


def start_run(job: Job, weights_digest: str) -> None:
    """Write the settings of a new run.

    Raises:
        UserError: the folder has part files of another one, or cannot be written.
    """
    if next(part_names(job), None) is not None:
        raise UserError(
            f"{shown(job.output)}: has results of another run: resume it with --resume, or choose another --output"
        )
    write_bytes(join(job.output, SETTINGS), json.dumps(_settings(job, weights_digest), indent=1).encode())


def resume_run(job: Job, weights_digest: str) -> DoneUnits:
    """What the part files of an earlier run hold; those of tars that were not read to their end are removed.

    Raises:
        UserError: there is no such run, it had other settings or weights, or a part file is damaged.
    """
    place = join(job.output, SETTINGS)
    try:
        earlier = json.loads(read_bytes(place))
    except MissingError:
        raise UserError(
            f"{shown(job.output)}: no run of --engine that can be resumed; start one with --output"
        ) from None
    except ValueError:
        raise UserError(f"{shown(place)}: is damaged; start a new run with another --output") from None
    now = json.loads(json.dumps(_settings(job, weights_digest)))
    if changed := [key for key in now if earlier.get(key) != now[key]]:
        raise UserError(
            f"{shown(job.output)}: was started with other {changed[0]}: use the same flags, or start a new run"
        )
    failed: dict[str, tuple[int, ...]] = {}
    images = [np.zeros(0, DIGEST)]
    names = list(part_names(job))
    with ThreadPoolExecutor(READERS, "parts") as pool:
        for name, (again, found, complete) in zip(names, pool.map(lambda n: _read_part(job, n), names), strict=True):
            if complete:
                failed[name] = again
                images.append(found)
            else:
                remove(join(job.output, name + part_of(job.form).suffix))
    return DoneUnits(failed, np.sort(np.concatenate(images)))


def part_names(job: Job) -> Iterator[str]:
    """The names of the part files, without suffix, in the order of the images."""
    suffix = part_of(job.form).suffix
    for name in names_in(job.output):
        if name.startswith("part-") and name.endswith(suffix):
            yield name.removesuffix(suffix)


def _read_part(job: Job, name: str) -> tuple[tuple[int, ...], Any, bool]:
    """Indices of failed rows, digests of the images, and whether no tar failed as a whole."""
    form = part_of(job.form)
    place = join(job.output, name + form.suffix)
    try:
        found = list(form.images(read_bytes(place, LARGEST_PART)))
        images = digests_of_keys(key for key, _, _ in found)
    except (ValueError, KeyError, TypeError, OSError):
        raise UserError(f"{shown(place)}: is damaged; remove it, and resume again") from None
    failed = [(index, image) for index, (_, image, error) in enumerate(found) if error is not None]
    complete = not any(image.lower().partition("?")[0].endswith(TAR_SUFFIXES) for _, image in failed)
    return tuple(index for index, _ in failed), images, complete


def _settings(job: Job, weights_digest: str) -> dict[str, Any]:
    return {"weights": weights_digest, **job.settings()}
