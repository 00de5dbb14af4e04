from importlib.resources import files
from pathlib import Path

import pytest

from yolofpn.darknet.cfg import parse_cfg, read_cfg
from yolofpn.darknet.sections import (
    Activate,
    AvgPool,
    BatchNorm,
    Connected,
    Convolutional,
    Identity,
    ImplicitSection,
    LocalAvgPoolSection,
    MaxPoolSection,
    Net,
    Region,
    ReorgSection,
    RouteSection,
    Sam,
    ScaleChannelsSection,
    Section,
    ShortcutSection,
    Softmax,
    Upsample,
    Yolo,
)
from yolofpn.errors import UserError

NET = "[net]\nwidth=64\nheight=32\n"  # three lines


def section_of(text: str) -> Section:
    return parse_cfg(NET + text, "my.cfg").layers[0].section


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[convolutional]\nfilters=8\nsize=5\npad=1\nstride=2\ngroups=4\nbatch_normalize=1\nactivation=mish",
            Convolutional(8, 5, 2, padding=2, groups=4, batch_normalize=True, activation="mish"),
        ),
        (
            "[conv]\nfilters=8\nsize=3\npadding=3\nstride_x=2\nstride_y=2\nactivation=linear",
            Convolutional(8, 3, 2, padding=3, groups=1, batch_normalize=False, activation="linear"),
        ),
        # Darknet: pad=1 overrides padding, and an absent activation is logistic.
        ("[convolutional]\nsize=3\npad=1\npadding=5", Convolutional(1, 3, 1, 1, 1, False, "logistic")),
        ("[connected]\noutput=10\nactivation=relu", Connected(10, False, "relu")),
        ("[shortcut]\nfrom=-3", ShortcutSection((-3,), "linear")),
        ("[shortcut]\nfrom=-3,2\nactivation=leaky", ShortcutSection((-3, 2), "leaky")),
        ("[route]\nlayers = -1, 61", RouteSection((-1, 61), 1, 0)),
        ("[route]\nlayers=-1\ngroups=2\ngroup_id=1", RouteSection((-1,), 2, 1)),
        ("[scale_channels]\nfrom=-4", ScaleChannelsSection(-4, "linear")),
        ("[upsample]", Upsample(2)),
        ("[maxpool]\nsize=2\nstride=1", MaxPoolSection(2, 1, padding=1)),
        ("[maxpool]\nstride=2", MaxPoolSection(2, 2, padding=1)),
        ("[max]\nsize=3\nstride=2\npadding=0", MaxPoolSection(3, 2, padding=0)),
        ("[avgpool]", AvgPool()),
        ("[reorg]\nstride=2", ReorgSection(2)),
        ("[softmax]\ngroups=1\ntemperature=1.0", Softmax()),
        ("[dropout]\nprobability=.5", Identity()),
        ("[cost]\ntype=sse", Identity()),
        (
            "[yolo]\nmask=2,0\nanchors=1,2, 3,4, 5,6.5,\nnum=3\nclasses=7\nscale_x_y=1.05\nthresh=.001\njitter=.3",
            Yolo(7, ((5, 6.5), (1, 2)), 1.05),
        ),
        (
            "[yolo]\nanchors=1,2,3,4\nnum=2\nnms_kind=greedynms\nbeta_nms=.9",
            Yolo(20, ((1, 2), (3, 4)), 1.0, nms_exponent=0.6),
        ),
        (
            "[yolo]\nanchors=1,2\nnms_kind=diounms\nbeta_nms=.9\nnew_coords=1",
            Yolo(20, ((1, 2),), 1.0, new_coords=True, nms_exponent=0.9),
        ),
        ("[yolo]\nanchors=1,2\nnms_kind=cornersnms\nbeta_nms=.9", Yolo(20, ((1, 2),), 1.0)),
        ("[yolo]\nanchors=1,2,3,4,5,6\nnum=1\nmask=2", Yolo(20, ((5, 6),), 1.0)),
        ("[yolo]\nanchors=1,2,3,4,5\nnum=1", Yolo(20, ((1, 2),), 1.0)),
        ("[Gaussian_yolo]\nanchors=1,2\nuc_normalizer=1", Yolo(20, ((1, 2),), 1.0, gaussian=True)),
        ("[convolutional]\nsize=5\npad=2\nactivation=silu", Convolutional(1, 5, 1, 2, 1, False, "swish")),
        ("[convolutional]\nsize=3\npad=1\ndilation=4", Convolutional(1, 3, 1, 1, 1, False, "logistic", dilation=4)),
        ("[convolutional]\nsize=1\ndilation=4", Convolutional(1, 1, 1, 0, 1, False, "logistic")),
        ("[convolutional]\nassisted_excitation=4000", Convolutional(1, 1, 1, 0, 1, False, "logistic")),
        (
            "[shortcut]\nfrom=-1\nweights_type=per_layer\nweights_normalization=avg_relu",
            ShortcutSection((-1,), "linear", "per_feature", "relu"),
        ),
        ("[scale_channels]\nfrom=-1\nscale_wh=1", ScaleChannelsSection(-1, "linear", per_pixel=True)),
        ("[sam]\nfrom=-2", Sam(-2, "linear")),
        ("[batchnorm]", BatchNorm()),
        ("[implicit]\nfilters=8\natoms=2\nstd=.02", ImplicitSection(8, 2)),
        ("[local_avgpool]\nsize=4\nstride=4", LocalAvgPoolSection(4, 4, padding=3)),
        ("[reorg3d]\nstride=2", ReorgSection(2, usual=True)),
        ("[activation]\nactivation=ramp", Activate("ramp")),
        ("[contrastive]\nclasses=1\nyolo_layer=-2", Identity()),
        (
            "[region]\nanchors=.5,1\nnum=1\ncoords=4\nclasses=80\nsoftmax=1\nthresh=.6",
            Region(80, ((0.5, 1),), softmax=True),
        ),
    ],
)
def test_reads_each_section(text: str, expected: Section) -> None:
    assert section_of(text) == expected


def test_reads_what_people_write_around_the_keys() -> None:
    text = "# head\r\n\r\n[net]\r\n  width = 6 4 \r\nheight=32 # pixels\r\n;old\r\nletter_box=1\r\n[avgpool]\r\n"
    cfg = parse_cfg(text, "my.cfg")
    assert cfg.net == Net(height=32, width=64, letter_box=True)
    assert [layer.line for layer in cfg.layers] == [8]
    assert cfg.text == text


def test_letter_box_is_open_unless_said() -> None:
    assert parse_cfg(NET + "[avgpool]", "my.cfg").net.letter_box is None
    assert parse_cfg(NET + "letter_box=0\n[avgpool]", "my.cfg").net.letter_box is False


def test_training_keys_and_comments_do_not_make_another_network() -> None:
    plain = parse_cfg(NET + "[avgpool]", "a.cfg")
    trained = parse_cfg("[network]\nheight=32\nbatch=64\npolicy=steps\nsteps=1,2\nwidth=64\n\n#\n[avg]", "b.cfg")
    assert plain == trained
    assert plain != parse_cfg(NET.replace("64", "96") + "[avgpool]", "a.cfg")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[convolutionl]", "line 4: [convolutionl] unknown section (did you mean [convolutional]?)"),
        ("[YOLO]", "line 4: [YOLO] unknown section (did you mean [yolo]?)"),
        ("[shift_channels]", "line 4: [shift_channels] YOLOR's own section"),
        ("[Gaussian_yolo]\nanchors=1,2\nyolo_point=left_top", "yolo_point=left_top is not supported"),
        ("[rnn]\noutput=4", "line 4: [rnn] recurrent networks are not supported"),
        ("[avgpool]\n[net]", "line 5: [net] only the first section can be [net]"),
        ("[convolutional]\n\nfilter=3", "line 6: [convolutional] unknown key 'filter' (did you mean 'filters'?)"),
        ("[yolo]\nanchors=1,2\nnew_coord=1", "line 6: [yolo] unknown key 'new_coord' (did you mean 'new_coords'?)"),
        ("[convolutional]\nfilters=3.5", "line 5: [convolutional] filters=3.5: '3.5' is not an integer"),
        ("[convolutional]\nfilters=0", "line 5: [convolutional] filters=0: must be at least 1"),
        ("[convolutional]\npad=on", "line 5: [convolutional] pad=on: 'on' is not an integer"),
        ("[convolutional]\nactivation=leeky", "activation=leeky is not supported (did you mean leaky?)"),
        ("[convolutional]\nactivation=hardtan", "activation=hardtan is not supported (supported: linear, "),
        ("[convolutional]\nstride_x=1\nstride_y=2", "line 5: [convolutional] stride_x=1 and stride_y=2 differ"),
        ("[convolutional]\nsize=3\ndilation=2", "line 6: [convolutional] dilation=2 is supported with pad=1"),
        ("[convolutional]\nantialiasing=1", "antialiasing=1 is not supported, only antialiasing=0"),
        ("[convolutional]\nflipped=1", "flipped=1 is not supported"),
        ("[convolutional]\nshare_index=3", "line 5: [convolutional] share_index= is not supported"),
        ("[convolutional]\ndontload=1", "dontload=1 is not supported"),
        ("[convolutional]\nsize=1\nsize=3", "line 5: [convolutional] size=1 becomes size=3 on line 6: keep one"),
        ("[convolutional]\nsize 3", "line 5: 'size 3' is neither [section] nor key=value"),
        ("[convolutional\nsize=3", "line 4: '[convolutional' lacks its closing bracket"),
        ("[shortcut]", "line 4: [shortcut] from= is missing"),
        ("[shortcut]\nfrom=-1\nweights_type=per_pixel", "weights_type=per_pixel is not supported"),
        ("[shortcut]\nfrom=a", "line 5: [shortcut] from=a: 'a' is not an integer"),
        ("[route]\nlayers=", "line 5: 'layers=' is neither [section] nor key=value"),
        ("[route]\nlayers=1,,2", "line 5: [route] layers=1,,2: '' is not an integer"),
        ("[route]\nlayers=-1\ngroups=2\ngroup_id=2", "line 7: [route] group_id=2 must be below groups=2"),
        ("[scale_channels]\nfrom=-1,-2", "from= must name one layer"),
        ("[upsample]\nscale=2", "scale=2 is not supported, only scale=1"),
        ("[maxpool]\nsize=2\npadding=2", "line 6: [maxpool] padding=2 must be below size=2"),
        ("[maxpool]\nmaxpool_depth=1", "maxpool_depth=1 is not supported"),
        ("[reorg]\nreverse=1", "reverse=1 is not supported"),
        ("[softmax]\ntree=data/9k.tree", "line 5: [softmax] tree= is not supported"),
        ("[softmax]\ngroups=2", "groups=2 is not supported"),
        ("[yolo]\nanchors=1,2,3\nnum=2", "line 5: [yolo] anchors= holds 3 numbers, num=2 needs 4"),
        ("[yolo]\nanchors=1,2\nmask=1", "line 6: [yolo] mask=1: there is no anchor 1 of 1"),
        ("[yolo]\nanchors=1,nan", "anchors=1,nan: 'nan' is not a number"),
        ("[yolo]\nanchors=1,-1", "anchors= must be positive"),
        ("[yolo]", "line 4: [yolo] anchors= holds 0 numbers, num=1 needs 2"),
        ("[yolo]\nanchors=1,1e9", "line 5: [yolo] anchors=1,1e9: '1e9' is beyond 1,000,000"),
        (f"[convolutional]\nfilters={'9' * 20}", f"filters={'9' * 20}: must be at most 1000000"),
        (f"[convolutional]\nfilters={'9' * 5000}", f"filters={'9' * 60}...: '{'9' * 60}...' is not an integer"),
        ("[yolo]\nanchors=1,2\nclasses=200000", "classes=200000: must be at most 100000"),
        ("[region]\nanchors=1,2\ntree=9k.tree", "line 6: [region] tree= is not supported"),
        ("[region]\nanchors=1,2\ncoords=5", "coords=5 is not supported"),
    ],
)
def test_refuses_with_file_line_and_remedy(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_cfg(NET + text, "my.cfg")
    assert str(caught.value).startswith("my.cfg: line ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "my.cfg: a Darknet cfg begins with a [net] section"),
        ("[convolutional]", "my.cfg: a Darknet cfg begins with a [net] section"),
        ("width=3\n[net]", "my.cfg: line 1: width= stands before the first [section]"),
        ("[net]\nwidth=32\nheight=32", "my.cfg: no layers after [net]"),
        ("[net]\nwidth=32\n[avgpool]", "my.cfg: line 1: [net] height= is missing"),
        (
            "[net]\nwdith=32\nheight=32\n[avgpool]",
            "my.cfg: line 2: [net] width= is missing (did you mean it by 'wdith'?)",
        ),
        ("[net]\nwidth=32\nheight=99999\n[avgpool]", "my.cfg: line 3: [net] height=99999: must be at most 16384"),
        ("[net]\nwidth=32\nheight=-32\n[avgpool]", "my.cfg: line 3: [net] height=-32: must be at least 1"),
        (NET + "channels=4\n[avgpool]", "my.cfg: line 4: [net] channels=4 is not supported"),
        (NET + "[avgpool]\n" * 5001, "my.cfg: has 5,001 layers, more than 5,000"),
        (NET + "letter_box=2\n[avgpool]", "my.cfg: line 4: [net] letter_box=2: must be 0 or 1"),
        (NET + "leter_box=1\n[avgpool]", "line 4: [net] unknown key 'leter_box' (did you mean 'letter_box'?)"),
    ],
)
def test_refuses_a_wrong_head(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_cfg(text, "my.cfg")
    assert message in str(caught.value)


def test_notes_the_keys_that_darknet_overlooks() -> None:
    text = NET + "mosiac=1\nseen=3\n[yolo]\nanchors=1,2\nbeta1=3\nuc_normalizer=1\nwhatever=1"
    (note,) = parse_cfg(text, "my.cfg").notes
    assert note.startswith("my.cfg: ")
    assert [each in note for each in ("mosiac (line 4)", "seen (line 5)", "beta1 (line 8)", "whatever (line 10)")]
    assert "uc_normalizer" not in note
    assert parse_cfg(NET + "[avgpool]", "my.cfg").notes == ()


def test_refuses_a_file_that_is_too_long(tmp_path: Path) -> None:
    (tmp_path / "long.cfg").write_text(NET + "[avgpool]\n" + "# \n" * 1_500_000)
    with pytest.raises(UserError, match="larger"):
        read_cfg(tmp_path / "long.cfg")


def test_refuses_what_is_no_cfg_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="directory"):
        read_cfg(tmp_path / "absent.cfg")
    with pytest.raises(UserError, match="Is a directory"):
        read_cfg(tmp_path)
    (tmp_path / "binary.cfg").write_bytes(b"\x00\x01\x02")
    with pytest.raises(UserError, match="text"):
        read_cfg(tmp_path / "binary.cfg")


def test_reads_a_file_whose_comments_are_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "my.cfg").write_bytes(b"\xef\xbb\xbf# caf\xe9\n" + NET.encode() + b"[avgpool]\n")
    assert read_cfg(tmp_path / "my.cfg").layers[0].line == 5


@pytest.mark.parametrize("name", ["yolov3", "yolov3-tiny", "yolov3-spp"])
def test_our_cfgs_describe_the_original_networks(name: str, data_dir: Path) -> None:
    ours = parse_cfg((files("yolofpn.darknet") / "cfgs" / f"{name}.cfg").read_text(), name)
    original = read_cfg(data_dir / "darknet" / "cfg" / f"{name}.cfg")
    assert ours == original
    assert ours.text != original.text


def test_reads_every_real_cfg(data_dir: Path) -> None:
    paths = [path for path in (data_dir / "darknet").rglob("*.cfg") if path.name != "rnn.cfg"]
    assert len(paths) == 16
    assert all(read_cfg(path).layers for path in paths)


def test_refuses_the_real_recurrent_cfg(data_dir: Path) -> None:
    with pytest.raises(UserError, match=r"line 14: \[rnn\]"):
        read_cfg(data_dir / "darknet" / "cfg" / "rnn.cfg")
