import errno
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream

from tests.inference.fakes import noise
from yolofpn.errors import UserError
from yolofpn.structures import Image
from yolofpn.video.reader import read_video
from yolofpn.video.remux import drop_torn_fragment
from yolofpn.video.writer import VideoWriter


def write_video(path: Path, times: list[float], size: tuple[int, int] = (48, 64), sound: Path | None = None) -> None:
    writer = VideoWriter(path, size, fps=10, sound=sound)
    for number, time in enumerate(times):
        writer.write(flat(size, 10 * number % 250), time)
    writer.close()


def flat(size: tuple[int, int], level: int) -> Image:
    return np.full((*size, 3), level, np.uint8)


def frame_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0) if frame.time is not None]


def top_boxes(path: Path) -> list[bytes]:
    """The kinds of a file's top-level boxes (ISO 14496-12: size, kind, content)."""
    data, position, kinds = path.read_bytes(), 0, []
    while position < len(data):
        kinds.append(data[position + 4 : position + 8])
        position += int.from_bytes(data[position : position + 4], "big")
    return kinds


def write_sound(path: Path, codec: str, seconds: float, rate: int = 44_100, title: str = "") -> None:
    """A video with a 440 Hz tone, in the container that the suffix says."""
    with av.open(f"file:{path}", "w") as container:
        container.metadata["title"] = title
        images = container.add_stream("mpeg4", rate=10)
        images.width, images.height, images.pix_fmt = 64, 48, "yuv420p"
        tone = container.add_stream(codec, rate=rate)
        assert isinstance(tone, AudioStream)
        tone.layout = "mono"
        for number in range(round(seconds * 10)):
            container.mux(images.encode(av.VideoFrame.from_ndarray(flat((48, 64), number), format="bgr24")))
        container.mux(images.encode(None))
        samples = (np.sin(np.arange(round(seconds * rate)) * 2 * np.pi * 440 / rate) * 20_000).astype(np.int16)
        resampler = av.AudioResampler(format=tone.format, layout="mono", rate=rate)
        for start in range(0, len(samples), 1024):
            chunk = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="s16", layout="mono")
            chunk.sample_rate, chunk.pts, chunk.time_base = rate, start, Fraction(1, rate)
            for frame in resampler.resample(chunk):
                container.mux(tone.encode(frame))
        container.mux(tone.encode(None))


def test_a_browser_plays_what_is_written_at_the_times_of_its_frames(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.1334, 0.5, 0.9, 2.0]  # a variable frame rate
    write_video(tmp_path / "a.mp4", times)
    assert frame_times(tmp_path / "a.mp4") == pytest.approx(times, abs=1e-3)
    with av.open(str(tmp_path / "a.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt, codec.width, codec.height) == ("h264", "yuv420p", 64, 48)
    kinds = top_boxes(tmp_path / "a.mp4")
    assert kinds.index(b"moov") < kinds.index(b"mdat")
    assert b"moof" not in kinds
    assert list(tmp_path.iterdir()) == [tmp_path / "a.mp4"]


def test_29_97_frames_per_second_stay_in_step_over_minutes(tmp_path: Path) -> None:
    times = [number * 1001 / 30_000 for number in range(0, 9000, 150)]
    write_video(tmp_path / "a.mp4", times)
    assert frame_times(tmp_path / "a.mp4") == pytest.approx(times, abs=1e-4)


def test_a_video_that_does_not_begin_at_zero_keeps_its_times(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", [0.5, 0.75, 1.0])
    assert frame_times(tmp_path / "a.mp4") == pytest.approx([0.5, 0.75, 1.0], abs=1e-3)


def test_frames_at_equal_times_are_all_kept(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", [0.0, 0.0, 0.0, 0.2, 0.1])
    assert frame_times(tmp_path / "a.mp4") == pytest.approx([0, 0, 0, 0.2, 0.2], abs=1e-3)


@pytest.mark.parametrize(("size", "written"), [((47, 63), (48, 64)), ((48, 63), (48, 64)), ((1, 1), (2, 2))])
def test_odd_sizes_get_one_more_row_or_column(tmp_path: Path, size: tuple[int, int], written: tuple[int, int]) -> None:
    write_video(tmp_path / "a.mp4", [0.0, 0.1], size)
    with av.open(str(tmp_path / "a.mp4")) as container:
        frames = list(container.decode(video=0))
    assert [(frame.height, frame.width) for frame in frames] == [written, written]


@pytest.mark.parametrize("colour", [(0, 0, 255), (0, 255, 0), (255, 0, 0), (128, 128, 128), (255, 255, 255), (0, 0, 0)])
def test_colours_survive(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", (48, 64))
    writer.write(np.full((48, 64, 3), colour, np.uint8), 0.0)
    writer.close()
    with av.open(str(tmp_path / "a.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (1, 1)  # ITU-R 709, 16..235: what players take HD video for
        shown = frame.to_ndarray(format="bgr24")
    assert np.abs(shown.astype(int) - colour).max() <= 4


@pytest.mark.parametrize(("codec", "suffix", "kept"), [("aac", ".mp4", "aac"), ("pcm_s16le", ".avi", "aac")])
def test_sound_is_kept_and_ends_with_the_video(tmp_path: Path, codec: str, suffix: str, kept: str) -> None:
    original = tmp_path / f"original{suffix}"
    write_sound(original, codec, seconds=3.0)
    write_video(tmp_path / "a.mp4", [number / 10 for number in range(20)], sound=original)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        assert container.streams.audio[0].codec_context.name == kept
        frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
        rate = container.streams.audio[0].codec_context.sample_rate
    wave = np.concatenate(frames)
    assert len(wave) / rate == pytest.approx(2.0, abs=0.15)
    spectrum = np.abs(np.fft.rfft(wave[rate // 2 : rate // 2 + rate]))  # one second: one bin per hertz
    assert int(spectrum.argmax()) == 440
    assert frame_times(tmp_path / "a.mp4") == pytest.approx([number / 10 for number in range(20)], abs=1e-3)


def test_sound_is_copied_bit_for_bit(tmp_path: Path) -> None:
    write_sound(tmp_path / "original.mp4", "aac", seconds=1.0)
    write_video(tmp_path / "a.mp4", [number / 10 for number in range(20)], sound=tmp_path / "original.mp4")

    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    assert packets(tmp_path / "a.mp4") == packets(tmp_path / "original.mp4")


def test_sound_that_cannot_be_read_is_left_out_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "original.mp4").write_text("no video")
    write_video(tmp_path / "a.mp4", [0.0, 0.1], sound=tmp_path / "original.mp4")
    assert len(frame_times(tmp_path / "a.mp4")) == 2
    assert "original.mp4" in caplog.text


def test_sound_without_a_decoder_is_left_out_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    original = tmp_path / "original.mkv"
    write_sound(original, "aac", seconds=0.5)
    original.write_bytes(original.read_bytes().replace(b"A_AAC", b"A_ZZZ"))  # a codec that nobody knows
    with av.open(str(original)) as container:
        assert container.streams.audio and container.streams.audio[0].codec_context is None
    write_video(tmp_path / "a.mp4", [0.0, 0.1], sound=original)
    assert len(frame_times(tmp_path / "a.mp4")) == 2
    assert "original.mkv: its sound cannot be read" in caplog.text


def test_a_silent_source_gives_a_silent_video(tmp_path: Path) -> None:
    write_video(tmp_path / "original.mp4", [0.0, 0.1])
    write_video(tmp_path / "a.mp4", [0.0, 0.1], sound=tmp_path / "original.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert len(container.streams) == 1


def test_nothing_written_leaves_no_file(tmp_path: Path) -> None:
    VideoWriter(tmp_path / "a.mp4", (48, 64)).close()
    VideoWriter(tmp_path / "b.mp4", (48, 64)).discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_killed_writer_leaves_a_playable_file(tmp_path: Path) -> None:
    program = f"""
import time
from pathlib import Path
import numpy as np
from yolofpn.video.writer import VideoWriter
writer = VideoWriter(Path({str(tmp_path / "a.mp4")!r}), (48, 64), fps=10)
for number in range(100):
    image = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    writer.write(image, number / 10)
print("written", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    times = frame_times(tmp_path / "a.mp4")
    assert times == pytest.approx([number / 10 for number in range(len(times))], abs=1e-3)
    assert len(times) >= 60  # 100 frames less a fragment of one second and what the encoder still held


def test_a_full_disk_is_said_and_the_fragments_before_stay_playable(small_disk: Path) -> None:
    writer = VideoWriter(small_disk / "a.mp4", (48, 64), fps=10)
    with pytest.raises(UserError, match=r"a\.mp4: cannot be written: No space left"):
        for number in range(1000):
            writer.write(noise(48, 64, number), number / 10)
    with pytest.raises(UserError, match="space"):
        writer.close()
    assert len(frame_times(small_disk / "a.mp4")) > 10


def test_a_torn_fragment_is_cut_off(tmp_path: Path) -> None:
    def box(kind: bytes, content: bytes) -> bytes:
        return (8 + len(content)).to_bytes(4, "big") + kind + content

    whole = box(b"ftyp", b"isom") + box(b"moov", b"x" * 50) + box(b"moof", b"y") + box(b"mdat", b"z" * 20)
    for torn in (b"", box(b"moof", b"y"), box(b"moof", b"y") + box(b"mdat", b"z" * 20)[:-1], b"\0\0\0"):
        (tmp_path / "a.mp4").write_bytes(whole + torn)
        drop_torn_fragment(tmp_path / "a.mp4")
        assert (tmp_path / "a.mp4").read_bytes() == whole
    (tmp_path / "a.mp4").write_bytes(whole[:-1])
    drop_torn_fragment(tmp_path / "a.mp4")
    drop_torn_fragment(tmp_path / "a.mp4")
    assert not (tmp_path / "a.mp4").exists()


def test_a_disk_that_fills_while_the_fragments_are_joined_loses_no_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        (tmp_path / ".a.mp4.part").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("yolofpn.video.remux._join", full)
    with pytest.raises(UserError, match="space"):
        write_video(tmp_path / "a.mp4", [number / 10 for number in range(30)])
    assert len(frame_times(tmp_path / "a.mp4")) == 30
    assert list(tmp_path.iterdir()) == [tmp_path / "a.mp4"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--output"):
        VideoWriter(tmp_path / "file" / "a.mp4", (48, 64)).write(noise(48, 64), 0.0)


def test_frames_larger_than_h264_allows_are_shrunk(tmp_path: Path) -> None:
    image = np.zeros((10, 20_000, 3), np.uint8)
    image[:, 10_000:] = 200
    writer = VideoWriter(tmp_path / "a.mp4", (10, 20_000))
    writer.write(image, 0.0)
    writer.close()
    with av.open(str(tmp_path / "a.mp4")) as container:
        shown = next(container.decode(video=0)).to_ndarray(format="bgr24")
    assert shown.shape == (8, 16_384, 3)
    assert shown[4, 4000, 0] < 5
    assert shown[4, 12_000, 0] > 195


def test_a_colon_in_a_path_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_sound(tmp_path / "with:sound.mp4", "aac", seconds=0.5)
    write_video(Path("rtsp:a.mp4"), [0.0, 0.1], sound=Path("with:sound.mp4"))
    assert len(frame_times(tmp_path / "rtsp:a.mp4")) == 2
    with av.open(str(tmp_path / "rtsp:a.mp4")) as container:
        assert len(container.streams.audio) == 1


def test_sound_is_kept_where_the_title_is_no_utf8(tmp_path: Path) -> None:
    original = tmp_path / "original.mkv"
    write_sound(original, "aac", seconds=0.5, title="Stra?e")
    original.write_bytes(original.read_bytes().replace(b"Stra?e", b"Stra\xdfe"))
    write_video(tmp_path / "a.mp4", [0.0, 0.1], sound=original)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert len(container.streams.audio) == 1


@pytest.mark.parametrize("codec", ["pcm_s16le", "aac"])
def test_sound_stays_in_step_with_a_video_that_begins_later_than_its_sound(tmp_path: Path, codec: str) -> None:
    """Times count from where players start, which here is the sound."""
    original = tmp_path / "original.mkv"
    with av.open(str(original), "w") as container:
        images = container.add_stream("mpeg4", rate=10)
        images.width, images.height, images.pix_fmt = 64, 48, "yuv420p"
        tone = container.add_stream(codec, rate=8000)
        assert isinstance(tone, AudioStream)
        tone.layout = "mono"
        resampler = av.AudioResampler(format=tone.format, layout="mono", rate=8000)
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(flat((48, 64), number), format="bgr24")
            frame.pts, frame.time_base = number + 10, Fraction(1, 10)  # the first image at one second
            container.mux(images.encode(frame))
        container.mux(images.encode(None))
        samples = np.zeros((1, 24_000), np.int16)
        samples[0, 16_000:16_080] = 30_000  # a click at two seconds, one second after the first frame
        for start in range(0, 24_000, 1000):
            chunk = av.AudioFrame.from_ndarray(samples[:, start : start + 1000], format="s16", layout="mono")
            chunk.sample_rate, chunk.pts, chunk.time_base = 8000, start, Fraction(1, 8000)
            for resampled in resampler.resample(chunk):
                container.mux(tone.encode(resampled))
        container.mux(tone.encode(None))
    times = [frame.time for frame in read_video(original, "original")]
    assert times == pytest.approx([1 + number / 10 for number in range(20)], abs=1e-3)
    write_video(tmp_path / "a.mp4", times, sound=original)
    with av.open(str(tmp_path / "a.mp4")) as container:
        loudest = max(container.decode(audio=0), key=lambda frame: float(np.abs(frame.to_ndarray()).max()))
    assert loudest.time == pytest.approx(2.0, abs=0.15)
    assert frame_times(tmp_path / "a.mp4") == pytest.approx(times, abs=1e-3)
