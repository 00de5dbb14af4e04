"""What tells images apart: their addresses, without what changes from one day to the next, as digests.

Shown addresses would not do: of ``?key=1`` and ``?key=2`` both are shown as ``?key=***``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from yolofpn.addresses import is_url, without_user

DIGEST_BYTES = 16  # of an identity: two of 10^9 images agree by chance in one of 10^20 runs
DIGEST = f"S{DIGEST_BYTES}"  # NumPy's type of them
# Keys of presigned addresses, which are made anew for each run: those of S3 and Google Cloud Storage, and of their
# older signatures and CloudFront.
_SIGNATURE = re.compile(r"(?i)(x-amz-|x-goog-).*|awsaccesskeyid|googleaccessid|key-pair-id|signature")
# Keys that belong to a signature if there is one: of CloudFront and the older signatures, and of Azure.
_AZURE = frozenset({"sig", "se", "st", "sp", "sv", "sr", "sip", "spr", "skoid", "sktid", "skt", "ske", "sks", "skv"})
_BESIDE = {"signature": frozenset({"expires", "policy"}), "sig": _AZURE}


def identity(uri: str) -> str:
    """A path as it is, or an address without user, password and signature: the same in every run."""
    if not is_url(uri):
        return uri
    address = without_user(uri)
    place, mark, query = address.partition("?")
    if not mark:
        return address
    values = query.split("&")
    keys = {value.partition("=")[0].lower() for value in values}
    dropped = frozenset[str]().union(*(others for key, others in _BESIDE.items() if key in keys))
    kept = [
        value
        for value, key in ((value, value.partition("=")[0].lower()) for value in values)
        if key not in dropped and not _SIGNATURE.fullmatch(key)
    ]
    return f"{place}?{'&'.join(kept)}" if kept else place


def key_of(name: str) -> str:
    """The digest of an identity, hexadecimal."""
    return _digest(name).hex()


def digests(names: Iterable[str]) -> NDArray[np.bytes_]:
    """[N] 16-byte digests of identities."""
    return np.frombuffer(b"".join(map(_digest, names)), DIGEST)


def digests_of_keys(keys: Iterable[str]) -> NDArray[np.bytes_]:
    """[N] 16-byte digests, of which ``key_of`` gave the keys.

    Raises:
        ValueError: one is no such key.
    """
    return np.frombuffer(b"".join(map(bytes.fromhex, keys)), DIGEST)


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "backslashreplace"), digest_size=DIGEST_BYTES).digest()
