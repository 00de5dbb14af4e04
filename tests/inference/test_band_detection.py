"""Detection, training and export with images of other channels than 8-bit colours."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
import torch

from yolofpn.config import Config, InputConfig, Metadata
from yolofpn.config.stored import dump_metadata, from_stored, to_stored
from yolofpn.errors import InputError, UserError
from yolofpn.inference.load_detector import load_detector
from yolofpn.inference.predictor import Predictor
from yolofpn.models.build import build_yolo
from yolofpn.models.yolo import YOLO
from yolofpn.runtimes.runtime import Layout
from yolofpn.sources.resolve import resolve_sources
from yolofpn.structures import Detections
from yolofpn.training.optim import freeze
from yolofpn.training.run_plan import Plan
from yolofpn.training.setup import start_model
from yolofpn.training.start import StartingWeights, adapt_config
from yolofpn.training.start_bands import fit_to_bands
from yolofpn.weights import load_weights, save_weights

MODEL = {
    "backbone": {"type": "strided", "width": 8},
    "neck": {"type": "none", "levels": [4, 5]},
    "head": {"type": "yolo", "anchors": [[[16, 16]], [[32, 32]]]},
}
LOWEST = 1e-4  # random weights are sure of nothing
GRAY = np.random.default_rng(0).integers(0, 256, (48, 64), dtype=np.uint8)  # padded, not resized (that rounds)


def config(**input: object) -> Config:
    return Config.model_validate({"model": MODEL, "input": {"size": [64, 64], **input}})


def metadata(config: Config) -> Metadata:
    return Metadata(model=config.model, input=config.input, postprocess=config.postprocess, names=("a", "b"))


def detector(config: Config, start: StartingWeights | None = None) -> YOLO:
    torch.manual_seed(0)
    model = build_yolo(config.model, 2, config.input, config.postprocess).eval()
    if start is not None:
        model.load_state_dict(dict(fit_to_bands(start, config.input).state))
    return model


def colour_weights() -> StartingWeights:
    state = detector(config(mean=[0.4] * 3, std=[0.5] * 3)).state_dict()
    return StartingWeights("colours", state, {"input.mean": (0.4,) * 3, "input.std": (0.5,) * 3})


def predictor(config: Config, start: StartingWeights | None = None, **options: object) -> Predictor:
    settings = {"backend": "torch", "score_thresh": LOWEST, **options}
    return Predictor(detector(config, start), metadata(config), **settings)  # type: ignore[arg-type]


def assert_same(found: Detections, expected: Detections, tolerance: float = 1e-4) -> None:
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=100 * tolerance)
    np.testing.assert_allclose(found.scores, expected.scores, atol=tolerance)


@pytest.mark.slow
def test_gray_of_one_channel_and_16_bits_gives_the_detections_of_gray_colours(tmp_path: Path) -> None:
    # The same normalisation, so that even padding and the borders of images agree.
    colours, start = config(mean=[0.4] * 3, std=[0.5] * 3), colour_weights()
    expected = predictor(colours)(GRAY)
    bands = predictor(config(channels=1, mean=[0.4], std=[0.2]), start)
    deep = GRAY.astype(np.uint16) * 257
    PIL.Image.fromarray(deep).save(tmp_path / "a.tif")
    np.save(tmp_path / "a.npy", deep)
    for image in (
        deep,
        deep[:, :, None],
        GRAY,
        (GRAY / 255).astype(np.float32),
        tmp_path / "a.tif",
        tmp_path / "a.npy",
    ):
        assert_same(bands(image), expected)
    narrow = 20_000 + GRAY.astype(np.uint16)
    assert_same(predictor(config(channels=1, mean=[0.4], std=[1.0], range=[20_000, 20_255]), start)(narrow), expected)
    six = predictor(config(channels=6, mean=[0.4], std=[0.5]), start)
    assert_same(six(np.repeat(deep[:, :, None], 6, axis=2)), expected)


def test_colours_of_16_bits_are_bgr_arrays_and_rgb_files_as_ever(tmp_path: Path) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    expected = predictor(config())(colours)
    deep, bands = colours.astype(np.uint16) * 257, predictor(config(range=[0, 65535]))
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    for found in (bands(deep), bands(deep[:, :, ::-1], rgb=True), bands(tmp_path / "a.png")):
        assert_same(found, expected)


def test_a_config_keeps_its_own_normalisation_beside_weights_for_colours() -> None:
    own = config(channels=4, mean=[0.1] * 4, std=[0.3] * 4)
    adapted, lines = adapt_config(own, fit_to_bands(colour_weights(), own.input))
    assert adapted.input == own.input
    assert not lines
    of_bands = StartingWeights("bands", {}, {"input.channels": 4, "input.range": (0.0, 9.0)})
    taken, lines = adapt_config(config(), fit_to_bands(of_bands, config().input))
    assert (taken.input.channels, taken.input.range) == (4, (0, 9))
    assert len(lines) == 2
    normalised = replace(of_bands, settings={**of_bands.settings, "input.mean": (0.5,) * 4, "input.std": (0.2,) * 4})
    taken, _ = adapt_config(config(channels=4), normalised)
    assert (taken.input.mean, taken.input.std) == ((0.5,) * 4, (0.2,) * 4)


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_the_first_responses_are_those_to_gray_colours_whatever_mean_and_std_are(channels: int) -> None:
    own = config(channels=channels, range=[0, 4095], mean=[0.1] * channels, std=[0.3] * channels)
    gray = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        expected = detector(config()).get_submodule("backbone.blocks.0")(((gray - 0.4) / 0.5).repeat(1, 3, 1, 1))
        found = detector(own, colour_weights()).get_submodule("backbone.blocks.0")(
            ((gray - 0.1) / 0.3).repeat(1, channels, 1, 1)
        )
    torch.testing.assert_close(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


def test_a_kernel_made_for_other_bands_learns_where_its_surroundings_are_frozen(tmp_path: Path) -> None:
    path, lines = tmp_path / "colours.safetensors", list[str]()
    save_weights(path, detector(config()).state_dict(), metadata(config()))
    train = {"freeze": ["backbone", "head"]}
    splits: Any = SimpleNamespace(train=SimpleNamespace(names=("a", "b"), category_ids=()))
    for channels, learning in ((3, []), (4, ["backbone.blocks.0.conv.weight"])):
        own = config(channels=channels, range=[0, 4095]).model_dump() | {"train": train}
        plan = Plan(Config.model_validate(own), weights=str(path))
        changed, model = start_model(plan, splits, lines.append)
        freeze(model, changed.train.freeze, norm=False)
        assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == learning
    assert any(learning[0] in line for line in lines)


def test_everything_is_in_the_weights_and_plain_weights_stay_readable_for_older_versions(tmp_path: Path) -> None:
    stored = to_stored(metadata(config(channels=4, range=[[0, 1], [0, 2], [0, 3], [0, 4]], bands=[4, 2, 1])))
    read = from_stored(stored, "file").input
    assert read == config(channels=4, range=[[0, 1], [0, 2], [0, 3], [0, 4]], bands=[4, 2, 1]).input
    assert not {"channels", "range", "bands"} & to_stored(metadata(config()))["input"].keys()
    assert '"channels"' not in dump_metadata(metadata(config())).split('"input"')[1].split("}")[0]
    path = tmp_path / "bands.safetensors"
    own = config(channels=2)
    save_weights(path, detector(own).state_dict(), metadata(own))
    image = np.random.default_rng(2).random((40, 40, 2), dtype=np.float32)
    assert_same(load_detector(path, backend="torch", score_thresh=LOWEST)(image), predictor(own)(image))


@pytest.mark.parametrize(
    ("input", "word"),
    [
        ({"channels": 4, "mean": [0.1, 0.2, 0.3]}, "mean"),
        ({"channels": 2, "range": [[0, 1], [0, 1], [0, 1]]}, "range"),
        ({"channels": 1, "range": [5, 5]}, "range"),
        ({"channels": 4, "bands": [5, 1, 1]}, "bands"),
        ({"bands": [3, 2, 1]}, "bands"),
        ({"channels": 0}, "channels"),
    ],
)
def test_settings_that_do_not_agree_are_refused(input: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        InputConfig.model_validate(input)


def test_wrong_images_and_options_are_refused_with_what_is_there_and_what_is_wanted() -> None:
    four = predictor(config(channels=4), bands=(4, 2, 1))
    with pytest.raises(InputError, match="takes 4"):
        four(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="numbers"):
        four(np.zeros((8, 8, 4), bool))
    for options in ({"depth": "12"}, {"bands": (5, 1, 1)}):
        with pytest.raises(UserError):
            predictor(config(channels=4), **options)
    with pytest.raises(UserError, match="bands"):
        predictor(config(), bands=(1, 2, 3))


def test_frames_show_the_chosen_bands_and_videos_are_refused(tmp_path: Path) -> None:
    four = predictor(config(channels=4), bands=(4, 2, 1))
    values = np.zeros((8, 8, 4), np.uint16)
    values[:4, :, 3] = 900
    np.save(tmp_path / "a.npy", values)
    cv2.imwrite(str(tmp_path / "rgb.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "film.mp4").write_bytes(b"")
    found = {source.relative_path.name: source for source in resolve_sources([str(tmp_path)], depth=four.depth)}
    assert found.keys() == {"a.npy", "rgb.png", "film.mp4"}
    (frame,) = found["a.npy"].frames()
    assert frame.image.shape == (8, 8, 4)
    assert frame.whole_image()[0, 0].tolist() == [0, 0, 255]
    assert four(values).draw(values).shape == (8, 8, 3)
    for name in ("rgb.png", "film.mp4"):
        with pytest.raises(InputError, match=name):
            list(found[name].frames())
    (camera,) = resolve_sources(["0"], depth=four.depth)
    with pytest.raises(InputError, match="4 channels"):
        list(camera.frames())
    assert replace(frame, whole=None).size == (8, 8)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_an_exported_graph_gives_the_detections_of_the_weights(tmp_path: Path, suffix: str) -> None:
    from yolofpn.inference.export_graph import ExportOptions, open_export

    own = config(channels=4, range=[0, 4095], resize="stretch")
    save_weights(tmp_path / "bands.safetensors", detector(own).state_dict(), metadata(own))
    image = np.random.default_rng(3).integers(0, 4096, (64, 64, 4), dtype=np.uint16)
    expected = load_detector(tmp_path / "bands.safetensors", backend="torch", score_thresh=LOWEST)(image)
    kind = "onnx" if suffix == ".onnx" else "openvino"
    path = tmp_path / f"graph{suffix}"
    layout: Layout = "decoded" if kind == "onnx" else "raw"
    exporter, _ = open_export(ExportOptions(path, kind, weights=str(tmp_path / "bands.safetensors"), layout=layout))
    exporter.export()
    assert_same(load_detector(path, score_thresh=LOWEST)(image), expected)
    with pytest.raises(UserError, match="darknet"):
        open_export(ExportOptions(tmp_path / "a.weights", "darknet", weights=str(tmp_path / "bands.safetensors")))


@pytest.mark.slow
def test_training_on_arrays_ends_in_weights_that_evaluate_and_draw(tmp_path: Path) -> None:
    from yolofpn.cli import check, detect, evaluate, train

    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        (tmp_path / split / "images").mkdir(parents=True)
        (tmp_path / split / "labels").mkdir()
        for number in range(4):
            values = rng.integers(1000, 1100, (60, 60, 5), dtype=np.uint16)
            values[20:40, 20:40, 3] += 300
            np.save(tmp_path / split / "images" / f"{number}.npy", values)
            (tmp_path / split / "labels" / f"{number}.txt").write_text("0 0.5 0.5 0.33 0.33\n")
    data = tmp_path / "data.yaml"
    data.write_text("train: train/images\nval: val/images\nnames: [thing]\n")
    input = {"size": [64, 64], "channels": 5, "range": [1000, 1400], "bands": [4, 2, 1]}
    (tmp_path / "net.yaml").write_text(json.dumps({"model": MODEL, "input": input}))
    settings = ["train.reference_images=null", "train.precision=fp32", "augment.mixup=0.5", "augment.close_epochs=0"]
    run, cfg = str(tmp_path / "run"), str(tmp_path / "net.yaml")
    words = ["--cfg", cfg, "--data", str(data), "--weights", "none", "--epochs", "1", "--batch-size", "4"]
    assert train.main([*words, "--workers", "0", "--output", run, *settings]) == 0
    assert (tmp_path / "run/plots/train_batch.jpg").is_file()
    torched = ["--backend", "torch"]
    assert evaluate.main(["--weights", run, "--data", str(data), "--workers", "0", *torched]) == 0
    out = tmp_path / "out"
    images = str(tmp_path / "val/images")
    assert detect.main([images, "--weights", run, "--output", str(out), "--bands", "4", *torched]) == 0
    drawn = cv2.imread(str(out / "0.png"))
    assert drawn is not None and drawn.shape == (60, 60, 3)
    assert drawn[30, 30].min() > 200 > drawn[5, 5].max() + 50
    assert check.main(["--data", str(data), "--cfg", cfg]) in (0, 1)
    # A config that says nothing about bands takes them, and how images are read, from the weights.
    (tmp_path / "net.yaml").write_text(json.dumps({"model": MODEL, "input": {"size": [64, 64]}}))
    words[words.index("none")], again = run, str(tmp_path / "again")
    assert train.main([*words, "--workers", "0", "--output", again, *settings]) == 0
    own = load_weights(Path(again)).metadata.input
    assert (own.channels, own.range) == (5, (1000, 1400))
