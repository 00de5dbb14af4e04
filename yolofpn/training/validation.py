"""Measuring a model on the validation split."""

from __future__ import annotations

import torch

from yolofpn.config import Config
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.loader import Loader, Padding
from yolofpn.data.sampler import EvalBatchSampler
from yolofpn.data.samples import EvaluationSamples
from yolofpn.evaluation.evaluator import collect
from yolofpn.evaluation.metrics import DetectionMetrics, Metrics
from yolofpn.models.build import NativeDetector
from yolofpn.training.distributed import Ranks, from_main, gather


class Validation:
    """Detects on every image of a split once, shared out over all processes.

    Args:
        config: of the run.
        dataset: the split.
        device: where the model lies.
        dtype: of the network's arithmetic.
        ranks: which of how many processes this is.
        workers: processes that load images.
        padding: of images that are no multiples of the network's stride.
    """

    def __init__(
        self,
        config: Config,
        dataset: DetectionDataset,
        device: torch.device,
        dtype: torch.dtype,
        ranks: Ranks,
        workers: int,
        padding: Padding,
    ) -> None:
        # Images of different sizes would be padded to the largest of their batch, which changes what is found.
        batch_size = 1 if config.input.resize == "shortest-edge" else config.train.batch_size
        sampler = EvalBatchSampler(
            len(dataset), batch_size, config.input.size, rank=ranks.rank, world_size=ranks.world_size
        )
        samples = EvaluationSamples(dataset, config.input.resize)
        self.loader = Loader(samples, sampler, workers=workers, pin_memory=device.type == "cuda", padding=padding)
        self.names = dataset.names
        self.device = device
        self.dtype = dtype

    def __call__(self, model: NativeDetector) -> Metrics:
        """The metrics of ``model``; every process gets them."""
        metrics: Metrics = from_main(self.collect(model).compute())
        return metrics

    def collect(self, model: NativeDetector) -> DetectionMetrics:
        """Gather detections and objects of all processes."""
        own = DetectionMetrics(self.names)
        collect(model, self.loader, own, device=self.device, dtype=self.dtype)
        everything = DetectionMetrics(self.names)
        for state in gather(own.state()):
            everything.merge(state)
        return everything
