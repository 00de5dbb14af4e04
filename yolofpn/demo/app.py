"""The page and what it asks for."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from yolofpn.demo.answers import FAULT, as_data_url, describe, detect, drawn_jpeg
from yolofpn.demo.cameras import Camera
from yolofpn.demo.fair_queue import FairQueue
from yolofpn.demo.live import Viewer
from yolofpn.demo.settings import LARGEST_SIDE, Settings, parse_settings
from yolofpn.demo.shelf import Shelf
from yolofpn.demo.uploads import Upload, UploadLimits, check_upload, clean_name, receive, too_large
from yolofpn.demo.video_jobs import VideoJobs
from yolofpn.errors import InputError, UserError
from yolofpn.inference.predictor import Predictor

STATIC = Path(__file__).parent / "static"
UPLOADS_AT_ONCE = 8  # that are decoded at the same time, of all users
UPLOADS_PER_CLIENT = 4
VIEWERS_PER_CLIENT = 4
UPLOAD_SECONDS = 600.0  # that sending a file may take


class Page:
    """The page of one server.

    Args:
        shelf: of the weights on offer.
        cameras: of the server.
        limits: of uploads.
    """

    def __init__(self, shelf: Shelf, cameras: Sequence[Camera] = (), limits: UploadLimits | None = None) -> None:
        self._shelf = shelf
        self._cameras = list(cameras)
        self._limits = limits or UploadLimits()
        self._queue = FairQueue()
        self._videos = VideoJobs(self._queue, self._limits)
        self._folder = Path()
        self._decoding = asyncio.Semaphore(UPLOADS_AT_ONCE)
        self._uploads: Counter[str] = Counter()
        self._viewers: Counter[str] = Counter()

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
        with tempfile.TemporaryDirectory(prefix="yolofpn-demo-", ignore_cleanup_errors=True) as folder:
            self._folder = Path(folder)
            with self._queue, self._videos:
                sweeper = asyncio.create_task(self._sweep())
                yield
                sweeper.cancel()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(30)
            self._videos.drop_forgotten()

    async def _index(self, _request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def _info(self, _request: Request) -> Response:
        choices = await run_in_threadpool(self._shelf.choices)
        return JSONResponse(
            {
                "weights": [{"key": choice.key, "title": choice.title} for choice in choices],
                "cameras": [camera.name for camera in self._cameras],
                "limits": asdict(self._limits) | {"image_size": LARGEST_SIDE},
            }
        )

    async def _weights(self, request: Request) -> Response:
        predictor = await run_in_threadpool(self._shelf.predictor, Settings(request.path_params["key"]))
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
        client = request.scope["client_id"]
        name = clean_name(request.query_params.get("name", ""))
        settings = parse_settings(request.query_params)
        if int(request.headers.get("content-length") or 0) > self._limits.video_bytes:
            raise InputError(f"{name}: {too_large(self._limits.video_bytes)}")
        with _one_more(self._uploads, client, UPLOADS_PER_CLIENT, "uploads"):
            folder = Path(tempfile.mkdtemp(dir=self._folder))
            keep = False
            try:
                path = folder / "upload"
                async with asyncio.timeout(UPLOAD_SECONDS):
                    await receive(request.stream(), path, self._limits.video_bytes)
                predictor = await run_in_threadpool(self._shelf.predictor, settings)
                upload = await run_in_threadpool(check_upload, path, name, self._limits)
                if upload.kind == "picture":
                    return JSONResponse(await self._look(client, predictor, upload))
                job = self._videos.start(client, upload, folder, predictor)
                keep = True
                return JSONResponse({"video": job.status()})
            except TimeoutError:
                raise InputError(f"{name}: sending took longer than {UPLOAD_SECONDS / 60:.0f} minutes") from None
            except ClientDisconnect:
                return Response(status_code=400)
            finally:
                if not keep:
                    shutil.rmtree(folder, ignore_errors=True)

    async def _look(self, client: str, predictor: Predictor, upload: Upload) -> dict[str, Any]:
        async with self._decoding:  # one large picture takes some 100 MB
            frame = await run_in_threadpool(upload.frame)
            found, seconds = await asyncio.wrap_future(
                self._queue.submit(client, partial(detect, predictor, frame.image))
            )
            jpeg = await run_in_threadpool(drawn_jpeg, frame.image, found)
        return {"found": describe(frame, found, seconds), "picture": as_data_url(jpeg)}

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
            with _one_more(self._viewers, client, VIEWERS_PER_CLIENT, "moving pictures"):
                await Viewer(client, self._shelf, self._queue, cameras.get(number)).serve(websocket)
        except InputError as error:
            await websocket.accept()  # browsers keep from the page why they were turned away before
            await websocket.close(1013, str(error))


@contextmanager
def _one_more(counter: Counter[str], client: str, most: int, what: str) -> Iterator[None]:
    if counter[client] >= most:
        raise InputError(f"you have {most} {what} at once already: wait for them, or close a page")
    counter[client] += 1
    try:
        yield
    finally:
        counter[client] -= 1
        if not counter[client]:
            del counter[client]


async def _say(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _say_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


async def _say_nothing(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"error": FAULT}, 500)
