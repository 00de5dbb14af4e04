"""Reading a file: YAML's own traps, overrides, and what is not a config at all."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.config.files import MODEL, write_config
from yolofpn.config import (
    AddNeckConfig,
    ConcatNeckConfig,
    Config,
    SGDConfig,
    SimOTAConfig,
    YOLOHeadConfig,
    dump_config,
    load_config,
    read_yaml,
)
from yolofpn.errors import UserError

CFG = Path(__file__).parents[2] / "cfg"
SHIPPED = sorted([*CFG.glob("*.yaml"), *(CFG / "two-stage").glob("*.yaml")])


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as error:
        load_config(path, overrides)
    return str(error.value)


def test_values_arrive_typed_and_the_rest_takes_its_default(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path))
    assert isinstance(config.model.head, YOLOHeadConfig)
    assert config.model.head.anchors == (((10, 14), (23, 27)), ((81, 82), (135, 169)))
    assert isinstance(config.model.neck, ConcatNeckConfig)
    assert config.model.neck.levels == (4, 5)
    assert config.input.size == (416, 416)
    assert config.data is None


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_file_loads(path: Path) -> None:
    head = load_config(path).model.head
    assert head.type == ("rcnn" if "rcnn" in path.stem else "yolo")


def test_files_ship() -> None:
    assert {"yolofpn", "yolofpn-add", "yolofpn-tiny", "faster_rcnn-r50-fpn"} <= {path.stem for path in SHIPPED}
    assert len([path for path in CFG.iterdir() if path.is_file()]) <= 8


def test_a_config_cannot_be_changed(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path))
    with pytest.raises(ValidationError, match="frozen"):
        config.train.epochs = 3


@pytest.mark.parametrize("written", ["1e-3", "1.0e-3", ".001", "0.001"])
def test_a_float_may_be_written_with_an_exponent(tmp_path: Path, written: str) -> None:
    path = write_config(tmp_path, f"{MODEL}  norm_eps: {written}\n")
    assert load_config(path).model.norm_eps == 0.001
    optimizer = load_config(path, [f"train.optimizer={{type: sgd, lr: {written}}}"]).train.optimizer
    assert isinstance(optimizer, SGDConfig)
    assert optimizer.lr == 0.001


def test_on_and_yes_are_words(tmp_path: Path) -> None:
    path = write_config(tmp_path, "a: [on, yes, true]\n")
    assert read_yaml(path) == {"a": ["on", "yes", True]}


def test_overrides_change_add_and_nest(tmp_path: Path) -> None:
    config = load_config(
        write_config(tmp_path),
        [
            "model.neck.upsample=bilinear",
            "train.epochs=7",
            "model.head.loss.assigner={type: simota, top_candidates: 4}",
        ],
    )
    assert isinstance(config.model.neck, ConcatNeckConfig)
    assert config.model.neck.upsample == "bilinear"
    assert config.train.epochs == 7
    assert isinstance(config.model.head, YOLOHeadConfig)
    assert config.model.head.loss.assigner == SimOTAConfig(type="simota", top_candidates=4)


def test_a_later_override_wins(tmp_path: Path) -> None:
    assert load_config(write_config(tmp_path), ["train.epochs=7", "train.epochs=8"]).train.epochs == 8


def test_an_override_can_change_the_type_of_a_section(tmp_path: Path) -> None:
    assert isinstance(load_config(write_config(tmp_path), ["model.neck.type=add"]).model.neck, AddNeckConfig)


def test_an_override_may_hold_an_equals_sign(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    assert load_config(path, ["train.freeze=['a=b']"]).train.freeze == ("a=b",)


def test_a_dumped_config_reads_back_equal(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path), ["train.epochs=7", "postprocess.score_thresh=[.1, .2]"])
    dump_config(config, tmp_path / "dumped.yaml")
    assert load_config(tmp_path / "dumped.yaml") == config


def test_the_data_set_is_looked_for_beside_the_file_that_names_it(tmp_path: Path) -> None:
    path = write_config(tmp_path, MODEL + "data: {source: data/mine.yaml}\n")
    data = load_config(path).data
    assert data is not None
    assert data.source == str((tmp_path / "data" / "mine.yaml").resolve())


@pytest.mark.parametrize("override", ["epochs", "=3", "train.epochs"])
def test_an_override_that_is_none(tmp_path: Path, override: str) -> None:
    assert refusal(write_config(tmp_path), override) == f"override {override!r} is not of the form section.key=value"


def test_an_override_of_broken_yaml(tmp_path: Path) -> None:
    assert "'[1, 2' is not a valid YAML value" in refusal(write_config(tmp_path), "train.freeze=[1, 2")


def test_an_override_into_a_value(tmp_path: Path) -> None:
    message = refusal(write_config(tmp_path), "model.neck.type.name=3")
    assert message == "override 'model.neck.type.name=3': 'type' is a value, not a section"


def test_an_override_of_the_wrong_type(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    assert refusal(path, "train.epochs=many").startswith(f"{path}: train.epochs: Input should be a valid integer")


def test_a_repeated_key_is_named_with_its_line(tmp_path: Path) -> None:
    path = write_config(tmp_path, "train:\n  epochs: 3\n  seed: 1\n  epochs: 4\n")
    message = refusal(path)
    assert message.startswith(f"{path}: line 4: ")
    assert '"epochs"' in message
    assert "\n" not in message


def test_broken_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    path = write_config(tmp_path, "model:\n  neck: [1, 2\ninput: 3\n")
    assert refusal(path).startswith(f"{path}: line 3: not valid YAML")


@pytest.mark.parametrize(
    ("text", "found"), [("- 1\n", "list"), ("word\n", "str"), ("", "nothing"), ("# c\n", "nothing")]
)
def test_no_mapping(tmp_path: Path, text: str, found: str) -> None:
    path = write_config(tmp_path, text)
    assert refusal(path) == f"{path}: expected sections such as 'model:', found {found}"


def test_no_text(tmp_path: Path) -> None:
    path = tmp_path / "weights.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01\x02")
    assert refusal(path) == f"{path}: not a text file, so not a YAML file"


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.yaml").startswith(f"{tmp_path / 'no.yaml'}: No such file or directory: give the path")
    assert refusal(tmp_path).startswith(f"{tmp_path}: Is a directory: give the path")


def test_nothing_of_a_config_is_shared_between_two(tmp_path: Path) -> None:
    first, second = load_config(write_config(tmp_path), ["train.epochs=7"]), load_config(write_config(tmp_path))
    assert (first.train.epochs, second.train.epochs) == (7, Config.model_fields["train"].default.epochs)
