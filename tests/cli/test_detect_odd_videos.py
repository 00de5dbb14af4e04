"""``detect.py`` on videos as recorders, phones and television make them: clocks, pauses, colours, fields, pixels."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import av
import cv2
import numpy as np
import PIL.Image
import pytest
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from tests.commands import call
from tests.tiny_detector import RED, quarters
from tests.videos import shades, write_video
from yolofpn.cli import detect as command
from yolofpn.video.reader import read_video

pytestmark = pytest.mark.usefixtures("in_own_folder")
FFMPEG = shutil.which("ffmpeg")
needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="needs ffmpeg (Debian package ffmpeg)")
Lines: TypeAlias = list[dict[str, Any]]
Detect: TypeAlias = Callable[..., Lines]


@pytest.fixture
def detect(weights: Path, capsys: pytest.CaptureFixture[str]) -> Detect:
    """Runs detect.py, which must succeed in silence, and gives its lines."""

    def run(*words: object) -> Lines:
        outcome = call(command.main, capsys, *words, "--weights", weights, "--backend", "torch", "--output", "out")
        assert (outcome.code, outcome.err) == (0, "")
        return [json.loads(line) for line in Path("out/detections.jsonl").read_text().splitlines()]

    return run


def ffmpeg(*words: object) -> None:
    subprocess.run([str(FFMPEG), "-v", "error", "-y", *map(str, words)], check=True)


def lengths(path: Path | str) -> dict[str, float]:
    """Seconds from the first to the end of the last packet of each stream."""
    with av.open(str(path)) as container:
        ends: dict[str, float] = {stream.type: 0.0 for stream in container.streams}
        for packet in container.demux():
            if packet.pts is not None:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                ends[packet.stream.type] = max(ends[packet.stream.type], end)
    return ends


def recording(path: Path, begins: float, *, frames: int = 20, sound: bool = False, b_frames: int = 0) -> bytes:
    """Two seconds of a transport stream as a recorder writes it, whose clock begins at ``begins``."""
    with av.open(str(path), "w", format="mpegts", options={"muxdelay": "0", "muxpreload": "0"}) as container:
        stream = container.add_stream("libx264", rate=10)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.max_b_frames = b_frames
        tone = container.add_stream("aac", rate=8000) if sound else None
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(quarters(RED), format="bgr24")
            frame.pts, frame.time_base = index + round(10 * begins), Fraction(1, 10)
            container.mux(stream.encode(frame))
            if isinstance(tone, AudioStream):
                chunk = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.float32), format="fltp", layout="mono")
                chunk.sample_rate, chunk.time_base = 8000, Fraction(1, 8000)
                chunk.pts = round(8000 * begins) + 800 * index
                container.mux(tone.encode(chunk))
        container.mux(stream.encode(None))
        if isinstance(tone, AudioStream):
            container.mux(tone.encode(None))
    return path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("begins", [(10, 10), (10, 3), (10, 3612), (50_000, 0, 7000)])
def test_joined_recordings_go_on(begins: Sequence[float], b_frames: int, detect: Detect) -> None:
    """As ``cat a.ts b.ts`` joins them: the clock restarts or leaps, and the count of packets restarts."""
    parts = [recording(Path("part.ts"), begin, b_frames=b_frames) for begin in begins]
    Path("joined.ts").write_bytes(b"".join(parts))
    lines = detect("joined.ts")
    assert [line["time"] for line in lines] == pytest.approx([n / 10 for n in range(20 * len(parts))], abs=2e-3)
    assert lengths("out/joined.mp4")["video"] == pytest.approx(2.0 * len(parts), abs=0.01)


@pytest.mark.slow
def test_joined_recordings_keep_their_sound_in_step(detect: Detect) -> None:
    parts = [recording(Path("part.ts"), begin, sound=True) for begin in (5, 900, 2)]
    Path("joined.ts").write_bytes(b"".join(parts))
    assert len(detect("joined.ts")) == 60
    found = lengths("out/joined.mp4")
    assert found["video"] == pytest.approx(6.0, abs=0.02)
    assert found["audio"] == pytest.approx(6.0, abs=0.3)
    with av.open("out/joined.mp4") as container:
        times = [packet.pts for packet in container.demux(audio=0) if packet.pts is not None]
    assert times == sorted(set(times))
    assert len(times) >= 3 * 15


def test_a_gap_in_a_recording_is_no_join(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where packets of a transport stream are lost the frame is damaged, and that is reported."""
    content = recording(Path("part.ts"), 10)
    packets = [content[start : start + 188] for start in range(0, len(content), 188)]
    images = [index for index, packet in enumerate(packets) if packet[1] & 0x1F == 1 and packet[2] == 0]
    del packets[images[len(images) // 2]]
    Path("gap.ts").write_bytes(b"".join(packets))
    outcome = call(command.main, capsys, "gap.ts", "--weights", weights, "--backend", "torch", "--output", "out")
    assert outcome.code == 1
    assert "damaged" in outcome.err


def held(path: Path, shown: Sequence[int], last: int) -> None:
    """Frames at milliseconds; the last one is shown for ``last``."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.time_base, stream.codec_context.max_b_frames = Fraction(1, 1000), 0
        packets = []
        for time in shown:
            frame = av.VideoFrame.from_ndarray(quarters(RED), format="bgr24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        packets[-1].duration = round(last * packets[-1].time_base.denominator / 1000)
        container.mux(packets)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_last_frame_is_shown_as_long_as_before(suffix: str, stride: int, detect: Detect) -> None:
    held(Path(f"hold{suffix}"), [0, 100, 250, 400], last=2600)
    lines = detect(f"hold{suffix}", "--vid-stride", stride)
    assert [line["time"] for line in lines] == pytest.approx([0, 0.1, 0.25, 0.4][::stride], abs=2e-3)
    assert lengths("out/hold.mp4")["video"] == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_clock_that_begins_late_makes_nothing_longer(suffix: str, detect: Detect) -> None:
    held(Path(f"late{suffix}"), [5000, 5100, 5250, 5400], last=600)
    lines = detect(f"late{suffix}")
    assert [line["time"] for line in lines] == pytest.approx([0, 0.1, 0.25, 0.4], abs=2e-3)
    assert lengths("out/late.mp4")["video"] == pytest.approx(1.0, abs=0.01)


def animation(suffix: str, delays: Sequence[int] | int, count: int) -> bytes:
    frames = [PIL.Image.fromarray(quarters(RED)[:, :, ::-1]).rotate(index) for index in range(count)]
    data = io.BytesIO()
    frames[0].save(data, suffix[1:], save_all=True, append_images=frames[1:], duration=delays)
    return data.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "delays", "seconds"),
    [
        (".gif", [100] * 9 + [2000], 2.9),
        (".gif", [20] * 10, 0.2),
        (".gif", [10] * 10, 1.0),
        (".webp", [17, 17, 16] * 8, 0.4),
        (".webp", [11] * 10, 0.11),
        (".webp", [10] * 9 + [300], 1.2),
        (".png", [1000 / 60] * 24, 0.4),
        (".png", [5] * 10, 1.0),
        (".avif", [17, 17, 16] * 8, 0.4),
        (".avif", [8] * 5, 0.5),
    ],
)
def test_animations_last_as_long_as_in_a_browser(
    suffix: str, delays: list[int], seconds: float, detect: Detect
) -> None:
    Path(f"a{suffix}").write_bytes(animation(suffix, delays, len(delays)))
    lines = detect(f"a{suffix}")
    assert len(lines) == len(delays)
    assert lengths("out/a.mp4")["video"] == pytest.approx(seconds, abs=0.005)


def test_exif_within_the_frames_of_a_video(detect: Detect, good_image: Path) -> None:
    """Side data that PyAV cannot name; the orientation in it counts."""
    exif = PIL.Image.Exif()
    exif[274] = 6  # the top of the scene is at the right
    data = io.BytesIO()
    PIL.Image.open(good_image).save(data, "JPEG", exif=exif)
    Path("clip.mjpeg").write_bytes(data.getvalue() * 4)
    lines = detect("clip.mjpeg")
    assert len(lines) == 4
    upright = np.rot90(quarters(RED), -1)
    assert (lines[0]["height"], lines[0]["width"]) == upright.shape[:2]
    image = next(read_video(Path("clip.mjpeg"), "clip")).image
    assert np.abs(image.astype(int) - upright).mean() < 8


def test_whatever_a_decoder_raises_fails_one_video_only(
    weights: Path, good_image: Path, tiny_video: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def fail(*_: object) -> None:
        raise LookupError("of a kind that nobody expects")

    monkeypatch.setattr("yolofpn.video.reader.upright_bgr", fail)
    outcome = call(command.main, capsys, tiny_video, good_image, "--weights", weights, "--output", "out")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "tiny.mp4" in outcome.err
    lines = Path("out/detections.jsonl").read_text().splitlines()
    assert [Path(json.loads(line)["source"]).name for line in lines] == ["good.png"]


BARS = [(0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 255), (128, 128, 128), (60, 120, 200)]  # BGR
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # ITU-R BT.2087


def pq(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084's inverse EOTF of cd/m2."""
    power = (light / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def hlg(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """ITU-R BT.2100's OETF of the scene light that makes these cd/m2 on a display of 1,000, per channel."""
    scene = (light / 1000) ** (1 / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def sdr_2020(light: NDArray[np.float64]) -> NDArray[np.float64]:
    return (light / 203) ** (1 / 2.4)


def write_bars(path: Path, curve: Callable[[NDArray[np.float64]], NDArray[np.float64]], trc: int) -> None:
    """Vertical bars of ``BARS``, 16 pixels wide, in BT.2020 with SDR white at 203 cd/m2; 10 bits, limited range."""
    rgb = np.array(BARS, float)[:, ::-1] / 255
    coded = curve(203 * np.maximum(rgb**2.4 @ TO_2020.T, 0))
    luma = coded @ [0.2627, 0.6780, 0.0593]
    blue, red = (coded[:, 2] - luma) / 1.8814, (coded[:, 0] - luma) / 1.4746
    planes = [np.round(64 + 876 * luma), np.round(512 + 896 * blue), np.round(512 + 896 * red)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = 48, 16 * len(BARS), "yuv444p10le"
        frame = av.VideoFrame(stream.width, stream.height, "yuv444p10le")
        for plane, values in zip(frame.planes, planes, strict=True):
            row = np.repeat(values.astype("<u2"), 16)
            rows = np.zeros((plane.height, plane.line_size // 2), "<u2")
            rows[:, : row.size] = row
            plane.update(rows.tobytes())
        codec = stream.codec_context
        for tagged in (codec, frame):
            tagged.color_trc, tagged.color_primaries, tagged.colorspace, tagged.color_range = trc, 9, 9, 1
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def bars_of(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    return image[24, 8::16].astype(np.int64)


def check_bars(image: NDArray[np.uint8]) -> None:
    """Near ``BARS``; in HDR a step of 10 bits is worth up to 30 of 255 at the dark end."""
    found = bars_of(image)
    assert np.abs(found - BARS)[np.array(BARS) > 0].max() <= 6
    assert found[np.array(BARS) == 0].max() <= 30


@pytest.mark.parametrize(("curve", "trc"), [(pq, 16), (hlg, 18), (sdr_2020, 14)])
def test_hdr_and_wide_gamut_become_sdr(curve: Any, trc: int, detect: Detect) -> None:
    write_bars(Path("bars.mkv"), curve, trc)
    frame = next(read_video(Path("bars.mkv"), "bars"))
    check_bars(frame.image)
    detect("bars.mkv", "--score-thresh", "1")  # draws nothing
    written = next(read_video(Path("out/bars.mp4"), "bars"))
    check_bars(written.image)
    with av.open("out/bars.mp4") as container:
        codec = container.streams.video[0].codec_context
        assert (codec.color_trc, codec.color_primaries, codec.colorspace) == (1, 1, 1)


def test_highlights_above_white_stay_white() -> None:
    write_bars(Path("bars.mkv"), lambda light: pq(4 * light), 16)
    image = next(read_video(Path("bars.mkv"), "bars")).image
    assert bars_of(image)[3].min() >= 253


@pytest.mark.slow
@needs_ffmpeg
@pytest.mark.parametrize(
    ("pixel_format", "matrix", "color_range"),
    [  # each format with each matrix and each range
        ("yuv420p", "bt709", "tv"),
        ("yuv420p", "bt709", "pc"),
        ("yuv420p", "smpte170m", "tv"),
        ("yuv420p", "smpte170m", "pc"),
        ("yuv420p10le", "bt709", "tv"),
        ("yuv420p10le", "smpte170m", "pc"),
        ("yuv422p", "bt709", "pc"),
        ("yuv422p", "smpte170m", "tv"),
        ("yuv444p12le", "bt709", "tv"),
        ("yuv444p12le", "smpte170m", "pc"),
    ],
)
def test_matrix_range_and_depth_are_those_of_the_file(pixel_format: str, matrix: str, color_range: str) -> None:
    """Bars of full colours, coded by FFmpeg as the tags say."""
    bars = np.repeat(np.repeat(np.array([BARS], np.uint8), 16, 1), 48, 0)
    cv2.imwrite("bars.png", bars)
    scale = f"scale=out_color_matrix={matrix}:out_range={color_range}:flags=accurate_rnd"
    tags = ["-colorspace", matrix, "-color_range", color_range]
    ffmpeg("-i", "bars.png", "-vf", f"{scale},format={pixel_format}", *tags, "-c:v", "ffv1", "bars.mkv")
    image = next(read_video(Path("bars.mkv"), "bars")).image
    assert np.abs(bars_of(image) - BARS).max() <= 4


@pytest.mark.parametrize(("aspect", "width"), [(Fraction(64, 45), 96 * 64 // 45), (Fraction(8, 9), 85), (None, 96)])
def test_pixels_become_square(aspect: Fraction | None, width: int, detect: Detect) -> None:
    frames = [quarters(RED, height=72, width=96)] * 3
    write_video(Path("wide.mkv"), frames, codec="mpeg4", pixel_aspect=aspect)
    lines = detect("wide.mkv")
    assert {(line["height"], line["width"]) for line in lines} == {(72, round(96 * (aspect or 1)))}
    assert lines[0]["width"] in (width, width + 1)
    with av.open("out/wide.mp4") as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width) == (72, lines[0]["width"] + lines[0]["width"] % 2)
        assert stream.sample_aspect_ratio in (None, 1)


@pytest.mark.slow
@needs_ffmpeg
@pytest.mark.parametrize(
    ("codec", "first"),
    [("libx264", "tff"), ("libx264", "bff"), ("mpeg2video", "tff"), ("mjpeg", "tff"), ("mjpeg", "bff")],
)
def test_interlaced_video_is_deinterlaced(codec: str, first: str, detect: Detect) -> None:
    """Half frames of a moving edge, woven together by FFmpeg: its own bwdif is the oracle."""
    moving = "testsrc2=size=128x96:rate=50:duration=0.4"
    flags = ["-flags", "+ilme+ildct"] if codec != "mjpeg" else []
    weave = f"tinterlace=mode={'interleave_top' if first == 'tff' else 'interleave_bottom'},setfield={first}"
    ffmpeg("-f", "lavfi", "-i", moving, "-vf", weave, *flags, "-c:v", codec, "-q:v", 2, "-pix_fmt",
           "yuvj420p" if codec == "mjpeg" else "yuv420p", "fields.mkv")  # fmt: skip
    ffmpeg("-i", "fields.mkv", "-vf", "bwdif=mode=send_frame:deint=interlaced", "-c:v", "ffv1", "whole.mkv")
    found, expected = (list(read_video(Path(name), name)) for name in ("fields.mkv", "whole.mkv"))
    if codec != "mjpeg":  # which cannot say so
        woven = av.open("fields.mkv")
        assert next(woven.decode(video=0)).interlaced_frame
        woven.close()
    assert [round(frame.time, 3) for frame in found] == [round(frame.time, 3) for frame in expected]
    differences = [np.abs(a.image.astype(int) - b.image).mean() for a, b in zip(found, expected, strict=True)]
    assert max(differences[1:]) < 0.5
    assert differences[0] < 3  # versions of FFmpeg differ in what they take for the frame before
    assert len(detect("fields.mkv")) == len(expected)


@pytest.mark.slow
@needs_ffmpeg
def test_interlaced_frames_after_progressive_ones(detect: Detect) -> None:
    """Nothing is lost where they begin, nor where the size changes."""
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=128x96:rate=25:duration=0.4", "-c:v", "mpeg2video",
           "-f", "mpegts", "a.ts")  # fmt: skip
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=128x96:rate=50:duration=0.4", "-vf", "tinterlace=mode=interleave_top",
           "-flags", "+ilme+ildct", "-c:v", "mpeg2video", "-f", "mpegts", "b.ts")  # fmt: skip
    Path("both.ts").write_bytes(Path("a.ts").read_bytes() + Path("b.ts").read_bytes())
    lines = detect("both.ts")
    assert [line["frame"] for line in lines] == list(range(20))
    assert [line["time"] for line in lines] == pytest.approx([n / 25 for n in range(20)], abs=2e-3)


def test_time_counts_from_where_players_start(detect: Detect) -> None:
    """Sound that begins a second before the first frame: players show 0:01 there."""
    with av.open("late.mkv", "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        tone = container.add_stream("aac", rate=8000)
        assert isinstance(tone, AudioStream)
        for index in range(20):
            chunk = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.float32), format="fltp", layout="mono")
            chunk.sample_rate, chunk.time_base, chunk.pts = 8000, Fraction(1, 8000), 800 * index
            container.mux(tone.encode(chunk))
            if index >= 10:
                frame = av.VideoFrame.from_ndarray(shades(1)[0], format="bgr24")
                frame.pts, frame.time_base = index, Fraction(1, 10)
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        container.mux(tone.encode(None))
    lines = detect("late.mkv")
    assert [line["time"] for line in lines] == pytest.approx([1 + n / 10 for n in range(10)], abs=0.15)
    assert lengths("out/late.mp4")["audio"] == pytest.approx(2.0, abs=0.2)
