"""YAML text as Python values, within bounds that hold before memory is spent (``reading.py`` has other formats)."""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    Event,
    ScalarEvent,
)
from ruamel.yaml.parser import Parser

from yolofpn.reading import ParseError, short

MAX_DEPTH = 64  # of nested YAML collections
MAX_WRITTEN_NODES = 250_000  # of a YAML file, which takes its parser a minute; 100,000 numbered names are 200,000
MAX_NODES = 1_000_000  # of a YAML file, with every alias written out


def parse_yaml(text: str) -> Any:  # noqa: ANN401
    """YAML 1.2 text as plain Python values.

    Raises:
        ParseError: it is not valid YAML, nested deeper than ``MAX_DEPTH``, larger than ``MAX_WRITTEN_NODES``,
            or than ``MAX_NODES`` with its aliases written out, or holds values that have no Python type.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Parser = _BoundedParser
    try:
        tree = yaml.load(text)
        _refuse_nul(tree)
        return tree
    except ParseError:
        raise
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise ParseError(str(error.problem or error).splitlines()[0][:120], line) from None
    except Exception as error:  # the constructors of values raise anything from KeyError to OverflowError
        reason = next(iter(str(error).splitlines()), "")[:120]
        raise ParseError(f"{type(error).__name__} {reason}".rstrip()) from None


def _refuse_nul(tree: object) -> None:
    """No path, name or number holds NUL, which only an escape in quotes can write; the system takes no such path."""
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, str) and "\0" in node:
            raise ParseError(f"{short(node)} holds a NUL character")
        if isinstance(node, dict):
            nodes += [*node.keys(), *node.values()]
        elif isinstance(node, list | tuple | set):
            nodes += node


class _BoundedParser(Parser):
    """Counts depth and nodes while events are made, and so before anything is built from them."""

    def __init__(self, loader: Any) -> None:  # noqa: ANN401
        super().__init__(loader)
        self._open: list[tuple[str | None, int]] = []  # anchor and node count before, of each open collection
        self._nodes = 0
        self._written = 0  # with an alias counted once
        self._sizes: dict[str, int] = {}  # nodes below each anchor

    def get_event(self) -> Any:  # noqa: ANN401
        """The next event.

        Raises:
            ParseError: a limit is exceeded.
        """
        event = super().get_event()
        if event is not None:
            self._count(event)
        return event

    def _count(self, event: Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else None
        if isinstance(event, AliasEvent):
            if event.anchor not in self._sizes:
                raise ParseError(f"alias {short(event.anchor)} stands for nothing, or for what holds it", line)
            self._nodes += self._sizes[event.anchor]
        elif isinstance(event, ScalarEvent):
            self._nodes += 1
            self._note(event.anchor, 1)
        elif isinstance(event, CollectionStartEvent):
            self._open.append((event.anchor, self._nodes))
            self._nodes += 1
        elif isinstance(event, CollectionEndEvent):
            anchor, before = self._open.pop()
            self._note(anchor, self._nodes - before)
        if len(self._open) > MAX_DEPTH:
            raise ParseError(f"nested deeper than {MAX_DEPTH} levels", line)
        self._written += not isinstance(event, CollectionEndEvent)
        if self._written > MAX_WRITTEN_NODES:
            raise ParseError(f"more than {MAX_WRITTEN_NODES:,} values", line)
        if self._nodes > MAX_NODES:
            raise ParseError(f"more than {MAX_NODES:,} values, aliases written out", line)

    def _note(self, anchor: str | None, size: int) -> None:
        if anchor is not None:
            self._sizes[anchor] = size
