"""The libraries of the extra ``plots``, which may be missing: nothing that detects or trains needs them."""

from __future__ import annotations

from importlib.util import find_spec

_MADE_WITH = {"matplotlib": "plots", "tensorboard": "TensorBoard events"}


def is_installed(module: str) -> bool:
    """Return whether ``module`` is installed, without importing it."""
    try:
        return find_spec(module) is not None
    except ImportError:
        return False


def skipped_plots(*modules: str) -> list[str]:
    """The line to print about what is not made because libraries are missing; none where all are installed.

    Args:
        modules: 'matplotlib', 'tensorboard' or both.
    """
    missing = [module for module in modules if not is_installed(module)]
    if not missing:
        return []
    what = " and ".join(_MADE_WITH[module] for module in missing)
    return [f"{what} are skipped: pip install {' '.join(missing)} (the extra 'plots')"]
