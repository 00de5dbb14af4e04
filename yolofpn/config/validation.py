"""Reading YAML: typed, complete, and refused with the place and the remedy when something is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from yolofpn.config.explain import explain
from yolofpn.errors import UserError
from yolofpn.fields import StrictModel
from yolofpn.reading import MAX_YAML_BYTES, ParseError, read_bounded

T = TypeVar("T", bound="StrictModel")


def validate(schema: type[T], tree: Any, origin: str) -> T:  # noqa: ANN401
    """``tree`` as a ``schema``.

    Raises:
        UserError: one line per wrong key or value, each beginning with ``origin``.
    """
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        raise UserError("\n".join(f"{origin}: {line}" for line in explain(schema, tree, error))) from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML 1.2 file (``1e-3`` is a number, a repeated key an error) whose top level is a mapping.

    Raises:
        UserError: it is missing, unreadable, no YAML, or no mapping.
    """
    from yolofpn.yaml_text import parse_yaml

    try:
        tree = parse_yaml(read_bounded(Path(path), MAX_YAML_BYTES).decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file, so not a YAML file") from None
    except ParseError as error:
        where = f"line {error.line}: " if error.line else ""
        raise UserError(f"{path}: {where}not valid YAML: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: give the path of a YAML file, such as cfg/yolofpn.yaml") from None
    if not isinstance(tree, dict):
        found = "nothing" if tree is None else type(tree).__name__
        raise UserError(f"{path}: expected sections such as 'model:', found {found}")
    return tree
