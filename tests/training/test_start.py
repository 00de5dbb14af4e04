"""What is taken over from weights of every kind."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from yolofpn.config import Config, DarknetHeader, InputConfig, Metadata, load_config
from yolofpn.darknet.download import NAMED_WEIGHTS, darknet53_convolutions
from yolofpn.darknet.native import native_layers
from yolofpn.darknet.weights_file import WeightLayer, write_layers
from yolofpn.errors import UserError
from yolofpn.models.build import build_yolo
from yolofpn.models.yolo import YOLO
from yolofpn.training.start import adapt_config, read_starting_weights, take_over
from yolofpn.weights import save_weights
from yolofpn.yaml_text import parse_yaml

HEADER = DarknetHeader(major=0, minor=2, revision=0, seen=0)
NAMES = ("cat", "dog", "cow")
TINY = """
model:
  backbone: {type: darknet, width: 0.0625, depth: 0.1}
  neck: {type: NECK, levels: [4, 5], channels: CHANNELS}
  head: {type: yolo, anchors: [[[16, 16], [24, 24]], [[32, 32], [48, 48]]]}
input: {size: [64, 64]}
"""


@cache
def tiny(neck: str = "concat") -> Config:
    text = TINY.replace("NECK", neck).replace("CHANNELS", "8" if neck == "add" else "[8, 8]")
    return Config.model_validate(parse_yaml(text))


def make(config: Config, classes: int = 3) -> YOLO:
    return build_yolo(config.model, classes, config.input, config.postprocess)


def randomised(model: YOLO) -> YOLO:
    """With numbers that differ everywhere, running statistics included."""
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 1.0)
    return model


def save(path: Path, model: YOLO, config: Config, names: tuple[str, ...] = NAMES) -> str:
    save_weights(path, model.state_dict(), Metadata(model=config.model, input=config.input, names=names))
    return str(path)


def take(spec: str, config: Config, names: tuple[str, ...] = NAMES) -> tuple[YOLO, str, dict[str, Tensor]]:
    """The model after, the line, and the state before."""
    model = make(config, len(names))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    line = take_over(model, names, (), read_starting_weights(spec, config.model))
    return model, line, before


def equal_names(model: YOLO, state: dict[str, Tensor]) -> set[str]:
    own = model.state_dict()
    return {
        name
        for name, tensor in state.items()
        if name in own and own[name].shape == tensor.shape and torch.equal(own[name], tensor)
        and not name.endswith("num_batches_tracked")
    }  # fmt: skip


def test_equal_classes_take_everything(tmp_path: Path) -> None:
    config = tiny()
    source = randomised(make(config))
    model, line, _ = take(save(tmp_path / "a.safetensors", source, config), config)
    own = {name for name in model.state_dict() if not name.endswith("num_batches_tracked")}
    assert equal_names(model, source.state_dict()) == own
    assert line == f"weights: {len(own)} of {len(own)} tensors taken from {tmp_path}/a.safetensors" + (
        ", 0 in part: 3 of 3 classes are known, by name"
    )


def test_class_outputs_go_by_name(tmp_path: Path) -> None:
    config = tiny()
    source = randomised(make(config))
    spec = save(tmp_path / "a.safetensors", source, config)
    names = ("Cow", "horse", "cat", "pig")
    model, line, before = take(spec, config, names)
    assert ", 4 in part: 2 of 4 classes are known, by name" in line
    for level in ("p4", "p5"):
        for kind in ("weight", "bias"):
            name = f"head.{level}.predict.{kind}"
            given = source.state_dict()[name].view(2, 8, -1)  # 2 anchors of x y w h objectness cat dog cow
            old, new = (state[name].view(2, 9, -1) for state in (before, model.state_dict()))
            assert torch.equal(new[:, :5], given[:, :5])
            assert torch.equal(new[:, 5], given[:, 7])  # cow
            assert torch.equal(new[:, 6], old[:, 6])  # horse is new
            assert torch.equal(new[:, 7], given[:, 5])  # cat
            assert torch.equal(new[:, 8], old[:, 8])  # pig is new
            assert not torch.equal(given[:, 6], new[:, 6])  # dog went nowhere
    others = {name for name in source.state_dict() if ".predict." not in name and "tracked" not in name}
    assert others <= equal_names(model, source.state_dict())


@pytest.mark.slow
def test_another_number_of_anchors_leaves_the_predictions_fresh(tmp_path: Path) -> None:
    config = tiny()
    spec = save(tmp_path / "a.safetensors", randomised(make(config)), config)
    three = "[[[16, 16], [24, 24], [9, 9]], [[32, 32], [48, 48], [9, 9]]]"
    head = config.model.head.model_validate({"type": "yolo", "anchors": eval_list(three)})
    other = config.model_copy(update={"model": config.model.model_copy(update={"head": head})})
    model, line, before = take(spec, other)
    assert line.endswith("4 fresh: head.p4, head.p5")
    assert {"head.p4.predict.weight", "head.p5.predict.bias"} <= equal_names(model, before)


def eval_list(text: str) -> Any:
    import json

    return json.loads(text)


@pytest.mark.slow
def test_more_levels_take_those_that_there_were(tmp_path: Path) -> None:
    config = tiny()
    source = randomised(make(config))
    spec = save(tmp_path / "a.safetensors", source, config)
    text = TINY.replace("NECK", "concat").replace("CHANNELS", "[8, 8, 8]").replace("[4, 5]", "[3, 4, 5]")
    (tmp_path / "b.yaml").write_text(text.replace("anchors: [", "anchors: [[[8, 8], [9, 9]], "))
    wider = load_config(tmp_path / "b.yaml")
    model, line, _ = take(spec, wider)
    given = {name for name in source.state_dict() if not name.endswith("num_batches_tracked")}
    assert given == equal_names(model, source.state_dict())
    assert line.endswith("fresh: neck.p3, head.p3")


@pytest.mark.slow
@pytest.mark.parametrize(("given", "wanted"), [(1.0, 2.0), (2.0, 1.0), (1.05, 2.0)])
def test_boxes_stay_where_they_are_under_another_scale_of_the_centres(
    tmp_path: Path, given: float, wanted: float
) -> None:
    config = tiny()
    head = {"type": "yolo", "anchors": [[[16, 16], [24, 24]], [[32, 32], [48, 48]]]}

    def scaled(scale: float) -> Config:
        changed = config.model.head.model_validate(head | {"scale_x_y": scale})
        return config.model_copy(update={"model": config.model.model_copy(update={"head": changed})})

    source = randomised(make(scaled(given)))
    for level in ("p4", "p5"):  # every cell and anchor has centres within .4 of a cell
        predict = source.get_submodule(f"head.{level}.predict")
        assert isinstance(predict, nn.Conv2d) and predict.bias is not None
        predict.weight.data.zero_()
        predict.bias.data.uniform_(-0.8, 0.8)
    model, _, _ = take(save(tmp_path / "a.safetensors", source, scaled(given)), scaled(wanted))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        theirs, ours = source.eval().dense(image), model.eval().dense(image)
    for level in ("p4", "p5"):
        before, after = (maps[level].view(1, 2, 8, -1) for maps in (theirs, ours))
        offsets = [
            scale * (raw[:, :, :2].sigmoid() - 0.5) for scale, raw in ((given, before), (wanted, after))
        ]  # fmt: skip
        assert (offsets[0] - offsets[1]).abs().max() < 0.06
        assert offsets[0].abs().max() > 0.1
        assert torch.equal(before[:, :, 2:], after[:, :, 2:])


@pytest.mark.slow
def test_nothing_in_common(tmp_path: Path) -> None:
    config = tiny()
    path = tmp_path / "wide.yaml"
    path.write_text(TINY.replace("NECK", "concat").replace("CHANNELS", "[24, 24]").replace("0.0625", "0.375"))
    wide = load_config(path)
    spec = save(tmp_path / "a.safetensors", make(config), config)
    with pytest.raises(UserError, match="nothing"):
        take(spec, wide)


def test_settings_come_with_the_weights(tmp_path: Path) -> None:
    config = tiny()
    trained = config.model_copy(
        update={
            "model": config.model.model_copy(update={"leaky_slope": 0.01, "norm_eps": 1e-6}),
            "input": InputConfig(size=(64, 64), mean=(0.5, 0.5, 0.5)),
        }
    )
    start = read_starting_weights(save(tmp_path / "a.safetensors", make(trained), trained), config.model)
    adapted, lines = adapt_config(config, start)
    assert (adapted.model.leaky_slope, adapted.model.norm_eps, adapted.input.mean) == (0.01, 1e-6, (0.5, 0.5, 0.5))
    assert [line.split(":")[0] for line in lines] == ["model.norm_eps", "model.leaky_slope", "input.mean"]
    slopes = {module.negative_slope for module in make(adapted).modules() if isinstance(module, nn.LeakyReLU)}
    assert slopes == {0.01}
    fixed = config.model_copy(update={"input": InputConfig(mean=(0, 0, 0))})
    with pytest.raises(UserError, match=r"input.mean: the cfg says \[0.0, 0.0, 0.0\], but .* with \[0.5, 0.5, 0.5\]"):
        adapt_config(fixed, start)


# Darknet


def write_darknet(path: Path, layers: list[WeightLayer]) -> str:
    write_layers(path, layers, HEADER)
    return str(path)


def test_first_layers_of_a_darknet_file(tmp_path: Path) -> None:
    config = tiny()
    source = randomised(make(config, 80))
    count = len([name for name in source.backbone.state_dict() if name.endswith("conv.weight")])
    spec = write_darknet(tmp_path / "tiny.conv", native_layers(source)[:count])
    model, line, before = take(spec, config)
    backbone = {f"backbone.{name}" for name in source.backbone.state_dict() if "tracked" not in name}
    assert equal_names(model, source.state_dict()) == backbone
    assert f"weights: {len(backbone)} of " in line and "classes" not in line
    assert equal_names(model, before) & backbone == set()
    start = read_starting_weights(spec, config.model)
    assert f"the first {count} of" in start.notes[0]
    adapted, lines = adapt_config(config, start)
    assert adapted.model.norm_eps == 1e-6 and len(lines) == 1


def test_a_neck_that_adds_takes_the_backbone_of_a_darknet_file(tmp_path: Path) -> None:
    config = tiny()
    source = randomised(make(config, 80))
    spec = write_darknet(tmp_path / "tiny.conv", native_layers(source)[:16])  # a stem and five stages of three
    model, _, _ = take(spec, tiny("add"))
    backbone = {f"backbone.{name}" for name in source.backbone.state_dict() if "tracked" not in name}
    assert equal_names(model, source.state_dict()) == backbone


def test_a_whole_darknet_file_of_another_network(tmp_path: Path) -> None:
    """It begins as the model does, and then differs: only the beginning is taken; its cfg says so."""
    cfg = """[net]
height=64
width=64
channels=3
""" + "".join(
        f"[convolutional]\nbatch_normalize=1\nfilters={filters}\nsize=3\nstride={stride}\npad=1\nactivation=leaky\n"
        for filters, stride in ((8, 1), (16, 2), (20, 2))
    )
    cfg += "[convolutional]\nfilters=16\nsize=1\nstride=1\npad=1\nactivation=linear\n"
    cfg += "[yolo]\nmask=0,1\nanchors=16,16,24,24\nclasses=3\nnum=2\n"
    (tmp_path / "other.cfg").write_text(cfg)
    (tmp_path / "other.names").write_text("cat\ndog\ncow\n")
    from yolofpn.darknet.cfg import read_cfg
    from yolofpn.darknet.network import DarknetNetwork

    network = DarknetNetwork(read_cfg(tmp_path / "other.cfg"))
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 1.0)
    spec = write_darknet(tmp_path / "other.weights", network.weight_layers())
    model, line, _ = take(spec, tiny())
    # stem (3 -> 8) is the same in both, the convolution after it is (8 -> 16), the third is not
    stem = network.weight_layers()[0]
    assert torch.equal(model.state_dict()["backbone.stem.conv.weight"], stem.conv.weight)
    assert stem.norm is not None
    assert torch.equal(model.state_dict()["backbone.stem.norm.running_var"], stem.norm.running_var)  # type: ignore[arg-type]
    assert line.startswith("weights: 10 of ")


def test_a_truncated_darknet_file(tmp_path: Path) -> None:
    config = tiny()
    path = Path(write_darknet(tmp_path / "tiny.conv", native_layers(make(config, 80))[:5]))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match="truncated"):
        read_starting_weights(str(path), config.model)


@pytest.mark.slow
def test_darknet53_conv_74_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only its first layers are random here, the rest is a hole of zeros: the real file has 162 MB."""
    import numpy as np

    named = NAMED_WEIGHTS["darknet53.conv.74"]
    count = sum((4 + i * k * k) * o for i, o, k in darknet53_convolutions())
    assert 20 + 4 * count == named.size
    numbers = np.random.default_rng(0).uniform(0.1, 1, 32 * 4 + 864).astype("<f4")
    with (tmp_path / named.file_name).open("wb") as file:
        file.write(np.array([0, 2, 0, 0, 0], dtype="<i4").tobytes())
        numbers.tofile(file)
        file.truncate(named.size)
    monkeypatch.setenv("YOLOFPN_CACHE", str(tmp_path))
    full = tmp_path / "full.yaml"
    text = TINY.replace("{type: darknet, width: 0.0625, depth: 0.1}", "{type: darknet53}")
    full.write_text(text.replace("NECK", "concat").replace("CHANNELS", "[8, 8]"))
    start = read_starting_weights("darknet53.conv.74", load_config(full).model)
    assert len(start.state) == 52 * 6 and all(name.startswith("backbone.") for name in start.state)
    stem = start.state["backbone.stem.conv.weight"].flatten()
    assert torch.equal(stem, torch.from_numpy(numbers[128:]))
    assert any("found in the cache" in note for note in start.notes)


# timm


def timm_names() -> dict[str, str]:
    """timm 1.0's names of the tensors of a darknet53 -> ours, written down from its cspnet.py."""
    pairs = {"stem.conv1": "stem"}
    for stage, depth in enumerate((1, 1, 1, 1, 1)):
        pairs[f"stages.{stage}.conv_down"] = f"stages.{stage}.0"
        for block in range(depth):
            for conv in ("conv1", "conv2"):
                pairs[f"stages.{stage}.blocks.{block}.{conv}"] = f"stages.{stage}.{block + 1}.{conv}"
    kinds = {"conv.weight": "conv.weight"}
    kinds |= {f"bn.{name}": f"norm.{name}" for name in ("weight", "bias", "running_mean", "running_var")}
    return {f"{t}.{a}": f"backbone.{o}.{b}" for t, o in pairs.items() for a, b in kinds.items()}


@pytest.mark.parametrize("kind", ["safetensors", "pth", "nested"])
def test_a_timm_file_brings_its_settings(tmp_path: Path, kind: str) -> None:
    config = tiny()
    source = randomised(make(config)).state_dict()
    state = {timm: source[ours].clone() for timm, ours in timm_names().items()}
    state |= {"head.fc.weight": torch.zeros(10, 64), "stem.conv1.bn.num_batches_tracked": torch.tensor(7)}
    path = tmp_path / f"darknet53.{'safetensors' if kind == 'safetensors' else 'pth'}"
    if kind == "safetensors":
        save_file(state, path, {"format": "pt"})
    else:
        torch.save(state if kind == "pth" else {"state_dict": state, "epoch": 3}, path)
    model, _, _ = take(str(path), config)
    backbone = {name for name in source if name.startswith("backbone.") and "tracked" not in name}
    assert equal_names(model, source) == backbone
    start = read_starting_weights(str(path), config.model)
    adapted, lines = adapt_config(config, start)
    assert adapted.model.leaky_slope == 0.01 and adapted.model.norm_eps == 1e-5
    assert adapted.input.mean == (0.485, 0.456, 0.406) and adapted.input.std == (0.229, 0.224, 0.225)
    assert len(lines) == 3  # norm_eps is what it was


@pytest.mark.parametrize(
    ("section", "values", "key"),
    [
        ("model", {"norm_eps": 1e-6}, "model.norm_eps"),
        ("model", {"leaky_slope": 0.1}, "model.leaky_slope"),
        ("input", {"std": (1.0, 1.0, 1.0)}, "input.std"),
    ],
)
def test_a_cfg_that_fixes_other_settings_refuses_timm(
    tmp_path: Path, section: str, values: dict[str, Any], key: str
) -> None:
    config = tiny()
    source = make(config).state_dict()
    save_file({timm: source[ours].clone() for timm, ours in timm_names().items()}, tmp_path / "t.safetensors")
    start = read_starting_weights(str(tmp_path / "t.safetensors"), config.model)
    fixed = getattr(config, section).model_copy(update=values)
    with pytest.raises(UserError, match=f"(?s){key}: the cfg says .*take {key} out of the cfg") as caught:
        adapt_config(config.model_copy(update={section: fixed}), start)
    assert len(str(caught.value).splitlines()) == 2


def test_other_models_of_timm_are_refused(tmp_path: Path) -> None:
    state = {"stem.conv1.conv.weight": torch.zeros(1), "stages.0.conv_exp.conv.weight": torch.zeros(1)}
    save_file(state, tmp_path / "t.safetensors")
    with pytest.raises(UserError, match="network"):
        read_starting_weights(str(tmp_path / "t.safetensors"), tiny().model)


def test_a_pickle_that_runs_code_is_never_run(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"stem.conv1.conv.weight": Evil()}))
    with pytest.raises(UserError):
        read_starting_weights(str(tmp_path / "evil.pth"), tiny().model)
    assert not (tmp_path / "ran").exists()


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="weights"):
        read_starting_weights(str(tmp_path / "nothing.safetensors"), tiny().model)
