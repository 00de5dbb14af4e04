from __future__ import annotations

import dataclasses
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import Tensor

from tests.tiny_detector import GREEN, NAMES, RED, quarters
from yolofpn import Detections, Predictor, load_detector
from yolofpn.config import InputConfig, Metadata, ModelConfig, PostprocessConfig
from yolofpn.errors import InputError, UserError
from yolofpn.inference.predictor_options import PredictorOptions, PredictorSettings
from yolofpn.runtimes.backend import Batch, Wait
from yolofpn.weights import build_detector, load_weights, save_weights

SURE = 1 / (1 + math.exp(-10)) ** 2
LIKELY = 1 / (1 + math.exp(-2)) ** 2


@pytest.fixture(scope="module")
def detector(weights: Path) -> Predictor:
    return load_detector(weights)


def found_boxes(found: Detections) -> dict[str, list[float]]:
    """Boxes by class name, rounded; each class at most once."""
    boxes = {found.name_of(label): box for box, label in zip(found.boxes.tolist(), found.labels.tolist(), strict=True)}
    assert len(boxes) == len(found)
    return {name: [round(side, 3) for side in box] for name, box in boxes.items()}


def assert_equal_detections(one: Detections, other: Detections) -> None:
    assert one.labels.tolist() == other.labels.tolist()
    torch.testing.assert_close(one.boxes, other.boxes, rtol=0, atol=0.05)
    torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=1e-3)


def test_boxes_scores_and_names_are_those_of_the_image(detector: Predictor) -> None:
    found = detector(quarters(RED, (0, 0, 0), (0, 0, 0), (0, 153, 0), height=100, width=300))
    assert found_boxes(found) == {"red": [0, 0, 150, 50], "potted plant": [150, 50, 300, 100]}
    assert found.scores.tolist() == pytest.approx([SURE, LIKELY], abs=1e-6)
    assert found.names == detector.names == NAMES


def test_results_can_be_changed_in_place(detector: Predictor) -> None:
    found = detector(quarters(RED))
    found.boxes[:, 2:] -= found.boxes[:, :2]
    found.scores[:] *= 0.5
    found.labels[:] += 1
    assert found.boxes.tolist() == [[0, 0, 96, 64]]


def test_every_kind_of_image_gives_the_same(detector: Predictor, tmp_path: Path) -> None:
    image = quarters(RED, GREEN)
    cv2.imwrite(str(tmp_path / "x.png"), image)
    rgb = image[:, :, ::-1]
    assert not rgb.flags.c_contiguous
    alpha = np.full((*image.shape[:2], 1), 255, np.uint8)
    kinds: list[tuple[Any, bool]] = [
        (tmp_path / "x.png", False),
        (str(tmp_path / "x.png"), False),
        (image, False),
        (rgb, True),
        (np.concatenate([image, alpha], axis=2), False),
        (np.concatenate([rgb, alpha], axis=2), True),
        (PillowImage.fromarray(np.ascontiguousarray(rgb)), False),
        (PillowImage.fromarray(np.ascontiguousarray(rgb)), True),
        (PillowImage.fromarray(np.ascontiguousarray(rgb)).convert("RGBA"), False),
    ]
    for given, is_rgb in kinds:
        found = detector(given, rgb=is_rgb)
        assert found_boxes(found) == {"red": [0, 0, 96, 64], "potted plant": [96, 0, 192, 64]}
    # Read the wrong way round, red is blue, which the detector does not know.
    assert found_boxes(detector(rgb)) == {"potted plant": [96, 0, 192, 64]}


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.array(7, np.uint8),
    ],
)
def test_arrays_that_are_no_images_are_refused(detector: Predictor, array: Any) -> None:
    with pytest.raises(ValueError, match="uint8 array"):
        detector(array)


def test_what_is_no_image_at_all_is_named(detector: Predictor) -> None:
    found = detector(quarters(RED))
    for wrong, kind in ((found, "Detections"), (None, "NoneType"), (3, "int"), (torch.zeros(3, 4, 4), "Tensor")):
        with pytest.raises(ValueError, match=f"or a Pillow image, got {kind}"):
            detector((wrong,))


def test_impossible_settings_are_refused(detector: Predictor, weights: Path) -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        detector([quarters(RED)], batch_size=0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        next(detector.stream("x.png", batch_size=0))
    with pytest.raises(ValueError, match="letterbox"):
        load_detector(weights, resize="crop")  # type: ignore[arg-type]


def test_one_in_one_out_and_a_list_in_a_list_out(detector: Predictor) -> None:
    images = [quarters(RED), quarters(), quarters(GREEN, RED)]
    assert isinstance(detector(images[0]), Detections)
    assert detector([]) == []
    for given in (images, tuple(images)):
        for batch_size in (1, 2, 5):
            found = detector(given, batch_size=batch_size)
            assert [len(item) for item in found] == [1, 0, 2]


def test_bad_files_are_named(detector: Predictor, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_text("hello")
    with pytest.raises(InputError, match=r"x\.jpg: not an image"):
        detector(tmp_path / "x.jpg")
    with pytest.raises(InputError, match=r"missing\.jpg: no such file"):
        detector([quarters(), str(tmp_path / "missing.jpg")])


def test_detections_know_their_image(detector: Predictor, tmp_path: Path) -> None:
    image = quarters(RED)
    cv2.imwrite(str(tmp_path / "x.png"), image)
    for found in (detector(image), detector(tmp_path / "x.png"), detector([image[:, :, ::-1]], rgb=True)[0]):
        assert found.load_image is not None
        np.testing.assert_array_equal(found.load_image(), image)


@pytest.mark.parametrize("shape", [(1, 1), (10, 20_000), (20_000, 10), (1, 3), (31, 33)])
@pytest.mark.parametrize("resize", ["letterbox", "stretch", "shortest-edge"])
def test_images_of_any_shape(
    weights: Path, shape: tuple[int, int], resize: Literal["letterbox", "stretch", "shortest-edge"]
) -> None:
    detector = load_detector(weights, resize=resize)
    height, width = shape
    found = detector(np.full((*shape, 3), RED, np.uint8))
    # The image's own first pixel is always that of a cell, but for letterbox, where gray may surround it.
    assert len(found) >= (resize != "letterbox")
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 0::2] <= width).all()
    assert (found.boxes[:, 1::2] <= height).all()


def test_letterbox_undoes_its_own_padding(weights: Path) -> None:
    # 200 x 100 becomes 64 x 32 with 16 rows of gray above: rows 0..15 and 48..63 of the network are no image.
    detector = load_detector(weights, resize="letterbox")
    image = np.full((100, 200, 3), GREEN, np.uint8)
    found = detector(image)
    # Only the lower cells (network rows 32..63) look at the image; their boxes reach out of it and are cut.
    assert sorted(found.boxes.round().tolist()) == [[0, 50, 100, 100], [100, 50, 200, 100]]


def test_shortest_edge_pads_to_the_stride_and_cuts_boxes_to_the_image(weights: Path) -> None:
    # 60 x 90 has its shorter side brought to 40: 40 x 60, padded to 64 x 64.
    detector = load_detector(weights, resize="shortest-edge", img_size=(40, 64))
    found = detector(np.full((60, 90, 3), RED, np.uint8))
    expected = [[0, 0, 48, 48], [0, 48, 48, 60], [48, 0, 90, 48], [48, 48, 90, 60]]
    assert sorted(found.boxes.round().tolist()) == expected


def test_size_of_the_network(weights: Path) -> None:
    assert load_detector(weights).img_size == (64, 64)
    assert load_detector(weights, img_size=96).img_size == (96, 96)
    wide = load_detector(weights, img_size=(32, 128))
    found = wide(np.full((10, 40, 3), RED, np.uint8))
    assert sorted(found.boxes.tolist()) == [[0, 0, 10, 10], [10, 0, 20, 10], [20, 0, 30, 10], [30, 0, 40, 10]]
    with pytest.raises(UserError, match=r"100x64 is not a multiple of 32.*try 96x64"):
        load_detector(weights, img_size=(100, 64))
    with pytest.raises(UserError, match="try 32x32"):
        load_detector(weights, img_size=0)


@pytest.mark.slow
@pytest.mark.parametrize("resize", ["letterbox", "stretch", "shortest-edge"])
def test_batches_of_mixed_sizes_give_what_single_images_give(
    resize: Literal["letterbox", "stretch", "shortest-edge"], data_dir: Path
) -> None:
    weights = data_dir / "darknet" / "yolo-fastest-1.1.weights"
    size = (128, 160) if resize == "shortest-edge" else (160, 160)
    detector = load_detector(weights, resize=resize, img_size=size, score_thresh=0.05)
    images = [str(data_dir / "pictures" / f"{name}.jpg") for name in ("dog", "person", "eagle", "horses", "giraffe")]
    singles = detector(images)
    assert sum(map(len, singles)) >= 10
    for single, batched in zip(singles, detector(images, batch_size=4), strict=True):
        assert_equal_detections(single, batched)


def test_stream_gives_frames_with_their_detections(detector: Predictor, tmp_path: Path, tiny_video: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), quarters(RED))
    for batch_size in (1, 5):
        results = list(detector.stream(str(tmp_path), str(tiny_video), batch_size=batch_size, vid_stride=4))
        assert [Path(frame.source).name for frame, _ in results] == ["a.png", *["tiny.mp4"] * 3]
        assert [frame.index for frame, _ in results] == [0, 0, 4, 8]
        assert [len(found) for _, found in results] == [1, 0, 0, 0]
        np.testing.assert_array_equal(results[0][0].image, quarters(RED))


def test_stream_gives_what_comes_before_an_error(detector: Predictor, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), quarters(RED))
    (tmp_path / "b.png").write_bytes(b"")
    results = detector.stream(str(tmp_path), batch_size=4)
    assert Path(next(results)[0].source).name == "a.png"
    with pytest.raises(InputError, match="empty"):
        next(results)
    with pytest.raises(UserError, match="source"):
        next(detector.stream())


def test_classes_by_name_spelling_and_label(weights: Path) -> None:
    image = quarters(RED, GREEN)
    for classes in (["red"], ["RED"], [0], ["0"]):
        assert found_boxes(load_detector(weights, classes=classes)(image)).keys() == {"red"}
    for spelling in ("potted plant", "Potted_Plant", "pottedplant", "potted-plant", "1"):
        assert found_boxes(load_detector(weights, classes=[spelling])(image)).keys() == {"potted plant"}
    assert len(load_detector(weights, classes=["red", 1])(image)) == 2
    assert len(load_detector(weights, classes=["red"], detections_per_img=1)(image)) == 1


@pytest.mark.parametrize(
    ("item", "message"),
    [("Reed", "did you mean 'red'"), (2, "choose from red, potted plant$"), ("²", "no class"), (-1, "no class '-1'")],
)
def test_unknown_classes_are_refused(weights: Path, item: str | int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_detector(weights, classes=[item])


def test_thresholds_per_class_of_the_weights_are_used(weights: Path, tmp_path: Path) -> None:
    loaded = load_detector(weights)
    assert isinstance(loaded.detector, torch.nn.Module)
    image = quarters((0, 0, 153), (0, 153, 0))  # both of score .776
    for thresholds, expected in (((0.7, 0.7), 2), ((0.7, 0.8), 1), ((0.8, 0.8), 0)):
        metadata = loaded.metadata.model_copy(update={"postprocess": PostprocessConfig(score_thresh=thresholds)})
        save_weights(tmp_path / "x.safetensors", loaded.detector.state_dict(), metadata)
        assert len(load_detector(tmp_path / "x.safetensors")(image)) == expected
    assert len(load_detector(tmp_path / "x.safetensors", score_thresh=0.5)(image)) == 2


@pytest.mark.slow
def test_weights_of_training_know_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ModelConfig.model_validate(
        {
            "backbone": {"type": "darknet", "width": 0.0625, "depth": 0.1},
            "neck": {"type": "concat"},
            "head": {"type": "yolo", "anchors": [[[10, 13]], [[30, 61]], [[116, 90]]]},
        }
    )
    metadata = Metadata(
        model=model,
        input=InputConfig(size=(64, 96), resize="shortest-edge", mean=(0.2, 0.4, 0.6)),
        postprocess=PostprocessConfig(score_thresh=0.0),
        names=("a", "b"),
        category_ids=(3, 7),
    )
    save_weights(tmp_path / "x.safetensors", build_detector(metadata, "x").state_dict(), metadata)
    detector = load_detector(tmp_path / "x.safetensors")
    assert (detector.img_size, detector.resize) == ((64, 96), "shortest-edge")
    original, shown = detector.backend.start, []

    def start(batch: Batch) -> Wait:
        shown.append(batch)
        return original(batch)

    monkeypatch.setattr(detector.backend, "start", start)
    image = np.random.default_rng(0).integers(0, 256, (64, 70, 3), dtype=np.uint8)
    found = detector(image)
    # The image as RGB, filled with the mean on the right up to 96 columns.
    expected = torch.tensor([51.0, 102, 153])[None, :, None, None].repeat(1, 1, 64, 96)
    expected[0, :, :, :70] = torch.from_numpy(image[:, :, ::-1].copy()).permute(2, 0, 1)
    torch.testing.assert_close(torch.as_tensor(shown[0]), expected, rtol=0, atol=1e-4)
    assert len(found) > 0
    assert found.boxes[:, 2].max() <= 70
    assert found.category_ids == (3, 7)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_finds_the_same(weights: Path, precision: str) -> None:
    detector = load_detector(weights, precision=precision, device="cpu")
    found = detector(quarters(RED, (0, 0, 0), GREEN))
    assert found_boxes(found) == {"red": [0, 0, 96, 64], "potted plant": [0, 64, 96, 128]}
    assert found.scores.dtype == np.float32


@pytest.mark.parametrize("device", ["cuda:77", "meta", "toaster", "0"])
def test_unknown_devices_are_refused(weights: Path, device: str) -> None:
    with pytest.raises(UserError, match=f"device '{device}'"):
        load_detector(weights, device=device)


def test_damaged_weights_are_named_as_the_cause(weights: Path) -> None:
    loaded = load_weights(weights)
    next(loaded.detector.parameters()).data[6] = math.nan  # a class score far below any threshold
    detector = Predictor(loaded.detector, loaded.metadata)
    with pytest.raises(UserError, match="weights"):
        detector(quarters())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."),
    ],
)
def test_too_little_memory_is_explained(weights: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    detector = load_detector(weights)

    def fail(*_batch: Tensor) -> dict[str, Tensor]:
        raise error

    monkeypatch.setattr(detector.backend, "start", fail)
    with pytest.raises(UserError, match="out of memory for 1 x 64x64 pixels"):
        detector(quarters())
    monkeypatch.setattr(detector.backend, "start", lambda batch: fail)
    with pytest.raises(UserError, match="out of memory for 1 x 64x64 pixels"):
        detector(quarters())


def test_the_network_of_the_caller_stays_as_it_is(weights: Path) -> None:
    loaded = load_weights(weights)
    network = loaded.detector
    for module in network.modules():
        module.training = True
    before = {name: (tensor.data_ptr(), tensor.stride()) for name, tensor in network.state_dict().items()}
    predictor = Predictor(network, loaded.metadata)
    assert len(predictor(quarters(RED))) == 1
    assert all(module.training for module in network.modules())
    after = {name: (tensor.data_ptr(), tensor.stride()) for name, tensor in network.state_dict().items()}
    assert after == before


def test_several_passes_in_flight_give_what_each_gives_alone(weights: Path) -> None:
    detector = load_detector(weights)
    batches = [[quarters(RED), quarters(GREEN, RED)], [quarters(GREEN)], []]
    alone = [detector.predict(batch) for batch in batches]
    waits = [detector.start(batch) for batch in batches]
    for expected, wait in reversed(list(zip(alone, waits, strict=True))):
        for one, other in zip(expected, wait.result(), strict=True):
            assert_equal_detections(one, other)
    assert [len(found) for found in alone[0]] == [1, 2]


@pytest.mark.slow
def test_real_weights_see_a_dog_a_bicycle_and_a_car(data_dir: Path) -> None:
    detector = load_detector(data_dir / "darknet" / "yolo-fastest-1.1-xl.weights")
    found = detector(data_dir / "pictures" / "dog.jpg")
    assert detector.resize == "stretch"
    best: dict[str, list[float]] = {}
    for detection in found:
        best.setdefault(found.name_of(int(detection.labels[0])), detection.boxes[0].tolist())
    # What OpenCV's Darknet importer gives for the best box of each class, read off its own decoded output.
    for name, box in {
        "dog": [113.9, 188.5, 385.9, 535.6],
        "bicycle": [113.0, 126.7, 573.5, 497.3],
        "car": [449.8, 78.2, 684.6, 162.5],
    }.items():
        assert best[name] == pytest.approx(box, abs=0.2)


def test_load_detector_passes_on_every_setting_of_the_predictor() -> None:
    fields = {each.name: each.type for each in dataclasses.fields(PredictorOptions)}
    assert {name: each.__forward_arg__ for name, each in PredictorSettings.__annotations__.items()} == fields


def test_batches_are_started_one_at_a_time_by_whatever_thread(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = load_detector(weights, backend="torch")
    start, together, most, lock = detector.backend.start, 0, 0, threading.Lock()

    def counted(batch: Batch) -> Wait:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        threading.Event().wait(0.02)
        with lock:
            together -= 1
        return start(batch)

    monkeypatch.setattr(detector.backend, "start", counted)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(detector, [quarters(RED)] * 6))
    assert most == 1 and [len(each) for each in found] == [1] * 6
