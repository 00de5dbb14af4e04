"""Optimiser and learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from yolofpn.config import AdamWConfig, CosineConfig, OptimizerConfig, ScheduleConfig, SGDConfig, StepConfig


def build_optimizer(model: nn.Module, optimizer: OptimizerConfig) -> Optimizer:
    """The optimiser of all parameters that learn; batch norm's and biases do not decay (arXiv 1812.01187, section 3.1).

    Raises:
        ValueError: nothing learns.
    """
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not learning:
        raise ValueError("every parameter is frozen")
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": optimizer.weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    match optimizer:
        case SGDConfig(lr=lr, momentum=momentum, nesterov=nesterov):
            return SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov and momentum > 0)
        case AdamWConfig(lr=lr, betas=betas):
            return AdamW(groups, lr=lr, betas=betas, fused=True)  # one pass over the memory: 3 times as fast on a CPU


def learning_rate_factor(step: int, total_steps: int, warmup_steps: int, schedule: ScheduleConfig) -> float:
    """Return the factor of the learning rate at optimiser step ``step`` of 0 .. total_steps - 1."""
    progress = step / max(total_steps, 1)
    warmup = min(1.0, (step + 1) / (warmup_steps + 1))
    match schedule:
        case CosineConfig(final=final):
            return warmup * (final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2)
        case StepConfig(milestones=milestones, gamma=gamma):
            return warmup * gamma ** sum(progress >= milestone for milestone in milestones)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the same learning rate for all groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def freeze(model: nn.Module, prefixes: Sequence[str], *, norm: bool) -> int:
    """Stop the parameters whose names start with one of ``prefixes`` from learning; how many these are.

    Args:
        model: is changed.
        prefixes: such as 'backbone' or 'neck.p5'.
        norm: batch norm's parameters of the whole model too; ``keep_norm_statistics`` stops the rest of it.

    Raises:
        ValueError: a prefix fits no parameter.
    """
    frozen = 0
    for prefix in prefixes:
        matching = [p for name, p in model.named_parameters() if name == prefix or name.startswith(prefix + ".")]
        if not matching:
            known = ", ".join(name for name, _ in model.named_children())
            raise ValueError(f"train.freeze: the model has no part {prefix!r}: its parts are {known}")
        for parameter in matching:
            parameter.requires_grad_(False)
        frozen += len(matching)
    if norm:
        for module in _norms(model):
            module.requires_grad_(False)
    return frozen


def without_parameter(model: nn.Module, prefixes: Sequence[str], name: str) -> tuple[str, ...]:
    """``prefixes`` of all that they name but the parameter ``name``: of its parents, the other parts are named."""
    parts = name.split(".")
    kept: list[str] = []
    for prefix in prefixes:
        if name != prefix and not name.startswith(prefix + "."):
            kept.append(prefix)
            continue
        for other, _ in model.named_parameters():
            if other != name and other.startswith(prefix + "."):
                theirs = other.split(".")
                depth = next(i for i, (ours, given) in enumerate(zip(parts, theirs, strict=False)) if ours != given)
                kept.append(".".join(theirs[: depth + 1]))
    return tuple(dict.fromkeys(kept))


def keep_norm_statistics(model: nn.Module, *, everywhere: bool) -> None:
    """Batch norm of frozen parts (or ``everywhere``) uses its running statistics and leaves them as they are."""
    for module in _norms(model):
        if everywhere or (module.weight is not None and not module.weight.requires_grad):
            module.eval()


def _norms(model: nn.Module) -> list[torch.nn.modules.batchnorm._BatchNorm]:
    kind = torch.nn.modules.batchnorm._BatchNorm
    return [module for module in model.modules() if isinstance(module, kind)]
