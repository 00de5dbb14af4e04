"""Whole kernels as the start of low-rank ones, which keep their responses to the training images, and the reverse."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from yolofpn.config import ResizeMode
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.sampler import SampleKey
from yolofpn.data.samples import EvaluationSamples
from yolofpn.models.build import NativeDetector
from yolofpn.models.layers import ConvBNAct, LowRankConvBNAct
from yolofpn.training.start import StartingWeights

_IMAGES = 64  # whose cells, 169 to an image of 416 x 416 at the coarsest level, outnumber the 1,024 channels there
_PRIOR = 0.01  # share of the kernel's own singular vectors, which few or uniform images leave open


def split_kernels(
    start: StartingWeights, model: NativeDetector, dataset: DetectionDataset, size: tuple[int, int], resize: ResizeMode
) -> tuple[StartingWeights, list[str]]:
    """Weights for a model with low-rank convolutions, from those of the same model with whole ones.

    The rows of a kernel are projected on the principal components of its answers to at most 64 training images
    (arXiv 1505.06798, section 3.2, without the nonlinearity), so the network detects from the first step on.

    Args:
        start: weights of any kind; those that have nothing to split come back as they are.
        model: that will take them over; it is not changed.
        dataset: the training images.
        size: (height, width) of the network's input.
        resize: how images are brought to it.

    Returns:
        The weights, and lines to print.
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, LowRankConvBNAct) and _is_whole(start.state.get(f"{name}.conv.weight"), module)
    }
    if not layers:
        return start, []
    network = _with_whole_kernels(model, layers)
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    fitting = {name: tensor for name, tensor in start.state.items() if shapes.get(name) == tensor.shape}
    network.load_state_dict(fitting, strict=False)
    convolutions = {name: _convolution(network, name) for name in layers}
    covariances = _measure(network.eval(), convolutions, _images(dataset, size, resize))
    state = dict(start.state)
    kept: list[float] = []
    for name, layer in layers.items():
        tensors, share = split(convolutions[name], layer, covariances[name])
        state |= {f"{name}.{part}": tensor for part, tensor in tensors.items()}
        kept.append(share)
    kernels = f"{len(kept)} kernel{'s' if len(kept) > 1 else ''}"
    return replace(start, state=state), [
        f"weights: {kernels} split into low-rank ones, which keep {min(kept):.0%} or more of the variance of what they "
        "answer to the training images"
    ]


def merge_kernels(start: StartingWeights, model: NativeDetector) -> StartingWeights:
    """Weights with whole kernels in place of the low-rank ones that ``model`` does not have, or has with another rank.

    A kernel and its basis become their product, so the network computes the same.
    """
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    state = dict(start.state)
    for name, basis in start.state.items():
        layer = name.removesuffix(".basis.weight")
        if layer == name or shapes.get(name) == basis.shape:
            continue
        outer = state[f"{layer}.conv.weight"].float().flatten(1)
        state[f"{layer}.conv.weight"] = (outer @ basis.float().flatten(1)).view(-1, *basis.shape[1:])
        state[f"{layer}.norm.running_mean"] = state[f"{layer}.norm.running_mean"] - outer @ state[f"{layer}.basis.bias"]
        del state[name], state[f"{layer}.basis.bias"]
    return replace(start, state=state)


def _is_whole(kernel: Tensor | None, layer: LowRankConvBNAct) -> bool:
    """Whether ``kernel`` is one to split; a kernel has no more components than output channels."""
    basis, channels = layer.basis, layer.conv.out_channels
    shape = (channels, basis.in_channels, *basis.kernel_size)
    return kernel is not None and kernel.shape == shape and basis.out_channels <= channels


def _with_whole_kernels(model: NativeDetector, layers: Mapping[str, LowRankConvBNAct]) -> NativeDetector:
    network = copy.deepcopy(model).cpu().float()
    for name, layer in layers.items():
        whole = ConvBNAct(
            layer.basis.in_channels, layer.conv.out_channels, layer.basis.kernel_size[0], norm_eps=layer.norm.eps
        )
        whole.act = copy.deepcopy(layer.act)
        network.set_submodule(name, whole)
    return network


def _convolution(network: nn.Module, name: str) -> ConvBNAct:
    module = network.get_submodule(name)
    assert isinstance(module, ConvBNAct)
    return module


def _images(dataset: DetectionDataset, size: tuple[int, int], resize: ResizeMode) -> Iterator[Tensor]:
    """At most 64 images [1, 3, h, w] from all over the data set; those that cannot be read are skipped."""
    samples = EvaluationSamples(dataset, resize)
    for index in range(0, len(dataset), -(-len(dataset) // _IMAGES)):
        sample = samples[SampleKey(index, 0, size)]
        if not sample.failures:
            yield sample.image[None]


class _Answers:
    """Mean and covariance of what a convolution and its batch norm answer, over all cells of all images."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.sum = torch.zeros(channels, dtype=torch.float64)
        self.products = torch.zeros(channels, channels, dtype=torch.float64)

    def add(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        """Collect the output of a batch norm, [B, C, H, W]."""
        rows = output.movedim(1, -1).flatten(0, 2)
        self.count += len(rows)
        self.sum += rows.sum(dim=0, dtype=torch.float64)
        self.products += rows.T @ rows

    def moments(self) -> tuple[Tensor, Tensor]:
        """[C] and [C, C]; zero where there were no images."""
        count = max(1, self.count)
        mean = self.sum / count
        return mean, self.products / count - mean.outer(mean)


def _measure(
    network: NativeDetector, convolutions: Mapping[str, ConvBNAct], images: Iterator[Tensor]
) -> dict[str, tuple[Tensor, Tensor]]:
    answers = {name: _Answers(module.conv.out_channels) for name, module in convolutions.items()}
    hooks = [module.norm.register_forward_hook(answers[name].add) for name, module in convolutions.items()]
    with torch.no_grad():
        for image in images:
            network.dense(image)
    for hook in hooks:
        hook.remove()
    return {name: answer.moments() for name, answer in answers.items()}


def split(whole: ConvBNAct, layer: LowRankConvBNAct, moments: tuple[Tensor, Tensor]) -> tuple[dict[str, Tensor], float]:
    """The tensors of ``layer``, and the share of the variance that they keep.

    With y = S W x + b the answers, m and C their mean and covariance, and U the first eigenvectors of C, the layer
    computes U U^T (y - m) + m; its batch norm has the statistics of U U^T S W x.
    """
    norm, (mean, covariance) = whole.norm, moments
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = norm.bias.detach().double() - scale * norm.running_mean.double()
    kernel = whole.conv.weight.detach().double().flatten(1) * scale[:, None]
    prior = kernel @ kernel.T
    total = covariance.trace()
    blend = covariance + prior * (_PRIOR * total / prior.trace()) if total > 0 else prior
    first = torch.linalg.eigh(blend).eigenvectors[:, -layer.basis.out_channels :]
    projected = first @ (first.T @ covariance @ first) @ first.T
    variance = projected.diagonal().clamp(min=0)
    tensors = {
        "basis.weight": (first.T @ kernel).view(-1, *whole.conv.weight.shape[1:]),
        "basis.bias": torch.zeros(first.shape[1]),
        "conv.weight": first[:, :, None, None],
        "norm.weight": (variance + layer.norm.eps).sqrt(),
        "norm.bias": mean,
        "norm.running_mean": first @ (first.T @ (mean - bias)),
        "norm.running_var": variance,
    }
    share = float(projected.trace() / total) if total > 0 else 0.0
    return {name: tensor.float().contiguous() for name, tensor in tensors.items()}, share
