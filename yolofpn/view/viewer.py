"""The viewer of ``--show``: shows results in a window at their time, and handles keys."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from yolofpn.drawing import LabelStyle
from yolofpn.errors import UserError
from yolofpn.files import write_atomically
from yolofpn.opencv import cv2
from yolofpn.results import Result
from yolofpn.sinks.image_files import encode_image
from yolofpn.structures import Image, Limits
from yolofpn.view.shown_thresholds import ShownThresholds
from yolofpn.view.window import CLOSED, Window, close_windows

QUIT = ("q", CLOSED)
HOLDING = 0.25  # seconds between two looks at the other windows while nothing is to be done
IDLE = 0.005  # seconds of one look at the keyboard, by which a new result may be delayed
RATE_SECONDS = 2.0  # over which frames per second are counted


class Viewer:
    """Shows results until the user has seen enough; a context manager, which takes its windows off the screen.

    An image stays until a key is pressed, a video plays at its own speed where the network is fast enough, a stream
    is shown as it comes, each stream in a window of its own. Keys: q or Escape quits, space stops and goes on, s saves
    what is seen, + and - move the thresholds of what is seen.

    Args:
        labels: what stands beside a box.
        limits: of the run, from which the keys move those of what is seen.
        say: tells the user something.

    Attributes:
        snapshots: the folder for what is saved, made with the first.
        limits: of the run.
    """

    def __init__(self, labels: LabelStyle, limits: Limits, say: Callable[[str], None]) -> None:
        self.snapshots = Path("snapshots")
        self.limits = limits
        self._labels = labels
        self._thresholds = ShownThresholds(limits)
        self._say = say
        self._windows: dict[str, Window] = {}
        self._shown: dict[str, Result] = {}
        self._rates: dict[str, _Rate] = {}
        self._dropped: Counter[str] = Counter()
        self._latest = ""  # title of the window that changed last
        self._video_start = 0.0
        self._video = ""

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._windows:
            close_windows()

    def show(self, result: Result) -> bool:
        """Show ``result`` when it is due; False if the user wants no more."""
        if result.source.kind == "video" and not self._wait_until_due(result):
            return False
        title = f"yolofpn: {result.source.name}" if result.source.kind == "stream" else "yolofpn"
        self._latest = title
        self._shown[title] = result
        self._dropped[title] += result.frame.dropped
        if not result.frame.stale:
            self._rates.setdefault(title, _Rate()).add(time.monotonic())
        self._draw(title)
        if result.source.kind == "image":
            return self._hold()
        return self._obey(self._key())

    def idle(self) -> bool:
        """Process window events while there is no new result; return False if the user has quit."""
        if not self._windows:
            time.sleep(IDLE)
            return True
        return self._obey(self._key(IDLE))

    def _wait_until_due(self, result: Result) -> bool:
        """A video never runs faster than its own speed, also not to catch up on what a slow network lost."""
        now = time.monotonic()
        if self._video != result.source.name:
            self._video, self._video_start = result.source.name, now - result.frame.time
        self._video_start = max(self._video_start, now - result.frame.time)
        while self._windows and (left := self._video_start + result.frame.time - time.monotonic()) > 0:
            if not self._obey(self._key(left)):
                return False
        return True

    def _key(self, seconds: float = 0.0) -> str:
        key = self._windows[self._latest].key(seconds)
        return CLOSED if any(window.was_closed() for window in self._windows.values()) else key

    def _obey(self, key: str) -> bool:
        if key in QUIT:
            return False
        if key == " ":
            return self._hold(paused=True)
        self._adjust(key)
        return True

    def _adjust(self, key: str, *, paused: bool = False) -> bool:
        """Handle a key that changes or saves the shown image; return whether it was one."""
        if key == "s":
            self._save()
        elif key in ("+", "=", "-", "_"):
            self._thresholds.move(1 if key in "+=" else -1)
            for title in self._shown:
                self._draw(title, paused=paused)
        else:
            return False
        return True

    def _hold(self, *, paused: bool = False) -> bool:
        """Wait until the user resumes (space, or any key for an image); return False if the user quits."""
        if paused:
            self._draw(self._latest, paused=True)
        while True:
            key = self._key(HOLDING)
            if key in QUIT:
                return False
            adjusted = self._adjust(key, paused=paused)
            if key and not adjusted and (key == " " or not paused):
                return True

    def _draw(self, title: str, *, paused: bool = False) -> None:
        result = self._shown[title]
        image = self._annotated(result)
        draw_caption(image, self._caption(title, paused=paused), alarm=result.frame.stale)
        self._windows.setdefault(title, Window(title)).show(image)

    def _annotated(self, result: Result) -> Image:
        candidates = result.detections if result.candidates is None else result.candidates
        return self._thresholds.filter(candidates).draw(result.frame.image, labels=self._labels)

    def _caption(self, title: str, *, paused: bool) -> str:
        result = self._shown[title]
        frame, live = result.frame, result.frame.clock is not None
        parts = ["paused"] if paused else []
        if frame.stale and frame.clock is not None:
            parts.append(f"no signal since {frame.clock.astimezone():%H:%M:%S}")
        elif not paused:
            if result.source.kind != "image":
                parts.append(f"{self._rates[title].per_second:.1f} FPS")
            age = (datetime.now(UTC) - frame.clock).total_seconds() if frame.clock is not None else result.seconds
            parts.append(f"{'latency' if live else 'network'} {age * 1000:.0f} ms")
        if live:
            parts.append(f"{self._dropped[title]} dropped")
        return "   ".join([*parts, f"threshold {self._thresholds}"])

    def _save(self) -> None:
        numbers = [int(path.stem) for path in self.snapshots.glob("*.png") if path.stem.isdecimal()]
        path = self.snapshots / f"{max(numbers, default=0) + 1}.png"
        try:
            write_atomically(path, encode_image(self._annotated(self._shown[self._latest]), ".png")[0])
        except UserError as error:  # a full disk, or an image too large: the run goes on
            self._say(f"no snapshot: {error}")
        else:
            self._say(f"snapshot: {path}")


class _Rate:
    """Frames per second over the last ``RATE_SECONDS``."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def add(self, now: float) -> None:
        self._times.append(now)
        while len(self._times) > 2 and now - self._times[0] > RATE_SECONDS:
            self._times.popleft()

    @property
    def per_second(self) -> float:
        seconds = self._times[-1] - self._times[0]
        return (len(self._times) - 1) / seconds if seconds > 0 else 0.0


def draw_caption(image: Image, text: str, *, alarm: bool = False) -> None:
    """Write ``text`` into the lower left corner of ``image`` ([H, W, 3] uint8, BGR), white on black or on red.

    Args:
        image: is changed.
        text: Latin letters; it gets smaller where the image is narrower than it.
        alarm: white on red.
    """
    height, width = image.shape[:2]
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, round((height * width) ** 0.5 / 500))
    scale = max(0.4, (height * width) ** 0.5 * 0.001)
    (text_width, text_height), descent = cv2.getTextSize(text, font, scale, thickness)
    if text_width + text_height > width:
        scale *= width / (text_width + text_height)
        thickness = 1
        (text_width, text_height), descent = cv2.getTextSize(text, font, scale, thickness)
    margin = text_height // 2
    paper = (0, 0, 200) if alarm else (0, 0, 0)
    top = height - text_height - descent - 2 * margin
    cv2.rectangle(image, (0, top), (text_width + 2 * margin, height), paper, cv2.FILLED)
    baseline = (margin, height - descent - margin)
    cv2.putText(image, text, baseline, font, scale, (255, 255, 255), thickness, cv2.LINE_AA)
