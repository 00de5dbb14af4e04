"""Files included in the package: default weights, model configs and sample images."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

from yolofpn.errors import UserError

CHECKSUMS = "SHA256SUMS"
GRAPH_SUFFIX = ".onnx"
_PACKAGE = Path(__file__).resolve().parent
# Beside the package in a checkout, inside it once it is installed (setup.py puts them there).
_WEIGHTS_FOLDERS = (_PACKAGE.parent / "weights", _PACKAGE / "default_weights")
_CONFIG_FOLDERS = (_PACKAGE.parent / "cfg", _PACKAGE / "default_cfg")
_CONFIG_MARKER = "yolofpn.yaml"  # no other folder called cfg, such as one in site-packages, holds it
_SAMPLE_IMAGES = _PACKAGE / "sample_images"
_LFS_POINTER = b"version https://git-lfs"
_OTHERS = "other weights: --weights FILE|RUN_DIR, or a name such as yolov3-tiny, which is downloaded (35 MB)"


def default_weights(*, verify: bool = True) -> Path:
    """The weights that are used where none are named.

    Args:
        verify: compare their sha256; not needed by who only looks at what they are.

    Raises:
        UserError: they are missing, or not the bytes that ship with the project.
    """
    (digest, path), *_ = _listed_weights()
    return _checked(path, digest if verify else None)


def default_graph(*, verify: bool = True) -> Path | None:
    """The default weights as an ONNX graph, which detects without PyTorch; None if this package ships none.

    Args:
        verify: as for the default weights.

    Raises:
        UserError: it is missing, or not the bytes that ship with the project.
    """
    for digest, path in _listed_weights():
        if path.suffix == GRAPH_SUFFIX:
            return _checked(path, digest if verify else None)
    return None


def initial_weights() -> list[Path]:
    """The weights that ship for trainings alone to start from, beside the default ones; ``verify_weights`` one to use.

    Raises:
        UserError: one is missing.
    """
    _, *others = _listed_weights()
    return [_checked(path, None) for _, path in others if path.suffix != GRAPH_SUFFIX]


def verify_weights(path: Path) -> None:
    """Compare the sha256 of one of the shipped weights files.

    Raises:
        UserError: it is not the bytes that ship with the project.
    """
    _checked(path, next(digest for digest, listed in _listed_weights() if listed == path))


def _listed_weights() -> list[tuple[str, Path]]:
    """The hexadecimal sha256 and the path of every shipped file of weights, the default weights first."""
    folder = next((each for each in _WEIGHTS_FOLDERS if (each / CHECKSUMS).is_file()), None)
    if folder is None:
        raise UserError(f"the default weights are missing: fetch or install yolofpn again, whole\n{_OTHERS}")
    path = folder / CHECKSUMS
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})\n{_OTHERS}") from None
    matches = [re.fullmatch(r"([0-9a-f]{64}) [ *]([^/\\\n]+)\n", line) for line in lines]
    listed = [(match[1], path.with_name(match[2])) for match in matches if match is not None]
    if not listed or len(listed) < len(matches):
        raise UserError(f"{path}: is not a list of sha256sum: fetch or install yolofpn again\n{_OTHERS}")
    return listed


def _checked(path: Path, digest: str | None) -> Path:
    """``path``, if it is the file of this sha256 (None: of any)."""
    try:
        problem = _find_problem(path, digest)
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
    if problem is not None:
        raise UserError(f"{path}: {problem}\n{_OTHERS}")
    return path


def find_config(path: str | Path) -> Path:
    """``path``, or the file of ``cfg/`` that it names where there is no such path.

    ``yolofpn-lite``, ``yolofpn-lite.yaml`` and ``cfg/faster_rcnn.yaml`` (now in ``cfg/two-stage/``) are found by file
    name, in a clone and in an installed package, and one line on stderr says where. A path with folders of which none
    is called ``cfg`` is returned as it is.
    """
    path = Path(path)
    if path.parent != Path() and "cfg" not in path.parent.parts:
        return path
    name = path.name if path.suffix == ".yaml" else f"{path.name}.yaml"
    found = next((each for each in shipped_configs() if each.name == name), None)
    if found is None or path.exists():
        return path
    print(f"{path}: using {_from_here(found)}", file=sys.stderr)
    return found


def shipped_configs() -> list[Path]:
    """Every YAML file of ``cfg/`` and its folders; none where the folder was taken out of the package."""
    folder = next((each for each in _CONFIG_FOLDERS if (each / _CONFIG_MARKER).is_file()), None)
    return sorted(folder.rglob("*.yaml")) if folder else []


def sample_images() -> list[Path]:
    """The images that a detector is tried on; none where they were taken out of the package."""
    return sorted(_SAMPLE_IMAGES.glob("*.jpg"))


def default_sources() -> tuple[str, ...]:
    """What is detected on where no source is named: the folder of the sample images, as seen from the working folder.

    Raises:
        UserError: there are none.
    """
    if not sample_images():
        raise UserError(f"{_SAMPLE_IMAGES}: holds no images: name an image, folder or video of your own")
    return (str(_from_here(_SAMPLE_IMAGES)),)


def _from_here(path: Path) -> Path:
    """``path`` relative to the working folder, where it lies in that."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _find_problem(path: Path, digest: str | None) -> str | None:
    """Why the file is not the one of this sha256 (None: of any); None if it is."""
    if not path.is_file():
        return "is missing: fetch or install yolofpn again, whole"
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            return "is only Git LFS's note of where the weights are: git lfs pull fetches them"
        if digest is None:
            return None
        file.seek(0)
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found == digest:
        return None
    return f"is not the file that ships with yolofpn ({path.stat().st_size:,} bytes, another sha256): fetch it again"
