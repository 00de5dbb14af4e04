import re
from pathlib import Path

import pytest

from yolofpn.darknet.cfg import parse_cfg, read_cfg
from yolofpn.darknet.layer_plan import NETWORK_INPUT, Shape, plan_network, size_divisor
from yolofpn.errors import UserError

NET = "[net]\nwidth=96\nheight=64\n"  # three lines
CONV = "[convolutional]\nfilters={}\nsize=3\nstride={}\npad=1\nactivation=leaky\n"  # six lines
YOLO = "[yolo]\nanchors=8,8\nclasses=2\n"


def conv(filters: int, stride: int = 1) -> str:
    return CONV.format(filters, stride)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        # File sizes of the original weights: 248,007,048, 35,434,956 and 252,209,544 bytes, 20 of them header.
        ("yolov3", 62_001_757),
        ("yolov3-tiny", (35_434_956 - 20) // 4),
        ("yolov3-spp", (252_209_544 - 20) // 4),
    ],
)
def test_counts_the_numbers_of_the_original_weights(name: str, numbers: int, data_dir: Path) -> None:
    plan = plan_network(read_cfg(data_dir / "darknet" / "cfg" / f"{name}.cfg"))
    assert sum(layer.numbers for layer in plan) == numbers
    assert size_divisor(plan) == 32


def test_darknet53_conv_74_are_the_first_75_layers(data_dir: Path) -> None:
    plan = plan_network(read_cfg(data_dir / "darknet" / "cfg" / "yolov3.cfg"))
    assert 20 + 4 * sum(layer.numbers for layer in plan[:75]) == 162_482_580
    assert sum(layer.numbers > 0 for layer in plan[:75]) == 52


@pytest.mark.parametrize(
    "name", ["yolo-fastest-1.1", "yolo-fastest-1.1-xl", "yoloface-500k", "MobileNetV2-YOLO-Fastest-voc-v2"]
)
def test_counts_the_numbers_of_real_weights(name: str, data_dir: Path) -> None:
    plan = plan_network(read_cfg(data_dir / "darknet" / f"{name}.cfg"))
    assert 20 + 4 * sum(layer.numbers for layer in plan) == (data_dir / "darknet" / f"{name}.weights").stat().st_size


def test_plans_every_real_cfg(data_dir: Path) -> None:
    paths = [path for path in (data_dir / "darknet").rglob("*.cfg") if path.name != "rnn.cfg"]
    assert len(paths) == 16
    for path in paths:
        assert plan_network(read_cfg(path))


def test_matches_darknets_own_layer_table(data_dir: Path) -> None:
    """Darknet printed for yolo-fastest-1.1: ``layer  filters  size/strd(dil)  input  output``."""
    row = re.compile(r"^ +(\d+) .*(?:->|outputs:) +(\d+) x +(\d+) x +(\d+) ", re.MULTILINE)
    log = (data_dir / "darknet" / "mAP_log.txt").read_text()
    table = {int(index): Shape(int(c), int(h), int(w)) for index, w, h, c in row.findall(log)}
    plan = plan_network(read_cfg(data_dir / "darknet" / "yolo-fastest-1.1.cfg"))
    assert len(table) > 100
    assert {index: plan[index].shape for index in table} == table


def test_follows_the_references() -> None:
    text = NET + conv(4) + conv(6, 2) + conv(6) + "[shortcut]\nfrom=-2\n[upsample]\nstride=2\n[route]\nlayers=-1,0\n"
    plan = plan_network(parse_cfg(text + conv(7) + YOLO, "my.cfg"))
    assert [layer.inputs for layer in plan] == [(NETWORK_INPUT,), (0,), (1,), (2, 1), (3,), (4, 0), (5,), (6,)]
    assert plan[3].shape == Shape(6, 32, 48)
    assert plan[5].shape == Shape(10, 64, 96)
    assert [int(layer.stride) for layer in plan] == [1, 2, 2, 2, 1, 1, 1, 1]
    assert size_divisor(plan) == 2
    assert [layer.numbers for layer in plan[:3]] == [3 * 9 * 4 + 4, 4 * 9 * 6 + 6, 6 * 9 * 6 + 6]


def test_scale_channels_takes_the_named_map_first() -> None:
    text = NET + conv(7) + "[avgpool]\n" + conv(7) + "[scale_channels]\nfrom=0\n" + YOLO
    plan = plan_network(parse_cfg(text, "my.cfg"))
    assert plan[3].inputs == (0, 2)
    assert plan[3].shape == Shape(7, 64, 96)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[route]\nlayers=-1", "line 4: [route] (layer 0) refers to -1, which is layer -1: no layer comes before it"),
        (
            conv(4) + "[route]\nlayers=-2",
            "line 10: [route] (layer 1) refers to -2, which is layer -1: layers 0 to 0 come",
        ),
        (conv(4) + "[route]\nlayers=1", "line 10: [route] (layer 1) refers to 1, which is layer 1"),
        (conv(4) + "[route]\nlayers=7", "refers to 7, which is layer 7"),
        (conv(4) + "[shortcut]\nfrom=-5", "[shortcut] (layer 1) refers to -5, which is layer -4"),
        (conv(4) + conv(4, 2) + "[route]\nlayers=0,1", "joins maps of different sizes: 96 x 64 x 4, 48 x 32 x 4"),
        (
            conv(4, 2) + conv(4, 2) + "[upsample]\nstride=4\n[shortcut]\nfrom=0",
            "adds a map of 48 x 32 x 4 to one of 96 x 64",
        ),
        (conv(4) + "[route]\nlayers=0\ngroups=3", "groups=3 does not divide the channels of its layers"),
        (conv(4) + "[scale_channels]\nfrom=0", "needs one number per channel, gets 96 x 64 x 4"),
        (
            conv(4) + "[conv]\nfilters=4\ngroups=3",
            "line 10: [convolutional] (layer 1) groups=3 does not divide 4 channels",
        ),
        (
            "[convolutional]\nsize=99",
            "line 4: [convolutional] (layer 0) size=99 does not fit into a map of 96 x 64 x 3",
        ),
        (conv(4) + "[reorg]\nstride=5", "stride=5 does not divide a map of 96 x 64 x 4"),
        ("[upsample]\nstride=9000", "makes a map of 864000 x 576000 x 3, more than 1 GiB"),
        ("[convolutional]\nfilters=999999", "makes a map of 96 x 64 x 999999, more than 1 GiB"),
        (conv(1000) + "[avgpool]\n" + conv(900_000), "brings the network to 8,100,928,000 parameters"),
        (conv(8) + "[sam]\nfrom=-3", "refers to -3"),
        (conv(8) + conv(4) + "[sam]\nfrom=-2", "they must be of one shape"),
        (conv(7) + "[route]\nlayers=-1\n" + "[scale_channels]\nfrom=-1\nscale_wh=1", "needs one number per pixel"),
        (
            conv(8) + YOLO,
            "line 10: [yolo] (layer 1) gets 8 channels: 1 anchors x (5 + 2 classes) need filters=7 before it",
        ),
        (conv(7) + YOLO + conv(7), "(layer 2) takes layer 1, but nothing can follow a [yolo]"),
        (conv(7) + YOLO + "[route]\nlayers=1", "(layer 2) takes layer 1, but nothing can follow a [yolo]"),
        (conv(7) + "[upsample]\n" + YOLO, "(layer 2) its map is larger than the input"),
        (conv(7) + "[softmax]", "needs one number per class, gets a map of 96 x 64 x 7"),
        (conv(7), "line 4: [convolutional] (layer 0) ends the file without a [yolo], [region] or [softmax]"),
        (
            conv(7) + YOLO + "[route]\nlayers=0\n" + conv(8) + YOLO.replace("=2", "=3"),
            "the outputs have different numbers of classes: 2, 3",
        ),
    ],
)
def test_refuses_layers_that_do_not_fit(text: str, message: str) -> None:
    cfg = parse_cfg(NET + text, "my.cfg")
    with pytest.raises(UserError) as caught:
        plan_network(cfg)
    assert str(caught.value).startswith("my.cfg: line ")
    assert message in str(caught.value)
