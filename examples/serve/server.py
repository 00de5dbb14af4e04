"""Detection as a web service: LitServe gathers requests into batches, restarts workers and limits the size of requests.

    pip install 'yolofpn[runtime]' litserve==0.2.19 prometheus-client python-multipart
    python examples/serve/server.py --weights auto --port 8000
    curl -F request=@dog.jpg http://127.0.0.1:8000/predict

Weights other than the default ones and exported graphs need yolofpn[train].

GET /health says whether the workers are ready, GET /metrics has counts and times for Prometheus.
"""

# No `from __future__ import annotations`: LitServe looks at the type in decode_request's signature, not at its name.
import argparse
import time

import litserve
from fastapi import Request, UploadFile
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

from yolofpn import load_detector
from yolofpn.data.images import read_image
from yolofpn.errors import UserError
from yolofpn.structures import Detections, Image

REQUESTS = Counter("yolofpn_requests", "Requests for detections by their status", ["status"])
SECONDS = Histogram("yolofpn_request_seconds", "Time from the request to its answer")


class DetectionAPI(litserve.LitAPI):
    """An uploaded image file in, its detections out."""

    def __init__(self, weights: str, batch_size: int, seconds: float) -> None:
        super().__init__(max_batch_size=batch_size, batch_timeout=seconds)
        self.weights = weights

    def setup(self, device: str) -> None:
        """Load the detector, once in each worker."""
        self.detector = load_detector(self.weights, device=device, workload="many")

    def decode_request(self, request: UploadFile) -> Image | UserError:
        """The image; an error is passed on as a value, since raised it would fail the whole batch."""
        try:
            return read_image(request.file.read(), name=request.filename or "image")
        except UserError as error:
            return error

    def batch(self, inputs: list[Image | UserError]) -> list[Image | UserError]:
        """Images of different sizes stay a list."""
        return inputs

    def predict(self, inputs: list[Image | UserError]) -> list[Detections | UserError]:
        """Detect in all readable images at once."""
        images = [each for each in inputs if not isinstance(each, UserError)]
        found = iter(self.detector(images, batch_size=len(images)) if images else [])
        return [each if isinstance(each, UserError) else next(found) for each in inputs]

    def unbatch(self, output: list[Detections | UserError]) -> list[Detections | UserError]:
        """One result for each request."""
        return output

    def encode_response(self, output: Detections | UserError) -> JSONResponse:
        """Boxes are xyxy in pixels of the image."""
        if isinstance(output, UserError):
            return JSONResponse({"detail": str(output)}, status_code=422)
        rows = zip(output.boxes.tolist(), output.scores.tolist(), output.labels.tolist(), strict=True)
        found = [
            {"box": box, "score": score, "label": label, "name": output.name_of(label)} for box, score, label in rows
        ]
        return JSONResponse({"detections": found})


class Measure(BaseHTTPMiddleware):
    """Count and time the requests for detections."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Answer, and note how it went."""
        if request.url.path != "/predict":
            return await call_next(request)
        start = time.perf_counter()
        response = await call_next(request)
        SECONDS.observe(time.perf_counter() - start)
        REQUESTS.labels(status=str(response.status_code)).inc()
        return response


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--batch-size", type=int, default=8, help="images that are detected in at once, at most")
    parser.add_argument("--wait", type=float, default=0.01, help="seconds that a batch waits for more requests")
    parser.add_argument("--max-mb", type=float, default=20, help="size of a request, at most")
    arguments = parser.parse_args()
    api = DetectionAPI(arguments.weights, arguments.batch_size, arguments.wait)
    server = litserve.LitServer(
        api,
        timeout=60,
        max_payload_size=int(arguments.max_mb * 2**20),
        middlewares=[Measure],
        restart_workers=True,
    )
    server.app.add_api_route("/metrics", lambda: Response(generate_latest(), media_type=CONTENT_TYPE_LATEST))
    server.run(host=arguments.host, port=arguments.port, num_api_servers=1, generate_client_file=False)


if __name__ == "__main__":
    main()
