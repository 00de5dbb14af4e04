from __future__ import annotations

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from benchmarking.hot_path import NMS_THRESH, BatchCatcher, candidates
from tests.tiny_detector import GREEN, RED, quarters, write_tiny
from yolofpn.darknet.network import DarknetNetwork
from yolofpn.inference.load_detector import load_detector
from yolofpn.inference.predictor import Predictor
from yolofpn.ops.nms import batched_nms
from yolofpn.ops.resize import resize_image
from yolofpn.structures import Limits


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    return load_detector(write_tiny(tmp_path), backend="torch", precision="fp32", device="cpu", img_size=256)


def test_candidates_are_what_suppression_starts_from(predictor: Predictor) -> None:
    image = quarters(RED, GREEN, GREEN)
    batch, _ = resize_image(image, predictor.img_size, "stretch")
    maps = predictor.backend.start(torch.from_numpy(batch[:, :, ::-1].copy()).permute(2, 0, 1)[None])()
    assert isinstance(predictor.detector, DarknetNetwork)
    for threshold in (0.25, 0.001):
        boxes, scores, labels = candidates(maps, predictor.detector.specs, 2, threshold, predictor.img_size)
        kept = batched_nms(boxes, scores, labels, NMS_THRESH)
        limits = Limits(threshold, NMS_THRESH, 300)
        found = predictor.detector.postprocess(maps, [predictor.img_size], limits)[0]
        assert (
            len(found) > 10
            and np.array_equal(found.scores, scores[kept])
            and np.array_equal(found.labels, labels[kept])
        )
        with_opencv = cv2.dnn.NMSBoxesBatched(
            np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).tolist(),
            scores.tolist(),
            labels.tolist(),
            threshold,
            NMS_THRESH,
        )
        assert set(np.asarray(with_opencv).ravel().tolist()) == set(kept.tolist())


def test_what_comes_before_the_network_is_the_predictors_own(predictor: Predictor) -> None:
    image = quarters(RED, GREEN, height=90, width=130)
    before_network = copy.copy(predictor)
    before_network.backend = catcher = BatchCatcher()
    before_network.start([image])
    assert catcher.batch.shape == (1, 3, 256, 256)
    sizes = [(256, 256)]
    found = predictor.detector.postprocess(predictor.backend.start(catcher.batch)(), sizes, predictor.limits)[0]
    assert len(found) == len(predictor.predict([image])[0]) > 0
