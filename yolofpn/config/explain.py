"""Formats validation errors of YAML files."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from yolofpn.fields import OneOf, StrictModel
from yolofpn.reading import short

MOST_PROBLEMS = 20  # more are only counted
KeyPath = tuple[str, ...]  # of nested keys, from the top of the file


def explain(schema: type[BaseModel], tree: Any, error: ValidationError) -> list[str]:  # noqa: ANN401
    """One line per wrong place in ``tree``: its dotted path, what is wrong, and the nearest key of an unknown one."""
    problems: dict[KeyPath, str] = {}
    for item in error.errors(include_url=False)[:MOST_PROBLEMS]:
        path = _path(tree, item["loc"])
        problem = _unknown_key(schema, path) if item["type"] == "extra_forbidden" else _wrong_value(dict(item))
        problems.setdefault(path, problem)  # where a value may be of several types, the first one tried speaks
    lines = [
        f"{'.'.join(path)}: {problem}" if path else problem
        for path, problem in problems.items()
        if not any(other[: len(path)] == path and other != path for other in problems)
    ]
    more = error.error_count() - MOST_PROBLEMS
    return [*lines, f"and {more:,} more"] if more > 0 else lines


def _path(tree: Any, location: Sequence[int | str]) -> KeyPath:  # noqa: ANN401
    """``location`` without what pydantic puts in beside keys: the tag of a union ("add"), a type that it tried."""
    path: list[str] = []
    node = tree
    for part in location:
        if isinstance(node, dict) and (part in node or part != node.get("type")):
            path.append(str(part)[:80])
            node = node.get(part)
        elif isinstance(node, list) and isinstance(part, int):
            path.append(str(part))
            node = node[part] if part < len(node) else None
    return tuple(path)


def _unknown_key(schema: type[BaseModel], path: KeyPath) -> str:
    """With the nearest key of the same section, else of the whole file."""
    known = list(_known_paths(schema))
    here = [key[-1] for key in known if key[:-1] == path[:-1]]
    near = difflib.get_close_matches(path[-1], here, n=1)
    if not near:
        anywhere = {key[-1]: ".".join(key) for key in known}
        near = [anywhere[key] for key in difflib.get_close_matches(path[-1], anywhere, n=1)]
    return "unknown key" + (f" (did you mean {near[0]!r}?)" if near else "")


def _wrong_value(item: dict[str, Any]) -> str:
    value = item["input"]
    match item["type"]:
        case "missing":
            return "is missing"
        case "model_type" | "model_attributes_type":
            return f"expected a section of keys, found {'nothing' if value is None else short(value)}"
        case "union_tag_not_found":
            return "lacks the key 'type'"
        case "union_tag_invalid":
            return f"type {short(item['ctx']['tag'])} is none of {item['ctx']['expected_tags']}"
        case "tuple_type":
            return f"expected a list, found {short(value)}"
        case "value_error":
            return str(item["msg"]).removeprefix("Value error, ")
    return f"{item['msg']}, found {short(value)}" if isinstance(value, str | int | float) else str(item["msg"])


def _known_paths(schema: type[BaseModel]) -> Iterator[KeyPath]:
    for name, info in schema.model_fields.items():
        yield (name,)
        for section in sections(info):
            yield from ((name, *rest) for rest in _known_paths(section))


def sections(info: FieldInfo) -> Iterator[type[StrictModel]]:
    """The sections that the value of a key may be."""
    for note in info.metadata:
        if isinstance(note, OneOf):
            yield from note.choices()
            return
    yield from _sections(info.annotation)


def _sections(annotation: Any) -> Iterator[type[StrictModel]]:  # noqa: ANN401
    """The sections within a type such as ``A | B | None``."""
    if isinstance(annotation, type) and issubclass(annotation, StrictModel):
        yield annotation
    else:
        for argument in get_args(annotation):
            yield from _sections(argument)
