"""Headers of tar files, whose sizes are only believed as far as the file and memory go."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO

from yolofpn.data.images import MAX_PIXELS

MAX_MEMBER_BYTES = 3 * MAX_PIXELS  # of the largest image without compression: 512 MiB
MAX_NAME_BYTES = 2**20  # of a header that only holds a name or the like, and is read into memory
_NAME_TYPES = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class CheckedInfo(tarfile.TarInfo):
    """A header; one that claims to hold a huge name ends the reading with a ``TarError``."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        # The entry point that the comments in tarfile name for subclasses.
        if self.type in _NAME_TYPES and not 0 <= self.size <= MAX_NAME_BYTES:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(tar)  # type: ignore[misc,no-any-return]


def complete_files(tar: tarfile.TarFile, file: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """The regular files of a tar, up to the first that ends behind the end of ``file``.

    Raises:
        TarError: there is such a file, or a header is damaged; all before it was yielded.
    """
    end = file.seek(0, 2)
    for entry in tar:
        if entry.size < 0 or entry.offset_data + entry.size > end:
            raise tarfile.ReadError(f"{entry.name} claims {entry.size} bytes, which the file does not have")
        if entry.isreg() and not entry.issparse():
            yield entry
