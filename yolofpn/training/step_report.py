"""Progress within an epoch: a progress bar on a terminal, else a line every half minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Never, TextIO

from tqdm import tqdm

from yolofpn.text import bar_stream
from yolofpn.training.durations import describe_time

FIRST_LINE_SECONDS = 10.0
LINE_SECONDS = 30.0


class StepReport:
    """Speed, losses and time left of the epoch that is under way.

    Args:
        say: prints a line.
        stream: where a bar is drawn if it is a terminal; None: nowhere.
        clock: gives the time in seconds.
    """

    def __init__(
        self, say: Callable[[str], None], stream: TextIO | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._stream = stream
        self._clock = clock
        self._next_line: float | None = None
        self._bar: tqdm[Never] | None = None

    def start(self, epoch: int, epochs: int, steps: int, done: int = 0) -> None:
        """An epoch begins, or resumes after ``done`` of its ``steps`` steps; ``epoch`` counts from 1."""
        self._epoch, self._epochs, self._steps, self._done, self._first = epoch, epochs, steps, done, done
        self._images = 0
        self._start = self._clock()
        if self._next_line is None:
            self._next_line = self._start + FIRST_LINE_SECONDS
        if self._stream is not None and self._stream.isatty():
            title = f"epoch {epoch}/{epochs}"
            # mininterval 0: a step is long enough to be shown.
            file = bar_stream(self._stream)
            bar: tqdm[Never] = tqdm(
                total=steps, initial=done, desc=title, unit="step", leave=False, mininterval=0, file=file
            )
            self._bar = bar

    def step(self, images: int, losses: Mapping[str, float]) -> None:
        """Report an optimiser step with ``images`` images; ``losses`` are the epoch's running means by name."""
        self._images += images
        self._done += 1
        now = self._clock()
        seconds = max(now - self._start, 1e-6)
        speed = self._images / seconds
        if self._bar is not None:
            self._bar.set_postfix_str(f"{speed:.1f} images/s, {_describe_losses(losses)}", refresh=False)
            self._bar.update()
        elif self._next_line is not None and now >= self._next_line:
            self._next_line = now + LINE_SECONDS
            per_step = seconds / (self._done - self._first)
            epoch_left = (self._steps - self._done) * per_step
            run_left = epoch_left + (self._epochs - self._epoch) * self._steps * per_step
            self._say(
                f"epoch {self._epoch}/{self._epochs}: step {self._done} of {self._steps}, {speed:.1f} images/s, "
                f"{_describe_losses(losses)}, left: {describe_time(epoch_left)} of the epoch, "
                f"{describe_time(run_left)} of the run"
            )

    def close(self) -> None:
        """The epoch is over."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _describe_losses(losses: Mapping[str, float]) -> str:
    parts = " ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in losses.items())
    return f"loss {sum(losses.values()):.3f} ({parts})"
