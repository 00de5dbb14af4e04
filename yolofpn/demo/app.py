"""The page and what it asks for."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, MutableMapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from yolofpn.demo.answers import FAULT, as_data_url, describe, detect, drawn_jpeg
from yolofpn.demo.cameras import Camera
from yolofpn.demo.fair_queue import FairQueue
from yolofpn.demo.limits import ServerLimits
from yolofpn.demo.live import PageViewer
from yolofpn.demo.model_store import ModelStore
from yolofpn.demo.settings import Settings, parse_settings
from yolofpn.demo.uploads import Upload, check_upload, clean_name, receive, too_large
from yolofpn.demo.video_jobs import VideoJobs
from yolofpn.demo.workers import Workers
from yolofpn.errors import InputError, UserError
from yolofpn.extras import is_installed
from yolofpn.free_memory import give_back_memory
from yolofpn.inference.predictor import Predictor

STATIC = Path(__file__).parent / "static"


class Page:
    """The page of one server.

    Args:
        store: of the weights on offer.
        cameras: of the server.
        limits: of all that users may ask for.
    """

    def __init__(self, store: ModelStore, cameras: Sequence[Camera] = (), limits: ServerLimits | None = None) -> None:
        self._store = store
        self._cameras = list(cameras)
        self._limits = limits or ServerLimits()
        work = self._limits.work
        self._queue = FairQueue()
        self._workers = Workers(work.threads, work.decoded_pixels)
        self._videos = VideoJobs(self._queue, self._workers, self._limits)
        self._folder = Path()
        self._uploads = _Places("uploads", work.uploads_per_client, work.uploads_per_address, work.uploads)
        self._viewers = _Places("animations", work.viewers_per_client, work.viewers_per_address, work.viewers)

    def app(self) -> Starlette:
        """The page as an ASGI application; files of users are gone when it ends."""
        return Starlette(
            routes=[
                Route("/", self._index),
                Route("/api/info", self._info),
                Route("/api/weights/{key}", self._weights),
                Route("/api/upload", self._upload, methods=["POST"]),
                Route("/api/videos/{key}", self._video_status),
                Route("/api/videos/{key}/{file}", self._video_file),
                WebSocketRoute("/api/live", self._live),
                Mount("/static", StaticFiles(directory=STATIC)),
            ],
            exception_handlers={UserError: _say, HTTPException: _say_http, Exception: _say_nothing},
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = self._limits.work.file_threads
        with tempfile.TemporaryDirectory(prefix="yolofpn-demo-", ignore_cleanup_errors=True) as folder:
            self._folder = Path(folder)
            sweeper = asyncio.create_task(self._sweep())
            try:
                with self._queue:
                    async with self._videos:
                        yield
            finally:
                sweeper.cancel()
                self._workers.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._limits.work.sweep_seconds)
            self._videos.drop_forgotten()
            await self._workers.run(give_back_memory)

    async def _index(self, _request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def _info(self, _request: Request) -> Response:
        choices = await self._workers.run(self._store.choices)
        return JSONResponse(
            {
                "weights": [{"key": choice.key, "title": choice.title} for choice in choices],
                "cameras": [camera.name for camera in self._cameras],
                "track": is_installed("trackers"),
                "limits": asdict(self._limits.upload) | {"image_size": self._limits.settings.img_size},
            }
        )

    async def _weights(self, request: Request) -> Response:
        predictor = await self._workers.run(self._store.predictor, Settings(request.path_params["key"]))
        thresh = predictor.limits.score_thresh
        height, width = predictor.img_size
        return JSONResponse(
            {
                "names": predictor.names,
                "size": [height, width],
                "step": predictor.detector.size_divisor,
                "score": thresh if isinstance(thresh, float) else None,  # None: one for each class
                "nms": predictor.limits.nms_thresh,
            }
        )

    async def _upload(self, request: Request) -> Response:
        limits = self._limits.upload
        name = clean_name(request.query_params.get("name", ""))
        settings = parse_settings(request.query_params, self._limits.settings)
        if int(request.headers.get("content-length") or 0) > limits.video_bytes:
            raise InputError(f"{name}: {too_large(limits.video_bytes)}")
        with self._uploads.take(request.scope):
            folder = Path(tempfile.mkdtemp(dir=self._folder))
            try:
                path = folder / "upload"
                async with asyncio.timeout(limits.seconds):
                    await receive(request.stream(), path, limits.video_bytes)
                return await self._answer(request, path, name, settings)
            except TimeoutError:
                raise InputError(f"{name}: sending took longer than {limits.seconds / 60:.0f} minutes") from None
            except ClientDisconnect:
                return Response(status_code=400)
            finally:
                if not self._videos.has(folder):
                    shutil.rmtree(folder, ignore_errors=True)

    async def _answer(self, request: Request, path: Path, name: str, settings: Settings) -> Response:
        predictor = await self._workers.run(self._store.predictor, settings)
        upload = await self._workers.run(check_upload, path, name, self._limits.upload)
        if upload.kind == "image":
            return JSONResponse(await self._look(request, predictor, upload))
        job = self._videos.start(request.scope["client_id"], upload, path.parent, predictor, track=settings.track)
        return JSONResponse({"video": job.status()})

    async def _look(self, request: Request, predictor: Predictor, upload: Upload) -> dict[str, Any]:
        async with self._workers.room(upload.pixels):
            if await request.is_disconnected():  # it went away while it waited
                raise ClientDisconnect
            frame = await self._workers.run(upload.frame, predictor.depth)
            found, seconds = await asyncio.wrap_future(
                self._queue.submit(request.scope["client_id"], partial(detect, predictor, frame.image))
            )
            jpeg = await self._workers.run(drawn_jpeg, frame.image, found, self._limits.settings.shown_side)
        return {"found": describe(frame, found, seconds), "image": as_data_url(jpeg)}

    async def _video_status(self, request: Request) -> Response:
        job = self._videos.get(request.scope["client_id"], request.path_params["key"])
        return JSONResponse(job.status())

    async def _video_file(self, request: Request) -> Response:
        job = self._videos.get(request.scope["client_id"], request.path_params["key"])
        files = {"annotated.mp4": job.video, "detections.jsonl": job.lines}
        path = files.get(request.path_params["file"])
        if path is None or not path.is_file() or job.state in ("waiting", "running"):
            raise HTTPException(404)
        stem = Path(job.upload.name).stem or "video"
        inline = "inline" if "show" in request.query_params else "attachment"
        return FileResponse(path, filename=f"{stem}-{path.name}", content_disposition_type=inline)

    async def _live(self, websocket: WebSocket) -> None:
        client = websocket.scope["client_id"]
        number = websocket.query_params.get("camera", "")
        cameras = {str(index): camera for index, camera in enumerate(self._cameras)}
        if number and number not in cameras:
            await websocket.close(1008)
            return
        try:
            with self._viewers.take(websocket.scope):
                camera = cameras.get(number)
                viewer = PageViewer(client, self._store, self._queue, self._workers, camera, self._limits)
                await viewer.serve(websocket)
        except InputError as error:
            await websocket.accept()  # browsers keep from the page why they were turned away before
            await websocket.close(1013, str(error))


class _Places:
    """Counts requests in progress per browser, per address and in total."""

    def __init__(self, what: str, per_client: int, per_address: int, in_all: int) -> None:
        self._what = what
        self._most = per_client, per_address, in_all
        self._taken: Counter[str] = Counter()

    @contextmanager
    def take(self, scope: MutableMapping[str, Any]) -> Iterator[None]:
        """Hold one meanwhile.

        Raises:
            InputError: if there is none left.
        """
        keys = f"client {scope['client_id']}", f"address {scope['address']}", "all"
        whose = "you have", "users of your network address have", "all users together have"
        for key, who, most in zip(keys, whose, self._most, strict=True):
            if self._taken[key] >= most:
                raise InputError(f"{who} {most} {self._what} at once already: wait for them, or close a page")
        self._taken.update(keys)
        try:
            yield
        finally:
            self._taken.subtract(keys)
            self._taken += Counter()  # forgets those that have none


async def _say(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _say_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


async def _say_nothing(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"error": FAULT}, 500)
