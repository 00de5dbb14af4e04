from pathlib import Path, PurePath

import av
import cv2
import numpy as np
import pytest
import torch

from tests.inference.fakes import FakeSource, frame_of, image_source, noise, nothing_found, two_found, video
from yolofpn.errors import UserError
from yolofpn.sinks.crops import CropSink
from yolofpn.sinks.image_files import crop, encode_image
from yolofpn.sinks.media import MediaSink
from yolofpn.structures import Detections, Image


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def read(path: Path) -> Image:
    image = cv2.imread(str(path))
    assert image is not None
    return image.astype(np.uint8)


def frame_count(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (".jpg", ".jpg"),
        (".JPEG", ".jpeg"),
        (".png", ".png"),
        (".bmp", ".bmp"),
        (".webp", ".webp"),
        (".tiff", ".tiff"),
        (".gif", ".png"),
        (".ppm", ".png"),
        (".avif", ".jpg"),
        (".mpo", ".jpg"),
        ("", ".jpg"),
    ],
)
def test_an_image_keeps_its_format_where_that_can_be_written(given: str, written: str) -> None:
    smooth = cv2.GaussianBlur(noise(), (0, 0), 5).astype(np.uint8)
    data, suffix = encode_image(smooth, given)
    assert suffix == written
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert np.abs(decoded.astype(int) - smooth).max() <= (12 if suffix in (".jpg", ".jpeg", ".webp") else 0)


def test_jpeg_has_quality_95() -> None:
    data, _ = encode_image(noise(), ".jpg")
    assert data == cv2.imencode(".jpg", noise(), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


@pytest.mark.parametrize(("suffix", "shape"), [(".jpg", (1, 65_536)), (".webp", (16_384, 1))])
def test_an_image_too_large_for_its_format_becomes_png(suffix: str, shape: tuple[int, int]) -> None:
    assert encode_image(np.zeros((*shape, 3), np.uint8), suffix)[1] == ".png"


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ([10.0, 20.0, 30.0, 50.0], (10, 20, 30, 50)),
        ([10.2, 20.9, 29.1, 49.5], (10, 20, 30, 50)),
        ([-5.0, -5.0, 500.0, 500.0], (0, 0, 80, 60)),
        ([40.0, 30.0, 40.0, 30.0], (40, 30, 41, 31)),
        ([80.0, 60.0, 80.0, 60.0], (79, 59, 80, 60)),
    ],
)
def test_a_crop_holds_every_pixel_that_its_box_touches(box: list[float], pixels: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = pixels
    assert np.array_equal(crop(noise(), box), noise()[top:bottom, left:right])


def test_crops_of_a_lossless_image_are_lossless(tmp_path: Path) -> None:
    sink = CropSink(tmp_path)
    sink.write(image_source("a/dog.png"), frame_of(image_source("a/dog.png")), two_found())
    sink.close()
    assert files(tmp_path) == ["crops/dog/a/dog_0.png", "crops/person/a/dog_1.png"]
    assert (read(tmp_path / "crops/dog/a/dog_0.png") == noise()[20:50, 10:30]).all()
    assert (read(tmp_path / "crops/person/a/dog_1.png") == noise()).all()


def test_crops_of_other_images_and_of_videos_are_jpeg(tmp_path: Path) -> None:
    sink = CropSink(tmp_path)
    names = ("a/b: c?", "", "dog")
    sink.write(image_source("dog.jpg"), frame_of(image_source("dog.jpg")), two_found(names))
    clip = video("clip.mp4")
    sink.write(clip, frame_of(clip, index=12), two_found()[:1])
    sink.write(clip, frame_of(clip, index=13), nothing_found())
    assert files(tmp_path) == ["crops/a_b_ c_/dog_1.jpg", "crops/dog/clip_000012_0.jpg", "crops/dog/dog_0.jpg"]


def test_annotated_images_lie_where_their_sources_lay(tmp_path: Path) -> None:
    sink = MediaSink(tmp_path)
    for name in ("a/dog.png", "b/dog.png", "b/dog.bmp"):
        sink.write(image_source(name), frame_of(image_source(name)), two_found())
    sink.close()
    assert files(tmp_path) == ["a/dog.png", "b/dog.bmp", "b/dog.png"]
    assert (read(tmp_path / "a/dog.png") == two_found().draw(noise())).all()


def test_equal_names_get_numbers_and_lose_nothing(tmp_path: Path) -> None:
    sink = MediaSink(tmp_path, labels="none")
    for seed in range(3):
        sink.write(image_source("dog.png"), frame_of(image_source("dog.png"), noise(seed=seed)), nothing_found())
    assert files(tmp_path) == ["dog-2.png", "dog-3.png", "dog.png"]
    assert (read(tmp_path / "dog-3.png") == noise(seed=2)).all()


def test_images_stay_clear_of_the_folders_of_other_sinks(tmp_path: Path) -> None:
    media, crops = MediaSink(tmp_path), CropSink(tmp_path)
    for name in ("dog.png", "crops/dog/dog_0.png"):
        for sink in (media, crops):
            sink.write(image_source(name), frame_of(image_source(name)), two_found()[:1])
    assert files(tmp_path) == [
        "crops-media/dog/dog_0.png",
        "crops/dog/crops/dog/dog_0_0.png",
        "crops/dog/dog_0.png",
        "dog.png",
    ]


def test_hits_writes_only_images_with_detections_and_videos_with_any(tmp_path: Path) -> None:
    sink = MediaSink(tmp_path, "hits")
    sink.write(image_source("dog.png"), frame_of(image_source("dog.png")), two_found())
    sink.write(image_source("empty.png"), frame_of(image_source("empty.png")), nothing_found())
    for name, found in (("hit.avi", [0, 1, 0]), ("miss.avi", [0, 0, 0])):
        clip = video(name)
        for index, any_found in enumerate(found):
            detections = two_found() if any_found else nothing_found()
            sink.write(clip, frame_of(clip, index=index, time=index / 10), detections)
    sink.close()
    assert files(tmp_path) == ["dog.png", "hit.mp4"]
    assert frame_count(tmp_path / "hit.mp4") == 3


def test_a_video_is_finished_when_the_next_source_begins(tmp_path: Path) -> None:
    sink = MediaSink(tmp_path)
    clip = video("clip.avi")
    for index in range(5):
        sink.write(clip, frame_of(clip, index=index, time=index / 10), two_found())
    sink.write(image_source("dog.png"), frame_of(image_source("dog.png")), two_found())
    data = (tmp_path / "clip.mp4").read_bytes()
    assert b"moof" not in data
    assert frame_count(tmp_path / "clip.mp4") == 5


def test_streams_side_by_side_go_on_until_the_end(tmp_path: Path) -> None:
    sink = MediaSink(tmp_path)
    streams = [FakeSource(PurePath(f"camera-{number}"), "stream") for number in range(2)]
    for index in range(4):
        for stream in streams:
            sink.write(stream, frame_of(stream, index=index, time=index / 10), two_found())
    sink.close()
    assert files(tmp_path) == ["camera-0.mp4", "camera-1.mp4"]
    assert [frame_count(tmp_path / name) for name in files(tmp_path)] == [4, 4]


def test_frames_that_change_their_size_go_on_in_a_second_file(tmp_path: Path) -> None:
    sink = MediaSink(tmp_path)
    clip = video("clip.avi")
    for index, size in enumerate([(60, 80), (60, 80), (30, 40)]):
        sink.write(clip, frame_of(clip, noise(*size), index, index / 10), nothing_found())
    sink.close()
    assert [(name, frame_count(tmp_path / name)) for name in files(tmp_path)] == [("clip-2.mp4", 1), ("clip.mp4", 2)]


@pytest.mark.parametrize("kind", ["image", "video"])
def test_one_pixel_is_an_image(tmp_path: Path, kind: str) -> None:
    source = FakeSource(PurePath("dot.png"), kind)
    found = Detections(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), torch.tensor([0]))
    for sink in (MediaSink(tmp_path), CropSink(tmp_path)):
        sink.write(source, frame_of(source, noise(1, 1)), found)
        sink.close()
    assert len(files(tmp_path)) == 2


@pytest.mark.slow
def test_the_real_image_and_video(tmp_path: Path, data_dir: Path) -> None:
    """Every frame of a phone's video comes back at its time, and the image differs only where something is drawn."""
    original = data_dir / "videos" / "library1.mp4"
    sink = MediaSink(tmp_path)
    clip = video("library1.mp4", original, fps=29.7)
    times = []
    with av.open(str(original)) as container:
        for index, frame in zip(range(15), container.decode(video=0), strict=False):
            assert frame.time is not None
            times.append(frame.time)
            image = cv2.resize(frame.to_ndarray(format="bgr24"), (180, 320)).astype(np.uint8)
            sink.write(clip, frame_of(clip, image, index, frame.time), two_found())
    sink.close()
    with av.open(str(tmp_path / "library1.mp4")) as container:
        written = [frame.time for frame in container.decode(video=0)]
    assert written == pytest.approx(times, abs=1e-3)


def test_a_video_that_cannot_be_finished_does_not_keep_the_others_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = MediaSink(tmp_path)
    streams = [FakeSource(PurePath(f"camera-{number}"), "stream") for number in range(3)]
    for stream in streams:
        sink.write(stream, frame_of(stream), two_found())
    from yolofpn.video.remux import remux

    def fail_for_one(path: Path, *, sound: Path | None) -> None:
        if path.name == "camera-1.mp4":
            raise OSError(28, "No space left on device")
        remux(path, sound=sound)

    monkeypatch.setattr("yolofpn.video.writer.remux", fail_for_one)
    with pytest.raises(UserError, match=r"camera-1\.mp4"):
        sink.close()
    assert [frame_count(tmp_path / f"camera-{number}.mp4") for number in range(3)] == [1, 1, 1]
    joined = [b"moof" not in (tmp_path / f"camera-{number}.mp4").read_bytes() for number in range(3)]
    assert joined == [True, False, True]
