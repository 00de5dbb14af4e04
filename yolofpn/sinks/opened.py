"""The sinks of a run."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Collection, Sequence
from pathlib import Path

from yolofpn import sinks
from yolofpn.drawing import LabelStyle
from yolofpn.errors import InputError, UserError
from yolofpn.files import write_errors
from yolofpn.sinks.jsonl import JsonLinesSink
from yolofpn.sinks.media import MediaChoice, MediaSink
from yolofpn.sinks.output_names import SourceInfo
from yolofpn.sinks.sink import Sink
from yolofpn.structures import Detections, Frame


class Sinks:
    """Several sinks as one; a context manager that closes them.

    Args:
        sinks: in the order in which they write.
        fresh: those before them that get no frame of a live source that only repeats an older one.
    """

    def __init__(self, sinks: Sequence[Sink], fresh: Sequence[Sink] = ()) -> None:
        self._sinks, self._fresh = tuple(sinks), tuple(fresh)

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Hand one frame to each sink; what only this image cannot have, the others have all the same."""
        failure = None
        try:
            for sink in () if frame.stale else self._fresh:
                sink.write(source, frame, detections)
        except InputError as error:
            failure = error
        for sink in self._sinks:
            sink.write(source, frame, detections)
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Close all of them, even if one fails; its error is raised at the end."""
        with contextlib.ExitStack() as stack:
            for sink in reversed((*self._fresh, *self._sinks)):
                stack.callback(sink.close)

    def __enter__(self) -> Sinks:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def build_sinks(
    output: Path | None,
    *,
    formats: Collection[str] = ("jsonl",),
    media: MediaChoice = "all",
    labels: LabelStyle = "score",
    resume_at: int | None = None,
) -> Sinks:
    """The sinks of a run; the JSON lines are always among them.

    Args:
        output: the folder that receives everything, made if need be; None for JSON lines on standard output, which
            goes without media and other formats.
        formats: keys of ``yolofpn.sinks.SINKS``.
        media: which annotated images and videos are written.
        labels: what stands beside a box in them.
        resume_at: so many bytes of the JSON lines stay, those of an earlier run; None: it is a new run.

    Raises:
        UserError: a format is unknown, needs a folder or cannot be resumed, or the folder cannot be written.
    """
    keys = [sink.key for sink in sinks.SINKS]
    for unknown in set(formats) - set(keys):
        near = difflib.get_close_matches(unknown, keys, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(keys)}"
        raise UserError(f"format {unknown!r} is unknown: {hint}")
    chosen = [sink for sink in sinks.SINKS if sink.key in formats and sink is not JsonLinesSink]
    if output is None:
        if chosen:
            raise UserError(f"format {chosen[0].key!r} needs a folder: give one with --output, - takes JSON lines only")
        return Sinks([JsonLinesSink(None)])
    whole = [sink.key for sink in chosen if not getattr(sink, "resumable", False)]
    if whole and resume_at is not None:
        raise UserError(f"format {whole[0]!r} cannot be resumed: omit it, or start a new run")
    with write_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    lines = JsonLinesSink(output, resume_at or 0)
    others: list[Sink] = [sink(output) for sink in chosen]
    if media != "none":
        others.append(MediaSink(output, media, labels))
    # The lines are last: a source whose line is there has all its files, which a resumed run relies on.
    return Sinks([lines], others)
