"""The weights on offer: those of the command line, the default, and finished training runs."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from yolofpn.demo.limits import WorkLimits
from yolofpn.demo.settings import Settings
from yolofpn.errors import InputError, UserError
from yolofpn.files import RUN_WEIGHTS
from yolofpn.inference.load_detector import LoadedDetector, default_file, load_for_inference
from yolofpn.inference.predictor import Predictor
from yolofpn.inference.selection import choose_limits


@dataclass(frozen=True)
class WeightsChoice:
    """Weights that a user can choose: ``title`` is shown, ``spec`` is what the loader takes and stays here."""

    key: str
    title: str
    spec: str


class ModelStore:
    """Finds weights, and keeps those in use loaded. Its methods may be called from several threads.

    Args:
        given: weights of the command line; the first is what the page starts with. Without any it is the default.
        runs: the folder where training leaves its runs, which may grow meanwhile.
        device: where detectors run.
        limits: of what stays in memory.

    Raises:
        UserError: if no weights are given, and there is no default.
    """

    def __init__(
        self,
        given: Sequence[str],
        *,
        runs: Path = Path("runs/train"),
        device: str = "auto",
        limits: WorkLimits | None = None,
    ) -> None:
        self._limits = limits or WorkLimits()
        self._runs = runs
        self._device = device
        self._choices: dict[str, WeightsChoice] = {}
        self._lock = Lock()
        self._loading: defaultdict[str, Lock] = defaultdict(Lock)
        self._loaded: OrderedDict[str, LoadedDetector] = OrderedDict()
        self._predictors: OrderedDict[tuple[str, int | None], Predictor] = OrderedDict()
        for spec in given or ("auto",):
            if spec == "auto":
                default = default_file()
                self._offer(str(default), f"{default.stem} (default)")
            else:
                self._offer(spec, Path(spec).name or spec)

    def choices(self) -> list[WeightsChoice]:
        """Return all available weights; their keys stay the same as long as the server runs."""
        with self._lock:
            known = {choice.spec for choice in self._choices.values()}
            for path in sorted(self._runs.glob(f"*/{RUN_WEIGHTS}")):
                if str(path.parent) not in known:
                    self._offer(str(path.parent), f"run {path.parent.name}")
            return list(self._choices.values())

    def predictor(self, settings: Settings) -> Predictor:
        """A detector with these settings; the network behind it is shared with everyone who chose the same weights.

        Raises:
            UserError: if the weights are missing or damaged, or a setting does not fit them.
        """
        with self._lock:
            choice = self._choices.get(settings.weights)
        if choice is None:
            raise InputError("these weights are no longer available: reload the page")
        with self._loading[choice.key]:  # only those who wait for the same weights wait here
            shared = self._shared_predictor(choice, settings.img_size)
        own = copy.copy(shared)
        own.limits = choose_limits(
            shared.detector.limits,
            shared.names,
            score_thresh=settings.score_thresh,
            nms_thresh=settings.nms_thresh,
            classes=settings.classes,
        )
        return own

    def _offer(self, spec: str, title: str) -> None:
        key = str(len(self._choices))
        titles = {choice.title for choice in self._choices.values()}
        self._choices[key] = WeightsChoice(key, title if title not in titles else f"{title} ({key})", spec)

    def _shared_predictor(self, choice: WeightsChoice, img_size: int | None) -> Predictor:
        with self._lock:
            found = self._predictors.get((choice.key, img_size))
            if found is not None:
                self._predictors.move_to_end((choice.key, img_size))
                return found
        loaded = self._weights(choice)
        with self._without_path(choice):
            predictor = Predictor(loaded.detector, loaded.metadata, img_size=img_size, device=self._device)
        with self._lock:
            self._predictors[choice.key, img_size] = predictor
            if len(self._predictors) > self._limits.predictors:
                self._predictors.popitem(last=False)
        return predictor

    def _weights(self, choice: WeightsChoice) -> LoadedDetector:
        with self._lock:
            if choice.key in self._loaded:
                self._loaded.move_to_end(choice.key)
                return self._loaded[choice.key]
        with self._without_path(choice):
            loaded = load_for_inference(choice.spec)
            if not loaded.metadata.input.is_plain:
                raise UserError(f"{choice.spec}: takes bands, the demo has 8-bit colours: run detect.py on image files")
        with self._lock:
            self._loaded[choice.key] = loaded
            while len(self._loaded) > self._limits.loaded_weights:
                self._forget(next(iter(self._loaded)))
        return loaded

    @contextmanager
    def _without_path(self, choice: WeightsChoice) -> Iterator[None]:
        """A server's paths are none of the users' business."""
        try:
            yield
        except UserError as error:
            raise InputError(str(error).replace(choice.spec, choice.title)) from None

    def _forget(self, key: str) -> None:
        del self._loaded[key]
        for used in [used for used in self._predictors if used[0] == key]:
            del self._predictors[used]
