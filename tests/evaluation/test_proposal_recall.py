"""The proposals of a two-stage detector, from evaluate.py to its file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.evaluation.squares import Square, write_squares
from yolofpn.config import Metadata, load_config
from yolofpn.data.images import read_image
from yolofpn.evaluation.evaluation_run import EvaluateOptions, evaluate
from yolofpn.evaluation.proposal_recall import Proposer
from yolofpn.models.build import build_model
from yolofpn.ops.resize import resize_image
from yolofpn.weights import save_weights

CFG = Path(__file__).parents[2] / "cfg" / "two-stage" / "faster_rcnn-tiny.yaml"
SMALL = (
    "model.backbone={type: darknet, width: 0.0625, depth: 0.1, stem_stride: 2}",
    "model.neck={type: add, levels: [3, 4, 5], channels: 8}",
    "model.head={type: rcnn, channels: 8, anchors: {sizes: [[16], [32], [64]]}, roi: {width: 8}}",
    "input={size: [64, 64], resize: letterbox}",
)


@pytest.mark.slow
@pytest.mark.usefixtures("no_plots")
def test_they_are_those_of_the_first_stage(tmp_path: Path) -> None:
    config = load_config(CFG, SMALL)
    torch.manual_seed(0)
    model = build_model(config.model, 2, config.input, config.postprocess).eval()
    metadata = Metadata(
        model=config.model,
        input=config.input,
        postprocess=config.postprocess,
        names=("red", "blue"),
        category_ids=(3, 7),
    )
    save_weights(tmp_path / "w.safetensors", model.state_dict(), metadata)
    images = [[Square("red", 1, 1)], [Square("blue", 2, 3)]]
    data = write_squares(tmp_path / "data", images, categories={"red": 3, "blue": 7}, size=(64, 128))
    options = EvaluateOptions(
        data=str(data),
        weights=str(tmp_path / "w.safetensors"),
        save_proposals=tmp_path / "p.json",
        workers=0,
        output=tmp_path / "out",
        backend="torch",
        precision="fp32",
    )
    assert evaluate(options) == 0
    results = json.loads((tmp_path / "p.json").read_text())
    assert isinstance(model, Proposer)
    for number in range(2):
        image = read_image(tmp_path / "data" / "images" / f"p{number}.png")
        resized, placement = resize_image(image, (64, 64), "letterbox")
        with torch.inference_mode():
            dense = model.dense(torch.from_numpy(resized[:, :, ::-1].copy()).permute(2, 0, 1)[None])
            ((boxes, scores),) = model.propose(dense, [placement.network_size])
        placed = placement.to_image(boxes)
        inside = (placed[:, 2:] > placed[:, :2]).all(axis=1)  # the letterbox's bars hold no images
        written = [result for result in results if result["image_id"] == 10 * (number + 1)]
        assert len(written) == int(inside.sum()) > 20
        expected = placed[inside]
        expected[:, 2:] -= expected[:, :2]
        np.testing.assert_allclose([result["bbox"] for result in written], expected, rtol=0, atol=0.05)
        assert [result["score"] for result in written] == pytest.approx(scores.numpy()[inside].tolist(), abs=1e-4)


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolofpn.evaluation.evaluation_run.write_plots", lambda *_: None)
