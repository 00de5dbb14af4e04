"""One run of ``demo.py``: weights, cameras, an open port, and the page behind it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from yolofpn.demo.access import Guard, is_loopback
from yolofpn.demo.app import Page
from yolofpn.demo.cameras import open_cameras
from yolofpn.demo.live import LARGEST_MESSAGE
from yolofpn.demo.settings import Settings
from yolofpn.demo.shelf import Shelf
from yolofpn.errors import UserError

SHORTEST_PASSWORD = 8
PING_SECONDS = 20.0  # between two looks whether a page with a moving picture is still there
# That it may take to answer: busy computers are late, and once a page has sent settings while it waits for its picture
# its answer is not even read before that picture is done.
PONG_SECONDS = 120.0
GOODBYE_SECONDS = 3  # that open connections may take to end


@dataclass(frozen=True)
class DemoOptions:
    """What ``demo.py --help`` explains."""

    source: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 7860
    password: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    device: str = "auto"


def serve(options: DemoOptions) -> int:
    """Show the page until Ctrl-C; the exit code.

    Raises:
        UserError: the weights are missing, a source is not there, the password is too short, the port is taken.
    """
    if options.password is not None and len(options.password) < SHORTEST_PASSWORD:
        raise UserError(f"the password is shorter than {SHORTEST_PASSWORD} characters: choose a longer one")
    if options.tls_cert is not None:
        _check_certificate(options.tls_cert, options.tls_key)
    shelf = Shelf(options.weights, device=options.device)
    shelf.predictor(Settings())  # bad weights are told now, and not to the first visitor
    page = Page(shelf, open_cameras(options.source))
    local_only = is_loopback(options.host)
    with listen(options.host, options.port) as listener:
        port = listener.getsockname()[1]
        secure = options.tls_cert is not None
        app = Guard(page.app(), password=options.password, local_only=local_only, secure=secure, port=port)
        config = server_config(app, options.tls_cert, options.tls_key)
        _announce(options, port, local_only)
        with contextlib.suppress(KeyboardInterrupt):  # the usual way to end it
            uvicorn.Server(config).run(sockets=[listener])
    return 0


def server_config(app: Guard, tls_cert: Path | None = None, tls_key: Path | None = None) -> uvicorn.Config:
    """How the page is served: quietly, and with bounds to what a browser may send."""
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws_max_size=LARGEST_MESSAGE,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PONG_SECONDS,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=GOODBYE_SECONDS,
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
    )


def listen(host: str, port: int) -> socket.socket:
    """An open port.

    Raises:
        UserError: it is taken, or there is no such address here.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()  # from now on browsers wait, and are not turned away
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot listen on {host}:{port} ({reason}): choose another --port or --host") from None
    return listener


def _check_certificate(cert: Path, key: Path | None) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{cert}: no certificate with its key, unencrypted, as PEM ({reason}); check --tls-cert"
        ) from None


def _announce(options: DemoOptions, port: int, local_only: bool) -> None:
    scheme = "http" if options.tls_cert is None else "https"
    host = f"[{options.host}]" if ":" in options.host else options.host
    print(f"the page is at {scheme}://{host}:{port} (Ctrl-C ends it)", flush=True)
    if local_only:
        return
    if options.password is None:
        print(f"warning: everyone who reaches {host}:{port} can use this page: see --password-file", file=sys.stderr)
    if options.tls_cert is None:
        print(
            "warning: without --tls-cert browsers on other computers give no webcam, and passwords travel in clear",
            file=sys.stderr,
        )
