import errno
import io
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from yolofpn.errors import UserError
from yolofpn.files import AppendFile, StandardOutput, write_atomically


def test_a_file_is_complete_after_every_append(tmp_path: Path) -> None:
    file = AppendFile(tmp_path / "sub" / "a.json", head="[", tail="]")
    path = tmp_path / "sub" / "a.json"
    assert path.read_text() == "[]"
    file.append("1")
    assert path.read_text() == "[1]"
    file.append(",22")
    assert path.read_text() == "[1,22]"
    file.close()
    assert path.read_text() == "[1,22]"


def test_a_disk_that_fills_in_the_middle_of_a_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = AppendFile(tmp_path / "a.json", head="[", tail="]")
    file.append("1")
    raw = file._file

    class Full:
        """Takes three more bytes; cutting the file makes room again."""

        room = 3

        def write(self, data: bytes) -> int:
            if self.room == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written = raw.write(data[: self.room])
            self.room -= written
            return written

        def truncate(self, size: int) -> None:
            raw.truncate(size)
            self.room = 4

        seek, close, fileno = raw.seek, raw.close, raw.fileno

    monkeypatch.setattr(file, "_file", Full())
    with pytest.raises(UserError, match="written"):
        file.append(",23456789")
    assert (tmp_path / "a.json").read_text() == "[1]"
    file.append(",7")
    file.close()
    assert (tmp_path / "a.json").read_text() == "[1,7]"


def test_names_that_are_no_valid_unicode_can_be_written(tmp_path: Path) -> None:
    file = AppendFile(tmp_path / "a.json", head='"\udcff ä"')
    file.close()
    assert (tmp_path / "a.json").read_bytes() == b'"\\udcff \xc3\xa4"'


def test_a_file_where_a_folder_is_needed_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="written"):
        AppendFile(tmp_path / "file" / "a.json")
    with pytest.raises(UserError, match="--output"):
        write_atomically(tmp_path / "file" / "a.json", b"")


def test_a_full_device_is_an_error_of_the_user() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with pytest.raises(UserError, match="written"):
        AppendFile(Path("/dev/full"), head="x")


def test_a_failed_atomic_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomically(tmp_path / "a.bin", b"old")

    def half(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[:1])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(UserError, match=r"a\.bin"):
        write_atomically(tmp_path / "a.bin", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == b"old"


def test_standard_output_is_flushed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8"))
    output = StandardOutput()
    output.append("a\n")
    assert raw.getvalue() == b"a\n"
    output.close()
    sys.stdout.write("still open")


def test_a_reader_that_leaves_ends_the_output_without_a_traceback() -> None:
    program = """
from yolofpn.errors import UserError
from yolofpn.files import StandardOutput
import sys
try:
    for _ in range(100_000):
        StandardOutput().append("a line\\n")
except UserError as error:
    print(error, file=sys.stderr)
"""
    writer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stderr is not None
    assert writer.stdout.readline() == b"a line\n"
    writer.stdout.close()
    message = writer.stderr.read().decode()
    assert writer.wait() == 0
    assert message.startswith("standard output: Broken pipe")
    assert message.count("\n") == 1
    writer.stderr.close()


def test_lines_reach_the_disk_within_about_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut would leave cannot be tried here, but when the system is told to write can."""
    clock, synced = [0.0], list[int]()
    monkeypatch.setattr("yolofpn.files.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("yolofpn.files.os.fsync", lambda number: synced.append((tmp_path / "a.txt").stat().st_size))
    file = AppendFile(tmp_path / "a.txt")
    for seconds in (0.1, 0.9, 1.1, 1.5, 2.3):
        clock[0] = seconds
        file.append("line\n")
    assert synced == [15, 25]
    file.append("line\n")
    file.close()
    assert synced == [15, 25, 30]


@pytest.mark.parametrize(("number", "fails"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_disk_that_cannot_write_is_told_and_a_pipe_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, fails: bool
) -> None:
    def fail(_number: int) -> None:
        raise OSError(number, "it cannot")

    file = AppendFile(tmp_path / "a.txt")
    monkeypatch.setattr("yolofpn.files.os.fsync", fail)
    with pytest.raises(UserError, match="it cannot") if fails else nullcontext():
        file.close()
