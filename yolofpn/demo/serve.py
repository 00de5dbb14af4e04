"""Runs ``demo.py``: loads weights, opens cameras and the port, and serves the page."""

from __future__ import annotations

import contextlib
import gc
import logging
import socket
import ssl
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvicorn
from PIL import AvifImagePlugin

from yolofpn.demo.access import AuthMiddleware, is_loopback
from yolofpn.demo.app import Page
from yolofpn.demo.cameras import open_cameras
from yolofpn.demo.connections import BoundedListener, EventLoop, FewLines, HttpProtocol, Network, WebSocketProtocol
from yolofpn.demo.limits import ServerLimits
from yolofpn.demo.model_store import ModelStore
from yolofpn.demo.settings import Settings
from yolofpn.errors import UserError
from yolofpn.free_memory import keep_memory_small


@dataclass(frozen=True)
class DemoOptions:
    """Options of ``demo.py``, see its --help."""

    source: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 7860
    password: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxy: tuple[Network, ...] = ()
    device: str = "auto"


def serve(options: DemoOptions) -> int:
    """Show the page until Ctrl-C; the exit code.

    Raises:
        UserError: if the weights are missing, a source is not there, the password is too short, the port is taken.
    """
    limits = ServerLimits()
    least = limits.session.password_chars
    if options.password is not None and len(options.password) < least:
        raise UserError(f"the password is shorter than {least} characters: choose a longer one")
    if options.tls_cert is not None:
        _check_certificate(options.tls_cert, options.tls_key)
    keep_memory_small()
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # of each image that is open; the pool has threads for several images
    store = ModelStore(options.weights, device=options.device, limits=limits.work)
    store.predictor(Settings())  # bad weights are reported now, and not to the first visitor
    page = Page(store, open_cameras(options.source, limits.work.cameras), limits)
    local_only = is_loopback(options.host)
    with listen(options.host, options.port, proxies=options.trusted_proxy, limits=limits) as listener:
        port = listener.getsockname()[1]
        app = AuthMiddleware(
            page.app(),
            password=options.password,
            local_only=local_only,
            secure=options.tls_cert is not None,
            port=port,
            behind_proxy=bool(options.trusted_proxy),
            limits=limits,
        )
        config = server_config(app, options.tls_cert, options.tls_key, proxies=options.trusted_proxy, limits=limits)
        gc.collect()
        gc.freeze()  # what is loaded now stays: it need not be looked through again and again
        _announce(options, port, local_only)
        with contextlib.suppress(KeyboardInterrupt):  # the usual way to end it
            uvicorn.Server(config).run(sockets=[listener])
    return 0


def server_config(
    app: AuthMiddleware,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    *,
    proxies: Sequence[Network] = (),
    limits: ServerLimits | None = None,
) -> uvicorn.Config:
    """Return the server configuration: few log messages, and limits on requests."""
    limits = limits or ServerLimits()
    config = uvicorn.Config(
        app,
        loop=partial(EventLoop, limits.connection),  # type: ignore[arg-type]  # called, and no more
        http=partial(HttpProtocol, limits.connection),  # type: ignore[arg-type]
        ws=partial(WebSocketProtocol, limits.connection),  # type: ignore[arg-type]
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=[str(network) for network in proxies],
        h11_max_incomplete_event_size=limits.connection.head_bytes,
        timeout_keep_alive=limits.connection.idle_seconds,
        ws_max_size=limits.work.message_bytes,
        ws_ping_interval=limits.connection.ping_seconds,
        ws_ping_timeout=limits.connection.pong_seconds,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=limits.connection.goodbye_seconds,
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
    )
    logging.getLogger("uvicorn.error").addFilter(FewLines(limits.connection.log_seconds))
    return config


def listen(
    host: str, port: int, *, proxies: Sequence[Network] = (), limits: ServerLimits | None = None
) -> BoundedListener:
    """An open port.

    Raises:
        UserError: if it is taken, or there is no such address here.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        connections = (limits or ServerLimits()).connection
        listener = BoundedListener(connections, proxies, family=family, type=kind, proto=protocol)
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
