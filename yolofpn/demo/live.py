"""Moving images: the page sends one request at a time and gets one answer, so nothing ever piles up.

Messages of the page:
    text: its settings, as JSON; no answer unless they are impossible.
    bytes: an image of the user's own webcam, or nothing for the next image of the server's camera.
Answers are what ``answers.pack`` makes: the detections and the image with its boxes, or ``{"error": ...}``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, MutableMapping
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from yolofpn.data.images import read_image
from yolofpn.demo.answers import FAULT, describe, detect, drawn_jpeg, pack
from yolofpn.demo.cameras import Camera
from yolofpn.demo.fair_queue import FairQueue
from yolofpn.demo.follow import Follower
from yolofpn.demo.limits import ServerLimits
from yolofpn.demo.model_store import ModelStore
from yolofpn.demo.settings import Settings, read_settings
from yolofpn.demo.uploads import check_image
from yolofpn.demo.workers import Workers
from yolofpn.errors import InputError, UserError
from yolofpn.inference.predictor import Predictor
from yolofpn.structures import Frame

LOOK_EVERY = 0.015  # seconds; pages that wait for a camera must not fill the threads that decode for others
_FORMATS = frozenset({"JPEG", "PNG", "WEBP"})


class PageViewer:
    """A WebSocket connection of a live view.

    Args:
        client: whose turn it takes.
        store: of the weights.
        queue: of the detector.
        workers: what decodes and draws.
        camera: of the server; None for the user's own webcam.
        limits: of settings, webcam frames and idle pages.
    """

    def __init__(
        self,
        client: str,
        store: ModelStore,
        queue: FairQueue,
        workers: Workers,
        camera: Camera | None,
        limits: ServerLimits,
    ) -> None:
        self._client = client
        self._store = store
        self._queue = queue
        self._workers = workers
        self._camera = camera
        self._limits = limits
        self._settings = Settings()
        self._follower: Follower | None = None  # made again when the settings change
        self._start = time.monotonic()
        self._index = 0  # of the next image of the webcam, or the last one of the camera

    async def serve(self, websocket: WebSocket) -> None:
        """Answer until the page goes away, asks for nothing for long, or its session ends."""
        await websocket.accept()
        still_here: Callable[[], bool] = websocket.scope["session_is_valid"]
        with ExitStack() as stack:
            if self._camera is not None:
                stack.enter_context(self._camera.watch())
            while (message := await self._receive(websocket))["type"] != "websocket.disconnect":
                if not still_here():
                    await websocket.close(1008, "your session has ended: reload the page")
                    return
                answer = await self._answer(message)
                if answer is None:
                    continue
                try:
                    await websocket.send_bytes(answer)
                except (WebSocketDisconnect, RuntimeError):  # it went away while the answer was made
                    return

    async def _receive(self, websocket: WebSocket) -> MutableMapping[str, Any]:
        try:
            async with asyncio.timeout(self._limits.connection.viewer_idle_seconds):
                return await websocket.receive()
        except TimeoutError:
            await websocket.close(1001, "nothing was asked for for long: start again")
            return {"type": "websocket.disconnect"}

    async def _answer(self, message: MutableMapping[str, Any]) -> bytes | None:
        try:
            if message.get("text") is not None:
                self._settings = read_settings(message["text"], self._limits.settings)
                self._follower = None
                return None
            return await self._look(message.get("bytes") or b"")
        except UserError as error:
            return pack({"error": str(error)})
        except Exception:  # such as a device without memory: the page is told, and asks again
            logging.getLogger(__name__).exception("while decoding an animation")
            return pack({"error": FAULT})

    async def _look(self, data: bytes) -> bytes:
        predictor = await self._workers.run(self._store.predictor, self._settings)
        if self._camera is not None:
            return await self._found(predictor, await self._newest(self._camera))
        pixels = await self._workers.run(_check_webcam, data, self._limits.work.webcam_pixels)
        async with self._workers.room(pixels):
            image = await self._workers.run(read_image, data, name="webcam")
            self._index += 1
            seconds = time.monotonic() - self._start
            frame = Frame(image, "webcam", self._index - 1, seconds, clock=datetime.now(UTC))
            return await self._found(predictor, frame)

    async def _found(self, predictor: Predictor, frame: Frame) -> bytes:
        if self._follower is None:
            follower = partial(Follower, predictor, self._limits.settings, track=self._settings.track)
            self._follower = await self._workers.run(follower)
        job = self._queue.submit(self._client, partial(detect, predictor, frame.image, self._follower.limits))
        found, seconds = await asyncio.wrap_future(job)
        found = await self._workers.run(self._follower.follow, frame, found)
        jpeg = await self._workers.run(drawn_jpeg, frame.image, found, self._limits.settings.shown_side)
        return pack(describe(frame, found, seconds), jpeg)

    async def _newest(self, camera: Camera) -> Frame:
        patience = self._limits.work.camera_seconds
        deadline = time.monotonic() + patience
        while (newer := camera.newer(self._index)) is None:
            if time.monotonic() > deadline:
                raise InputError(f"{camera.name}: no image for {patience:.0f} s")
            await asyncio.sleep(LOOK_EVERY)
        self._index, frame = newer
        return frame


def _check_webcam(data: bytes, most_pixels: int) -> int:
    """The number of its pixels, from its headers."""
    if not data:
        raise InputError("webcam: the frame is empty")
    found = check_image(data, "webcam", most_pixels)
    if found is None or found[0] not in _FORMATS:
        raise InputError("webcam: not a JPEG, PNG or WebP image")
    height, width = found[1]
    return height * width
