from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.tiny_detector import RED, quarters, write_tiny
from yolofpn.demo import model_store as store_module
from yolofpn.demo.limits import WorkLimits
from yolofpn.demo.model_store import ModelStore
from yolofpn.demo.settings import Settings
from yolofpn.errors import InputError, UserError


def test_runs_that_finish_meanwhile_are_offered_under_keys_that_stay(tiny: Path, tmp_path: Path) -> None:
    store = ModelStore([str(tiny)], runs=tmp_path, device="cpu")
    assert [(choice.key, choice.title) for choice in store.choices()] == [("0", "tiny.weights")]
    (tmp_path / "b-run").mkdir()
    (tmp_path / "b-run" / "weights.safetensors").touch()
    (tmp_path / "unfinished").mkdir()
    assert [(choice.key, choice.title) for choice in store.choices()][1:] == [("1", "run b-run")]
    (tmp_path / "a-run").mkdir()
    (tmp_path / "a-run" / "weights.safetensors").touch()
    assert [(choice.key, choice.title) for choice in store.choices()][1:] == [("1", "run b-run"), ("2", "run a-run")]


def test_settings_of_one_user_do_not_reach_another(tiny: Path) -> None:
    store = ModelStore([str(tiny)], device="cpu")
    one = store.predictor(Settings(score_thresh=0.9, classes=("red",)))
    other = store.predictor(Settings(nms_thresh=0.2))
    assert one.detector is other.detector
    assert one.limits.score_thresh == (0.9, 1.0)
    assert other.limits.score_thresh == 0.25
    assert other.limits.nms_thresh == 0.2
    assert store.predictor(Settings(img_size=96)).img_size == (96, 96)
    assert store.predictor(Settings()).img_size == (64, 64)


@pytest.mark.parametrize(
    "settings", [Settings(img_size=100), Settings(classes=("unicorn",)), Settings(weights="7")], ids=str
)
def test_settings_that_do_not_fit_are_told(tiny: Path, settings: Settings) -> None:
    with pytest.raises(UserError):
        ModelStore([str(tiny)], device="cpu").predictor(settings)


def test_damaged_weights_are_named_without_the_folder(tmp_path: Path) -> None:
    path = write_tiny(tmp_path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError) as error:
        ModelStore([str(path)], device="cpu").predictor(Settings())
    assert "tiny.weights" in str(error.value)
    assert str(tmp_path) not in str(error.value)


@pytest.mark.slow
def test_a_graph_is_on_offer_too(tiny_graph: Path) -> None:
    store = ModelStore([str(tiny_graph)], device="cpu")
    found = store.predictor(Settings())(quarters(RED))
    assert found.labels.tolist() == [0]
    with pytest.raises(InputError) as error:
        store.predictor(Settings(img_size=96))
    assert "tiny.onnx" in str(error.value) and str(tiny_graph.parent) not in str(error.value)


def test_the_default_is_named_without_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiny(tmp_path / "weights")
    monkeypatch.setattr(store_module, "default_file", lambda: path)
    store = ModelStore([], runs=tmp_path, device="cpu")
    assert [choice.title for choice in store.choices()] == ["tiny (default)"]
    assert store.predictor(Settings()).names == ("red", "potted plant")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError) as error:
        ModelStore([], runs=tmp_path, device="cpu").predictor(Settings())
    assert str(tmp_path) not in str(error.value)


def test_weights_not_used_lately_leave_the_memory_and_come_back(tmp_path: Path, tiny: Path) -> None:
    paths = [shutil.copytree(tiny.parent, tmp_path / str(index)) / tiny.name for index in range(5)]
    store = ModelStore([str(path) for path in paths], device="cpu")
    assert len({choice.title for choice in store.choices()}) == 5
    for key in "01234":
        store.predictor(Settings(weights=key))
    assert len(store._loaded) == WorkLimits().loaded_weights
    assert {key for key, _ in store._predictors} == set(store._loaded)
    assert store.predictor(Settings(weights="0")).names == ("red", "potted plant")
