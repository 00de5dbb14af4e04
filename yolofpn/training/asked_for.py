"""What a run was asked for, before its data and weights completed it; ``--auto-resume`` compares it after a restart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yolofpn.config import Config
from yolofpn.errors import UserError
from yolofpn.reading import ParseError, parse_json

STAYS = (
    "a run resumes as it started; --epochs may become larger, and --data and data.root (of the same data elsewhere), "
    "--workers, --device and --output may change"
)
_LENGTH = {"train.epochs", "train.reference_images"}  # what --epochs N replaces


def describe(config: Config, weights: str | None, overfit: int | None) -> str:
    """What flags and YAML file ask for, as JSON: not where the data lie, which are compared by their content.

    Args:
        config: as the flags make it.
        weights: what the model starts from.
        overfit: train and evaluate on so many images only.
    """
    tree = config.model_dump(mode="json", exclude={"data": True, "train": {"workers"}})
    return json.dumps({"--weights": weights, "--overfit": overfit, **tree})


def refuse_other_request(run: Path, before: str, now: str, *, longer: bool) -> None:
    """A run that is resumed with other flags would ignore them.

    Args:
        run: its folder.
        before: what it was asked for; empty: its checkpoint is of a version that did not store that.
        now: what the flags ask for.
        longer: the flags give the number of epochs, which is compared elsewhere.

    Raises:
        UserError: they ask for something else.
    """
    try:
        changes = list(_changes(parse_json(before or "{}"), parse_json(now)))
    except ParseError as error:
        raise UserError(f"{run}: its checkpoint is damaged ({error})") from None
    for key, old, new in changes:
        if not longer or key not in _LENGTH:
            raise UserError(f"{run}: began with {key} {old}, not {new}: {STAYS}\nundo that, or give another --output")


def _changes(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, str, str]]:  # noqa: ANN401
    """(key, old value, new value); keys that only one of two versions of the program knows are no change."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in [name for name in now if name in before]:
            yield from _changes(before[name], now[name], f"{key}.{name}" if key else name)
    elif before != now:
        yield key, json.dumps(before), json.dumps(now)
