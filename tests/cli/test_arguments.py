from __future__ import annotations

import argparse
import errno
import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from yolofpn.__main__ import COMMANDS
from yolofpn.cli.arguments import Parser, comma_list, image_size, positive_int, run_command, unit_float
from yolofpn.cli.detect import build_parser
from yolofpn.errors import UserError


def parse(*words: str) -> argparse.Namespace:
    namespace = build_parser().parse_args(words)
    assert isinstance(namespace, argparse.Namespace)
    return namespace


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that a wrong command line is answered with."""
    with pytest.raises(SystemExit) as end:
        parse(*words)
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


@pytest.mark.parametrize(
    ("words", "flag", "value"),
    [
        (["--imgsz", "416"], "img_size", (416, 416)),
        (["--img", "416"], "img_size", (416, 416)),
        (["--imgsz=416x608"], "img_size", (416, 608)),
        (["--conf", ".1"], "score_thresh", 0.1),
        (["--conf-thres", ".1"], "score_thresh", 0.1),
        (["--thresh", ".1"], "score_thresh", 0.1),
        (["--thresh=.1"], "score_thresh", 0.1),
        (["--iou", ".5"], "nms_thresh", 0.5),
        (["--iou-thres", ".5"], "nms_thresh", 0.5),
        (["--batch", "4"], "batch_size", 4),
        (["--model", "x.weights"], "weights", "x.weights"),
        (["--view-img"], "show", True),
        (["--nosave"], "media", "none"),
        (["--no-media"], "media", "none"),
        (["--cfg", "x.cfg"], "darknet_cfg", Path("x.cfg")),
    ],
)
def test_aliases(words: list[str], flag: str, value: object) -> None:
    assert getattr(parse(*words), flag) == value


def test_aliases_are_silent() -> None:
    text = build_parser().format_help()
    for alias in ("--imgsz", "--img ", "--conf", "--thresh", "--iou", "--batch ", "--model", "--view-img", "--nosave"):
        assert alias not in text
    assert "None" not in text


def test_sources_may_stand_anywhere() -> None:
    assert parse("a.jpg", "--show", "b.jpg", "-", "0").sources == ["a.jpg", "b.jpg", "-", "0"]
    assert parse("--source", "a.jpg", "b.jpg", "--show", "--source", "c.jpg").source == ["a.jpg", "b.jpg", "c.jpg"]
    assert parse("--classes", "dog", "cat", "--classes", "3").classes == ["dog", "cat", "3"]
    assert parse("--output", "-").output == "-"
    assert (parse().sources, parse().source, parse().format) == ([], [], ("jsonl",))


def test_unknown_flags_name_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    for typed, meant in {
        "--score-tresh": "--score-thresh",
        "--image-size": "--img-size",
        "--conf-thresh": "--score-thresh",
        "--weight": "--weights",
        "--imgs": "--img-size",
        "--clases=dog": "--classes",
    }.items():
        assert f"unknown flag {typed.partition('=')[0]}, did you mean {meant}?" in refusal(capsys, typed, "x")
    assert "unknown flag --xyz (see --help)" in refusal(capsys, "--xyz", ".3", "a.jpg")
    assert "unknown flag -x" in refusal(capsys, "-x")


def test_flags_of_other_programs_name_their_counterpart(capsys: pytest.CaptureFixture[str]) -> None:
    for typed, meant in {
        "--save-txt": "--format yolo",
        "--save_crop": "--format crops",
        "--half": "--precision fp16",
        "--project=runs": "--output DIR",
        "-save_labels": "--format labels",
    }.items():
        assert f"unknown flag {typed.partition('=')[0]}: use {meant} (see" in refusal(capsys, typed)
    for typed in ("--augment", "--visualize", "--line-thickness"):
        assert f"unknown flag {typed} (see" in refusal(capsys, typed)


def test_flags_that_a_command_lacks_are_not_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Parser(prog="other.py").parse_args(["--save-txt"])
    assert "--format" not in capsys.readouterr().err


def test_an_image_size_in_two_words_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--img-size", "--imgsz"):
        assert "--img-size takes one word: --img-size 384x640" in refusal(capsys, "a.jpg", flag, "384", "640")
    assert parse("--img-size", "384", "0").sources == ["0"]  # a camera
    assert parse("--img-size", "384", "640.jpg").sources == ["640.jpg"]


def test_flags_are_not_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown flag --weigh, did you mean --weights?" in refusal(capsys, "--weigh", "x")
    assert "unknown flag --vid" in refusal(capsys, "--vid", "2")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--img-size", "4x"], "'4x' is not a size: give N or HxW"),
        (["--img-size", "0"], "not a size"),
        (["--img-size", "416x608x3"], "not a size"),
        (["--img-size", "1000000"], "not a size"),
        (["--score-thresh", "25"], "'25' is not a number from 0 to 1"),
        (["--score-thresh", "nan"], "not a number from 0 to 1"),
        (["--nms-thresh", "x"], "not a number from 0 to 1"),
        (["--batch-size", "0"], "not a positive integer"),
        (["--batch-size", "²"], "not a positive integer"),
        (["--max-det", "1.5"], "not a positive integer"),
        (["--format", "jsonl,xml"], "'xml' is not one of jsonl, coco, csv, yolo, labels"),
        (["--media", "some"], "invalid choice: 'some'"),
        (["--weights"], "expected one argument"),
    ],
)
def test_wrong_values_are_explained_in_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], part: str
) -> None:
    assert part in refusal(capsys, *words)


def test_values() -> None:
    assert image_size("320X640") == (320, 640)
    assert (unit_float("0"), unit_float("1"), unit_float(".5")) == (0, 1, 0.5)
    assert positive_int("12") == 12
    assert comma_list("a", "b")("b, a,") == ("b", "a")


def test_program_is_called_as_it_was_called(monkeypatch: pytest.MonkeyPatch) -> None:
    for script, shown in {
        "detect.py": "detect.py",
        "/x/bin/yolofpn": "yolofpn detect",
        "/x/yolofpn/__main__.py": "yolofpn detect",
        "/x/pytest/__main__.py": "detect.py",
    }.items():
        monkeypatch.setattr(sys, "argv", [script])
        assert Parser(prog="detect.py").prog == shown
        assert Parser(prog="yolofpn convert").prog == "yolofpn convert"


@pytest.mark.slow
def test_help_and_package_need_no_heavy_imports() -> None:
    script = f"""
import sys, yolofpn
from yolofpn.__main__ import main
for command in {list(COMMANDS)}:
    try:
        main([command, "--help"])
    except SystemExit as end:
        assert end.code == 0
heavy = {{"torch", "cv2", "av", "numpy", "matplotlib", "PIL", "pydantic", "ruamel"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: ") == len(COMMANDS)


def test_errors_become_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise UserError("x.jpg: no such file")

    assert run_command(command) == 2
    assert capsys.readouterr() == ("", "error: x.jpg: no such file\n")


def test_command_decides_its_exit_code() -> None:
    assert [run_command(lambda code=code: code) for code in (0, 1, 2)] == [0, 1, 2]  # type: ignore[misc]


def test_ctrl_c_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise KeyboardInterrupt

    assert run_command(command) == 1
    assert capsys.readouterr().err == "interrupted\n"


def test_sigterm_ends_like_ctrl_c_and_only_while_the_command_runs(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    cleaned_up = []

    def command() -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
            return 0
        finally:
            cleaned_up.append(True)

    assert run_command(command) == 1
    assert capsys.readouterr().err == "interrupted\n"
    assert cleaned_up == [True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_command_runs_in_any_thread() -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(run_command(lambda: 0)))
    thread.start()
    thread.join()
    assert codes == [0]


def test_reader_that_goes_away_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    assert run_command(command) == 1
    assert capsys.readouterr().err == ""


def test_output_that_leads_to_a_full_disk_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert run_command(command) == 2
    assert capsys.readouterr().err == "error: standard output: No space left on device\n"


def run_printing_command(stdout: int) -> tuple[int, str]:
    """Print a line with ``run_command`` in another process; return its exit code and standard error."""
    call = "run_command(lambda: print('x', flush=True))"
    script = f"from yolofpn.cli.arguments import run_command; import sys; sys.exit({call})"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    os.close(stdout)
    return done.returncode, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_standard_output_leaves_one_line() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    assert run_printing_command(full) == (2, "error: standard output: No space left on device\n")


def test_closed_standard_output_leaves_none() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    assert run_printing_command(writer) == (1, "")


def test_names_that_cannot_be_encoded_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8"))

    def command() -> int:
        print(os.fsdecode(b"\xff.jpg"), flush=True)
        return 0

    assert run_command(command) == 0
    assert raw.getvalue() == b"\\udcff.jpg\n"
