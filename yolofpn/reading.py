"""Reading what others wrote: one parse boundary per format, and bounds that hold before memory is spent.

Whatever a parser raises on unexpected text (ValueError, RecursionError, KeyError, ...) becomes a ``ParseError``, and
every size is checked against a limit before anything of that size is made.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolofpn.errors import UserError
from yolofpn.regular_files import open_regular_file

if TYPE_CHECKING:
    from xml.etree import ElementTree

MAX_CLASSES = 100_000
MAX_SIDE = 2**20  # pixels of an annotated image's side
MAX_INPUT_SIDE = 8192  # pixels of a network's input
MAX_YAML_BYTES = 4_000_000
MAX_XML_BYTES = 16_000_000
MAX_TEXT_BYTES = 256_000_000  # of a list of images, class names or labels
MAX_FOLDER_DEPTH = 64  # of folders within each other


class ParseError(ValueError):
    """Text that is not what it should be; the message is a reason that fits into one line.

    Attributes:
        line: where, from 1; None where it is not known.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.line = line


def short(value: object) -> str:
    """``repr(value)`` in a few dozen characters, however long or deeply nested it is."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlevel = 3


def read_bounded(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most ``limit`` bytes.

    Raises:
        OSError: it cannot be read, or is no regular file.
        ParseError: it is larger.
    """
    with open_regular_file(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ParseError(f"is larger than the limit of {limit:,} bytes")
    return data


def read_text(path: Path, limit: int = MAX_TEXT_BYTES) -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    Bytes that are not UTF-8 come as lone surrogates (``surrogateescape``), since names of files may hold them.

    Raises:
        OSError: it cannot be read.
        ParseError: it is larger than ``limit`` bytes or holds NUL characters, so it is no text.
    """
    data = read_bounded(path, limit)
    if b"\0" in data:
        raise ParseError("holds NUL bytes, so it is not text")
    return data.decode("utf-8-sig", "surrogateescape")


def exists(path: Path) -> bool:
    """Whether a file or folder of that name is there; a name that none can have is no error."""
    try:
        return path.exists()
    except (OSError, ValueError):  # such as one of 5,000 characters
        return False


def is_encodable(text: str) -> bool:
    """Whether ``text`` can be written as UTF-8: it holds no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_class_names(names: Sequence[str], origin: object) -> None:
    """See that class names are few enough and can be written.

    Args:
        names: by label.
        origin: the file to name in errors.

    Raises:
        UserError: there are more than ``MAX_CLASSES``, or one holds characters that UTF-8 cannot encode.
    """
    check_class_count(len(names), origin)
    for label, name in enumerate(names):
        if not is_encodable(name):
            raise UserError(f"{origin}: the name of class {label} is not valid UTF-8: save the file as UTF-8")


def check_class_count(count: int, origin: object) -> None:
    """See that a number of classes is within the limit.

    Raises:
        UserError: it is above ``MAX_CLASSES``.
    """
    if count > MAX_CLASSES:
        shown = f"{count:,}" if count < 10**18 else "far too many"
        raise UserError(f"{origin}: {shown} classes, at most {MAX_CLASSES:,} are possible: check the number")


def as_side(value: object) -> int:
    """An annotated width or height as whole pixels; 0 where there is none (missing, NaN, below 1).

    Raises:
        ParseError: it is no number, infinite, or above ``MAX_SIDE``.
    """
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ParseError(f"{short(value)} is not a size in pixels")
    if value != value or value < 1:
        return 0
    if value > MAX_SIDE:
        raise ParseError(f"a side of {short(value)} pixels is beyond the limit of {MAX_SIDE:,}")
    return int(value)


def parse_json(data: str | bytes, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:  # noqa: ANN401
    """JSON text as Python values.

    Raises:
        ParseError: it is not valid JSON, nested too deeply, or holds a number of too many digits.
    """
    try:
        return json.loads(data, object_hook=object_hook)
    except json.JSONDecodeError as error:
        raise ParseError(f"{error.msg} at column {error.colno}", error.lineno) from None
    except RecursionError:
        raise ParseError("nested too deeply") from None
    except ValueError as error:
        raise ParseError(str(error)[:120]) from None


def parse_xml(path: Path) -> ElementTree.Element:
    """The root element of an XML file.

    Raises:
        OSError: it cannot be read.
        ParseError: it is not valid XML, declares entities (which could grow without limit), or is larger than
            ``MAX_XML_BYTES``.
    """
    from xml.etree import ElementTree

    data = read_bounded(path, MAX_XML_BYTES)
    if b"<!ENTITY" in data.replace(b"\0", b""):  # in UTF-16, too
        raise ParseError("declares entities, which labels do not need")
    try:
        root: ElementTree.Element = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise ParseError(str(error)[:120], error.position[0]) from None
    except (ValueError, LookupError) as error:  # encodings that Python does not have
        raise ParseError(str(error)[:120]) from None
    return root
