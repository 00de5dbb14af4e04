from __future__ import annotations

import hashlib
import json
import pickle
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from yolofpn import weights as weights_module
from yolofpn.config import ConcatNeckConfig, InputConfig, Metadata, ModelConfig, PostprocessConfig
from yolofpn.config.config_file import load_config
from yolofpn.config.stored import dump_metadata, to_stored
from yolofpn.darknet.cfg import parse_cfg
from yolofpn.darknet.download import NAMED_WEIGHTS, NamedWeights
from yolofpn.darknet.network import DarknetNetwork
from yolofpn.darknet.weights_file import NEW_HEADER, pack_header, write_layers
from yolofpn.data.class_names import COCO_CATEGORY_IDS, COCO_NAMES
from yolofpn.errors import UserError
from yolofpn.models.build import NativeDetector
from yolofpn.models.yolo import YOLO
from yolofpn.weights import build_detector, load_weights, save_weights

MODEL = ModelConfig.model_validate(
    {
        "backbone": {"type": "darknet", "width": 0.0625, "depth": 0.1},
        "neck": {"type": "concat"},
        "head": {"type": "yolo", "anchors": [[[10, 13]], [[30, 61]], [[116, 90]]]},
        "norm_eps": 1e-4,
    }
)
METADATA = Metadata(
    model=MODEL,
    input=InputConfig(size=(64, 96), resize="stretch", mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.25)),
    postprocess=PostprocessConfig(score_thresh=(0.1, 0.2), nms_thresh=0.6, detections_per_img=7),
    names=("cat", "guide dog"),
    category_ids=(17, 18),
)
CFG = """[net]
width=64
height=32
[convolutional]
batch_normalize=1
filters=4
size=3
stride=32
pad=1
activation=leaky
[convolutional]
filters={filters}
size=1
[yolo]
anchors=10,20, 30,40
num=2
classes={classes}
"""
IMAGES = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def fresh(metadata: Metadata = METADATA) -> NativeDetector | DarknetNetwork:
    """A detector whose every number is random, statistics included, and whose signal neither fades nor explodes."""
    detector = build_detector(metadata, "fresh").eval()
    generator = torch.Generator().manual_seed(1)
    for tensor in filter(torch.is_floating_point, detector.state_dict().values()):
        if tensor.ndim == 4:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
        else:
            tensor.uniform_(0.5, 1.5, generator=generator)
    return detector


def darknet_metadata(classes: int = 3) -> Metadata:
    cfg = CFG.format(filters=2 * (5 + classes), classes=classes)
    return Metadata(darknet_cfg=cfg, names=tuple(map(str, range(classes))))


def write_darknet(folder: Path, stem: str = "x", classes: int = 3, *, net: str = "") -> tuple[Path, DarknetNetwork]:
    """x.weights and x.cfg in ``folder``."""
    network = fresh(darknet_metadata(classes))
    assert isinstance(network, DarknetNetwork)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.cfg").write_text(network.cfg.text.replace("[net]\n", f"[net]\n{net}\n"))
    write_layers(folder / f"{stem}.weights", network.weight_layers())
    return folder / f"{stem}.weights", network


def assert_same_maps(
    one: NativeDetector | DarknetNetwork, other: NativeDetector | DarknetNetwork, images: Tensor = IMAGES
) -> None:
    with torch.inference_mode():
        expected, found = one.dense(images), other.dense(images)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert value.std() > 0
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_weights(tmp_path / "x.safetensors", fresh().state_dict(), METADATA)
    return tmp_path / "x.safetensors"


def rewrite(
    path: Path, *, drop: str = "", add: dict[str, Tensor] | None = None, metadata: dict[str, str] | None = None
) -> Path:
    """The file again with other tensors or other metadata."""
    with safe_open(path, "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys() if name != drop}  # noqa: SIM118
        kept = file.metadata()
    save_file({**state, **(add or {})}, path, kept if metadata is None else metadata)
    return path


@pytest.mark.slow
def test_saved_and_loaded_are_the_same_detector(saved: Path) -> None:
    loaded = load_weights(saved)
    assert loaded.metadata == METADATA
    assert loaded.notes == []
    assert isinstance(loaded.detector, YOLO)
    assert not loaded.detector.training
    assert loaded.detector.limits.score_thresh == (0.1, 0.2)
    assert loaded.detector.limits.detections_per_img == 7
    assert_same_maps(fresh(), loaded.detector)


@pytest.mark.slow
def test_norm_eps_and_normalisation_come_from_the_metadata(saved: Path) -> None:
    detector = load_weights(str(saved)).detector
    assert {module.eps for module in detector.modules() if isinstance(module, nn.BatchNorm2d)} == {1e-4}
    other = build_detector(METADATA.model_copy(update={"input": InputConfig(size=(64, 96))}), "other").eval()
    other.load_state_dict(detector.state_dict())
    assert not torch.equal(other.dense(IMAGES)["p3"], detector.dense(IMAGES)["p3"])


@pytest.mark.slow
def test_run_folder(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    shutil.copy(saved, tmp_path / "run" / "weights.safetensors")
    assert_same_maps(fresh(), load_weights(tmp_path / "run").detector)


@pytest.mark.slow
def test_half_precision_is_stored_small_and_loaded_as_fp32(saved: Path, tmp_path: Path) -> None:
    small = tmp_path / "half.safetensors"
    save_weights(small, fresh().state_dict(), METADATA, torch.float16)
    assert small.stat().st_size < 0.6 * saved.stat().st_size
    detector, expected = load_weights(small).detector, fresh().state_dict()
    for name, tensor in detector.state_dict().items():
        if tensor.is_floating_point():
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, expected[name].half().float())


def test_numbers_too_large_for_half_precision_are_refused(saved: Path) -> None:
    before, state = saved.read_bytes(), fresh().state_dict()
    name = next(iter(state))
    state[name].view(-1)[0] = 65_520.0  # rounds to infinity; the largest float16 is 65,504
    with pytest.raises(UserError, match=rf"x.safetensors: '{name}' holds numbers too large for torch.float16"):
        save_weights(saved, state, METADATA, torch.float16)
    assert saved.read_bytes() == before
    state[name].view(-1)[0] = 65_504.0
    save_weights(saved, state, METADATA, torch.float16)


@pytest.mark.slow
def test_batch_norms_counter_is_dropped_and_tolerated(saved: Path) -> None:
    with safe_open(saved, "pt") as file:
        assert not [name for name in file.keys() if "num_batches" in name]  # noqa: SIM118
    counter = next(name for name in fresh().state_dict() if name.endswith("num_batches_tracked"))
    load_weights(rewrite(saved, add={counter: torch.tensor(5)}))


def test_tensors_that_share_memory_or_are_not_contiguous_are_saved(tmp_path: Path) -> None:
    state = dict(fresh().state_dict())
    first, second, *_ = [name for name, tensor in state.items() if name.endswith("norm.weight")]
    state[second] = state[first][: len(state[second])] if len(state[second]) <= len(state[first]) else state[second]
    kernels = [name for name, tensor in state.items() if tensor.ndim == 4]
    state[kernels[1]] = state[kernels[1]].to(memory_format=torch.channels_last)
    save_weights(tmp_path / "x.safetensors", state, METADATA)
    loaded = load_weights(tmp_path / "x.safetensors").detector.state_dict()
    for name in (first, second, kernels[1]):
        assert torch.equal(loaded[name], state[name])


def test_saving_leaves_the_old_file_when_it_fails(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("yolofpn.tensor_files.save_file", full)
    with pytest.raises(UserError, match="written"):
        save_weights(saved, fresh().state_dict(), METADATA)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_saving_into_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="written"):
        save_weights(tmp_path / "none" / "x.safetensors", fresh().state_dict(), METADATA)


def test_names_can_be_replaced_by_as_many(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "two.names").write_text("Katze\nHund\n")
    metadata = load_weights(saved, names=tmp_path / "two.names").metadata
    assert metadata.names == ("Katze", "Hund")
    assert metadata.category_ids == (17, 18)
    (tmp_path / "one.names").write_text("Katze\n")
    with pytest.raises(UserError, match=r"one.names holds 1 names, .*x.safetensors has 2 classes"):
        load_weights(saved, names=tmp_path / "one.names")


@pytest.mark.slow
def test_tensors_must_be_those_of_the_network(saved: Path) -> None:
    name, tensor = next(iter(fresh().state_dict().items()))
    content = saved.read_bytes()
    with pytest.raises(UserError, match=rf"x.safetensors: lacks 1 of the network's tensors, first '{name}'"):
        load_weights(rewrite(saved, drop=name))
    saved.write_bytes(content)
    with pytest.raises(UserError, match=r"holds 2 tensors that the network has not, first 'a'"):
        load_weights(rewrite(saved, add={"a": torch.zeros(1), "b": torch.zeros(1)}))
    saved.write_bytes(content)
    with pytest.raises(UserError, match=rf"'{name}' is 1, its network needs {'x'.join(map(str, tensor.shape))}"):
        load_weights(rewrite(saved, add={name: torch.zeros(1)}))


def changed(**changes: Any) -> dict[str, str]:
    return {"yolofpn": json.dumps({**to_stored(METADATA), **changes})}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "does not say of which network"),
        ({"yolofpn": "{"}, "its metadata is damaged"),
        ({"yolofpn": "[]"}, "format version None"),
        (changed(format_version=2), "has format version 2, this yolofpn reads 1: update"),
        (changed(nmaes=[]), r"x.safetensors: nmaes: unknown key \(did you mean 'names'\?\)"),
        (changed(names=["cat"]), "2 category ids for 1 names"),
        (changed(darknet_cfg="[net]"), "exactly one of model and darknet_cfg"),
    ],
)
def test_bad_metadata(saved: Path, metadata: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_weights(rewrite(saved, metadata=metadata))


@pytest.mark.slow
@pytest.mark.parametrize("keep", [0, 5, 100, -1000])
def test_safetensors_cut_short(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"x\.safetensors: (is )?damaged"):
        load_weights(saved)


def test_cfg_is_only_for_darknet_weights(saved: Path) -> None:
    with pytest.raises(UserError, match="darknet"):
        load_weights(saved, darknet_cfg="x.cfg")


@pytest.mark.slow
@pytest.mark.parametrize("key", ["ema", "model"])
def test_training_checkpoint(tmp_path: Path, key: str) -> None:
    state = fresh().state_dict()
    torch.save({"metadata": dump_metadata(METADATA), key: state, "epoch": 3}, tmp_path / "last.pt")
    loaded = load_weights(tmp_path / "last.pt")
    assert loaded.metadata == METADATA
    assert_same_maps(fresh(), loaded.detector)


@pytest.mark.slow
def test_checkpoint_prefers_the_average(tmp_path: Path) -> None:
    state = fresh().state_dict()
    zeros = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    torch.save({"metadata": dump_metadata(METADATA), "model": zeros, "ema": state}, tmp_path / "last.pt")
    assert_same_maps(fresh(), load_weights(tmp_path / "last.pt").detector)


class Payload:
    """Pickled, it creates a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("writer", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_pickles_are_refused_unread(tmp_path: Path, writer: Any) -> None:
    writer({"model": Payload(tmp_path / "executed")}, tmp_path / "foreign.pt")
    with pytest.raises(UserError, match="code"):
        load_weights(tmp_path / "foreign.pt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [{"a": torch.zeros(2)}, [1, 2], {"metadata": "{}", "model": {"a": 1}}])
def test_foreign_checkpoints_without_code_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "foreign.pth")
    with pytest.raises(UserError, match="checkpoint"):
        load_weights(tmp_path / "foreign.pth")


def test_checkpoint_cut_short(tmp_path: Path) -> None:
    torch.save({"metadata": dump_metadata(METADATA), "model": fresh().state_dict()}, tmp_path / "last.pt")
    (tmp_path / "last.pt").write_bytes((tmp_path / "last.pt").read_bytes()[:-500])
    with pytest.raises(UserError, match="damaged"):
        load_weights(tmp_path / "last.pt")


@pytest.mark.parametrize("seed", range(30))
def test_damaged_checkpoints_never_raise_anything_else(tmp_path: Path, seed: int) -> None:
    state = {"w": torch.zeros(2)}
    torch.save({"metadata": "{}", "model": state}, tmp_path / "x.pt", _use_new_zipfile_serialization=seed % 2 == 0)
    content = bytearray((tmp_path / "x.pt").read_bytes())
    rng = random.Random(seed)
    for _ in range(5):
        content[rng.randrange(2, min(300, len(content)))] = rng.randrange(256)
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.pt"):
        load_weights(tmp_path / "x.pt")


def test_darknet_weights_with_cfg_and_names_beside_them(tmp_path: Path) -> None:
    path, network = write_darknet(tmp_path / "backup", "x_best")
    (path.parent / "x_best.cfg").rename(tmp_path / "x.cfg")
    (tmp_path / "x.names").write_text("cat\ndog\ncow\n")
    loaded = load_weights(path)
    assert loaded.notes == [
        f"cfg: {tmp_path / 'x.cfg'} (found by its name)",
        f"names: {tmp_path / 'x.names'} (found)",
        "resize: stretch, as AlexeyAB's Darknet does, which wrote header 0.2.5 (or --resize letterbox)",
    ]
    assert loaded.metadata.names == ("cat", "dog", "cow")
    assert loaded.metadata.category_ids == ()
    assert loaded.metadata.input == InputConfig(size=(32, 64), resize="stretch")
    assert loaded.metadata.header is not None
    assert loaded.metadata.header.minor == 2
    assert_same_maps(network, loaded.detector)


def test_darknet_weights_of_80_classes_are_cocos(tmp_path: Path) -> None:
    path, _ = write_darknet(tmp_path, classes=80, net="letter_box=0")
    metadata = load_weights(path, darknet_cfg=tmp_path / "x.cfg").metadata
    assert metadata.names == COCO_NAMES
    assert metadata.category_ids == COCO_CATEGORY_IDS
    assert metadata.input.resize == "stretch"


def test_darknet_weights_with_given_files(tmp_path: Path) -> None:
    path, network = write_darknet(tmp_path / "w")
    (tmp_path / "w" / "x.cfg").rename(tmp_path / "other.cfg")
    (tmp_path / "data.yaml").write_text("names: [a, b, c]\n")
    loaded = load_weights(path, darknet_cfg=tmp_path / "other.cfg", names=tmp_path / "data.yaml")
    assert loaded.metadata.names == ("a", "b", "c")
    assert_same_maps(network, loaded.detector)
    with pytest.raises(UserError, match="weights"):
        load_weights(path)


@pytest.mark.slow
def test_darknet_weights_of_a_known_size_get_our_own_cfg(tmp_path: Path) -> None:
    path = tmp_path / "anything.weights"
    with path.open("wb") as file:
        file.write(pack_header(NEW_HEADER))
        file.truncate(NAMED_WEIGHTS["yolov3-tiny"].size)
    loaded = load_weights(path)
    assert loaded.notes == [
        "cfg: our own of yolov3-tiny, which needs as many numbers as the file holds (none beside the weights)",
        "names: COCO's 80 (no names file that fits beside the weights)",
        "resize: stretch, as AlexeyAB's Darknet does, which wrote header 0.2.5 (or --resize letterbox)",
    ]
    assert loaded.metadata.input.size == (416, 416)
    assert loaded.detector(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)) is not None


def test_named_weights_come_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, network = write_darknet(tmp_path)
    content = path.read_bytes()
    published = NamedWeights("x.weights", len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(weights_module, "NAMED_WEIGHTS", {"small": published})
    monkeypatch.setenv("YOLOFPN_CACHE", str(tmp_path))
    loaded = load_weights("small")
    assert loaded.notes[0] == f"weights: {path} (found in the cache; size and sha256 checked)"
    assert len(loaded.notes) == 4
    assert_same_maps(network, loaded.detector)


def test_darknet_network_in_a_safetensors_file(tmp_path: Path) -> None:
    path, network = write_darknet(tmp_path)
    metadata = load_weights(path).metadata
    save_weights(tmp_path / "y.safetensors", network.state_dict(), metadata)
    loaded = load_weights(tmp_path / "y.safetensors")
    assert loaded.metadata == metadata
    assert isinstance(loaded.detector, DarknetNetwork)
    assert_same_maps(network, loaded.detector)


def test_darknet_network_with_another_number_of_names() -> None:
    metadata = darknet_metadata(3).model_copy(update={"names": ("a",)})
    with pytest.raises(UserError, match="x: has 3 classes, but 1 names"):
        build_detector(metadata, "x")


@pytest.mark.parametrize(
    "metadata",
    [
        METADATA.model_copy(
            update={"model": MODEL.model_copy(update={"neck": ConcatNeckConfig(type="concat", channels=(2**16,) * 3)})}
        ),
        Metadata(darknet_cfg=CFG.format(filters=16, classes=3).replace("size=3", "size=999"), names=tuple("abc")),
    ],
)
def test_a_network_larger_than_its_file_is_refused_before_it_takes_memory(metadata: Metadata, tmp_path: Path) -> None:
    save_weights(tmp_path / "x.safetensors", {"layers.0.conv.weight": torch.zeros(1)}, metadata)
    with pytest.raises(UserError, match="network"):
        load_weights(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (slice(0), "is empty"),
        (slice(10), "truncated"),
        (slice(-4), "truncated, or for another cfg"),
        (slice(20 + 4 * 4 * (4 + 27)), "holds the first 1 of 2 layers"),
    ],
)
def test_darknet_weights_cut_short(tmp_path: Path, cut: slice, message: str) -> None:
    path, _ = write_darknet(tmp_path)
    path.write_bytes(path.read_bytes()[cut])
    with pytest.raises(UserError, match=message):
        load_weights(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "is a text"),
        (b"<html><body>not found</body></html>", "is a text"),
    ],
)
def test_text_that_is_named_weights(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.weights").write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_weights(tmp_path / "x.weights")


def test_darknet_weights_that_are_too_long(tmp_path: Path) -> None:
    path, _ = write_darknet(tmp_path)
    path.write_bytes(path.read_bytes() + bytes(4))
    with pytest.raises(UserError, match="too long"):
        load_weights(path)


def test_classifier_is_no_detector(tmp_path: Path) -> None:
    cfg = "[net]\nwidth=8\nheight=8\n[convolutional]\nfilters=3\n[avgpool]\n[softmax]\n"
    (tmp_path / "c.cfg").write_text(cfg)
    write_layers(tmp_path / "c.weights", DarknetNetwork(parse_cfg(cfg, "c.cfg")).weight_layers())
    with pytest.raises(UserError, match="classifier"):
        load_weights(tmp_path / "c.weights")


def test_what_is_not_there(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(UserError, match="safetens"):
        load_weights(tmp_path / "y.safetensors")
    with pytest.raises(UserError, match="did you mean yolov3-tiny"):
        load_weights("yolo3-tiny")
    with pytest.raises(UserError, match="--weights yolov3 downloads"):
        load_weights(tmp_path / "none" / "yolov3.weights")
    with pytest.raises(UserError, match=r"names that are downloaded: yolov3, yolov3-tiny"):
        load_weights("zzzzzzzzzzzz")


def test_path_that_the_system_refuses() -> None:
    with pytest.raises(UserError, match="long"):
        load_weights("x" * 5000)


def test_folders_that_are_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run folder"):
        load_weights(tmp_path)
    (tmp_path / "last.pt").touch()
    with pytest.raises(UserError, match="weights"):
        load_weights(tmp_path)


def test_a_backbone_is_refused_before_it_is_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="backbone"):
        load_weights("darknet53.conv.74")


@pytest.mark.parametrize(
    ("stem", "classes", "resize", "size"),
    [
        ("yolo-fastest-1.1", 80, "stretch", (320, 320)),
        ("yolo-fastest-1.1-xl", 80, "stretch", (320, 320)),
        ("yoloface-500k", 1, "stretch", (256, 320)),
        ("MobileNetV2-YOLO-Fastest-voc-v2", 20, "stretch", (320, 320)),
    ],
)
def test_real_weights(data_dir: Path, stem: str, classes: int, resize: str, size: tuple[int, int]) -> None:
    loaded = load_weights(data_dir / "darknet" / f"{stem}.weights")
    assert loaded.detector.num_classes == len(loaded.metadata.names) == classes
    assert (loaded.metadata.input.resize, loaded.metadata.input.size) == (resize, size)
    assert loaded.metadata.category_ids == (COCO_CATEGORY_IDS if classes == 80 else ())
    assert loaded.metadata.header is not None
    assert loaded.metadata.header.revision == 5
    assert len(loaded.notes) == 3


def test_real_backbone_cannot_detect(data_dir: Path) -> None:
    darknet = data_dir / "darknet"
    with pytest.raises(UserError, match=r"Nano.57: holds the first \d+ of \d+ layers"):
        load_weights(darknet / "MobileNetV2-Nano.57", darknet_cfg=darknet / "MobileNetV2-YOLOv3-Nano-coco.cfg")


@pytest.mark.slow
def test_no_kind_of_network_loads_the_compiler(tmp_path: Path) -> None:
    """PyTorch imports it, in seconds, for most of what is computed without numbers, as a network's shapes are."""
    bands = InputConfig(size=(64, 64), channels=5, mean=(0.5,) * 5, std=(0.25,) * 5)
    regions = load_config(Path(__file__).parents[1] / "cfg" / "two-stage" / "faster_rcnn-tiny.yaml").model
    for name, model in (("one", MODEL), ("two", regions)):
        metadata = Metadata(model=model, input=bands, names=("cat", "dog"))
        save_weights(tmp_path / name, build_detector(metadata, name).state_dict(), metadata)
    program = (
        "import sys; from yolofpn.weights import load_weights; "
        "[load_weights(path) for path in sys.argv[1:]]; print({'sympy', 'torch._inductor'} & sys.modules.keys())"
    )
    words = [sys.executable, "-c", program, str(tmp_path / "one"), str(tmp_path / "two")]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "set()\n"
