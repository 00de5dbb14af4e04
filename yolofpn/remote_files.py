"""Access to files at addresses that may fail now and then: object storage and the web through fsspec, and attempts.

Credentials come from the environment, as the libraries of each storage read them. Messages show addresses without
user, password and tokens, and never the text of a library's error, which may repeat them.
"""

from __future__ import annotations

import random
import time
import urllib.error
from collections.abc import Callable
from typing import Any, TypeVar

from yolofpn.addresses import local_path, shown
from yolofpn.errors import InputError, UserError, install_hint
from yolofpn.extras import is_installed
from yolofpn.files import NO_ROOM
from yolofpn.regular_files import SpecialFileError

T = TypeVar("T")

PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds before further attempts, each shortened at random by up to a half
# Errors that no attempt mends.
LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, SpecialFileError)


class MissingError(InputError):
    """There is nothing at that address."""


def file_system(uri: str, extra: str = "ray") -> tuple[Any, str]:
    """The fsspec file system of an address, and the path within it.

    Args:
        uri: the address.
        extra: of this package, which installs fsspec.

    Raises:
        UserError: fsspec or its package for such addresses is not installed, or it knows no such addresses.
    """
    scheme = uri.partition("://")[0]
    if not is_installed("fsspec"):
        raise UserError(f"{shown(uri)}: fsspec is not installed: {install_hint(extra)}")
    from fsspec.core import url_to_fs

    try:
        system, place = url_to_fs(uri, use_listings_cache=False)
    except ImportError as error:  # its text names the package, and nothing of the address
        raise UserError(f"{shown(uri)}: {error}") from None
    except ValueError:
        raise UserError(f"{shown(uri)}: addresses of the kind {scheme}:// are not known to fsspec") from None
    return system, place


def attempted(action: Callable[[], T], name: str, what: str = "read", *, to_disk: bool = False) -> T:
    """What ``action`` returns; it is tried again, with growing pauses, after errors that may pass.

    Args:
        action: may raise OSError and its kind.
        name: of the file, in messages.
        what: 'read', 'listed', 'written' or the like.
        to_disk: it writes to a disk of this machine.

    Raises:
        MissingError: there is no such file.
        InputError: it failed each time, or for a lasting reason.
        OSError: that disk is full, which is left to the caller.
    """
    for pause in (*PAUSES, None):
        try:
            return action()
        except FileNotFoundError:
            raise MissingError(f"{name}: no such file or folder; check the path") from None
        except UserError as error:
            if pause is None or not _may_pass(error.__context__):
                raise
        except Exception as error:  # libraries of storage have errors of their own
            if to_disk and isinstance(error, OSError) and error.errno in NO_ROOM:
                raise
            if pause is None or isinstance(error, LASTING):
                reason = getattr(error, "strerror", None) if local_path(name) is not None else None
                hint = "check the address and the credentials in the environment"
                hint = hint if local_path(name) is None else "check the file and its permissions"
                raise InputError(f"{name}: cannot be {what} ({reason or type(error).__name__}); {hint}") from None
        time.sleep(pause * random.uniform(0.5, 1))
    raise AssertionError("the last attempt returns or raises")


def _may_pass(cause: BaseException | None) -> bool:
    """Whether what an http address answered may be another time."""
    if isinstance(cause, urllib.error.HTTPError):
        return cause.code >= 500 or cause.code in (408, 429)
    return isinstance(cause, OSError)
