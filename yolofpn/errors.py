"""Errors caused by input; messages name the file or value and the fix, in one or two lines."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DONE, SOME_FAILED, NOTHING_DONE = 0, 1, 2  # exit codes


class UserError(Exception):
    """The command cannot succeed; the command line prints the message and exits with code 2."""


class NaNOutputError(ValueError):
    """The output of a network is not a number: its weights are damaged, or its precision is too low."""

    def __init__(self) -> None:
        super().__init__("the network's output is NaN: the weights are damaged or do not fit the network")


class InputError(UserError):
    """One input (an image, a video, an annotation file) is bad: it is reported, and the run continues without it."""


def install_hint(extra: str) -> str:
    """The command that installs an extra: of this clone, or of the installed package."""
    in_clone = (Path(__file__).resolve().parents[1] / "pyproject.toml").is_file()
    return f"pip install '.[{extra}]'" if in_clone else f"pip install 'yolofpn[{extra}]'"


@contextmanager
def torch_errors() -> Iterator[None]:
    """Turn a failed import of a library of the extra ``train`` into an error that says what to do.

    Raises:
        UserError: one is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("torch", "torchvision", "safetensors", "albumentations", "pycocotools"):
            raise
        raise UserError(
            f"{package} is not installed: {install_hint('train')}; without it, only the default weights and exported "
            "graphs can detect: --weights FILE.onnx"
        ) from None
