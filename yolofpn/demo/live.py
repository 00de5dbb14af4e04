"""Moving pictures: the page sends one request at a time and gets one answer, so nothing ever piles up.

Messages of the page:
    text: its settings, as JSON; no answer unless they are impossible.
    bytes: a picture of the user's own webcam, or nothing for the next picture of the server's camera.
Answers are what ``answers.pack`` makes: the detections and the picture with its boxes, or ``{"error": ...}``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import MutableMapping
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect

from yolofpn.data.images import open_picture, read_image
from yolofpn.demo.answers import FAULT, describe, detect, drawn_jpeg, pack
from yolofpn.demo.cameras import Camera
from yolofpn.demo.fair_queue import FairQueue
from yolofpn.demo.settings import Settings, parse_settings
from yolofpn.demo.shelf import Shelf
from yolofpn.errors import InputError, UserError
from yolofpn.structures import Frame

LARGEST_MESSAGE = 8 * 2**20  # bytes
MOST_PIXELS = 4_000_000  # of a webcam's picture
FRAME_SECONDS = 20.0  # that a camera of the server may be silent
LOOK_EVERY = 0.015  # seconds; pages that wait for a camera must not fill the threads that decode for others
_FORMATS = frozenset({"JPEG", "PNG", "WEBP"})


class Viewer:
    """One open page with a moving picture.

    Args:
        client: whose turn it takes.
        shelf: of the weights.
        queue: of the detector.
        camera: of the server; None for the user's own webcam.
    """

    def __init__(self, client: str, shelf: Shelf, queue: FairQueue, camera: Camera | None) -> None:
        self._client = client
        self._shelf = shelf
        self._queue = queue
        self._camera = camera
        self._settings = Settings()
        self._index = 0  # of the next picture of the webcam, or the last one of the camera

    async def serve(self, websocket: WebSocket) -> None:
        """Answer until the page goes away."""
        await websocket.accept()
        with ExitStack() as stack:
            if self._camera is not None:
                stack.enter_context(self._camera.watch())
            while (message := await websocket.receive())["type"] != "websocket.disconnect":
                answer = await self._answer(message)
                if answer is None:
                    continue
                try:
                    await websocket.send_bytes(answer)
                except (WebSocketDisconnect, RuntimeError):  # it went away while the answer was made
                    return

    async def _answer(self, message: MutableMapping[str, Any]) -> bytes | None:
        try:
            if message.get("text") is not None:
                self._settings = _read_settings(message["text"])
                return None
            return await self._look(message.get("bytes") or b"")
        except UserError as error:
            return pack({"error": str(error)})
        except Exception:  # such as a device without memory: the page is told, and asks again
            logging.getLogger(__name__).exception("while looking at a moving picture")
            return pack({"error": FAULT})

    async def _look(self, data: bytes) -> bytes:
        predictor = await run_in_threadpool(self._shelf.predictor, self._settings)
        frame = await (self._webcam(data) if self._camera is None else self._newest(self._camera))
        job = self._queue.submit(self._client, partial(detect, predictor, frame.image))
        found, seconds = await asyncio.wrap_future(job)
        jpeg = await run_in_threadpool(drawn_jpeg, frame.image, found)
        return pack(describe(frame, found, seconds), jpeg)

    async def _webcam(self, data: bytes) -> Frame:
        self._index += 1
        return await run_in_threadpool(_read_webcam, data, self._index - 1)

    async def _newest(self, camera: Camera) -> Frame:
        deadline = time.monotonic() + FRAME_SECONDS
        while (newer := camera.newer(self._index)) is None:
            if time.monotonic() > deadline:
                raise InputError(f"{camera.name}: no picture for {FRAME_SECONDS:.0f} s")
            await asyncio.sleep(LOOK_EVERY)
        self._index, frame = newer
        return frame


def _read_webcam(data: bytes, index: int) -> Frame:
    with open_picture(data, name="webcam") as picture:
        if picture.format not in _FORMATS or picture.width * picture.height > MOST_PIXELS:
            raise InputError("webcam: not a JPEG picture of a usual size")
    return Frame(read_image(data, name="webcam"), "webcam", index, clock=datetime.now(UTC))


def _read_settings(text: str) -> Settings:
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise InputError("these settings cannot be read: reload the page")
    return parse_settings({str(key): str(value) for key, value in values.items() if value is not None})
