"""An S3-compatible server on loopback that answers 503 now and then."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

EVERY = 6  # requests


class Flaky:
    """A WSGI application that hands every request but each sixth one to another application."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._lock = threading.Lock()
        self._count = 0
        self.refused = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._lock:
            self._count += 1
            refuse = self._count % EVERY == 0
            self.refused += refuse
        if not refuse:
            answer: Iterable[bytes] = self._application(environ, start_response)
            return answer
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("503 Slow Down", [("Content-Length", "0")])
        return [b""]


@contextmanager
def flaky_s3() -> Iterator[tuple[str, Flaky]]:
    """Its address, and the server."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server
    from werkzeug.test import Client

    class Silent(WSGIRequestHandler):
        def log(self, *_: object) -> None:
            pass

    application = DomainDispatcherApplication(create_backend_app)
    Client(application).post("/moto-api/reset")  # what another server of this process has stored
    flaky = Flaky(application)
    server = make_server("127.0.0.1", 0, flaky, threaded=True, request_handler=Silent)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}", flaky
    finally:
        server.shutdown()
        thread.join()
