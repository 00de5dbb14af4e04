"""Parts of many sources, for jobs that share the work."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from yolofpn.sources.kinds import Source


class Shard(NamedTuple):
    """One of several equal parts, from 1; each source belongs to one, whatever other sources there are."""

    number: int
    parts: int

    def __str__(self) -> str:
        return f"{self.number}/{self.parts}"

    def of(self, sources: Iterator[Source]) -> Iterator[Source]:
        """The sources of this part, by the sha256 of their relative paths, which no machine's folders change."""
        for source in sources:
            digest = hashlib.sha256(source.relative_path.as_posix().encode("utf-8", "surrogateescape")).digest()
            if int.from_bytes(digest[:8]) % self.parts == self.number - 1:
                yield source
