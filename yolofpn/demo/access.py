"""Access control: password login, and protection against cross-site requests and DNS rebinding."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import urllib.parse
from collections import Counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from yolofpn.demo.limits import ServerLimits
from yolofpn.demo.sessions import Sessions, address_key, read_cookie

OPEN_PATHS = frozenset({"/login", "/static/login.html", "/static/style.css", "/static/icon.svg"})
HEADERS = {
    # Nothing from other hosts, whatever a file's name or a class's name may try to smuggle into the page.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer browsers send the log-in form as if from nowhere
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


logger = logging.getLogger("yolofpn.demo")


class AuthMiddleware:
    """Stands before the page: gives every browser a session, and turns away who has no business here.

    ``scope["client_id"]`` tells the page whose request it is, ``scope["address"]`` where it comes from, and
    ``scope["session_is_valid"]`` whether it may go on.

    Args:
        app: the page.
        password: that users have to give; None for no password.
        local_only: the server is reachable from this computer only, so it must be addressed as such; other names
            come from web sites that point their own name here.
        secure: the page is served by https.
        port: of the server. Browsers do not keep the cookies of one computer's ports apart, so theirs differ in name.
        behind_proxy: the addresses of clients are known, from a proxy that is trusted.
        limits: of requests and sessions.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        password: str | None,
        local_only: bool,
        secure: bool,
        port: int,
        behind_proxy: bool = False,
        limits: ServerLimits | None = None,
    ) -> None:
        self._app = app
        self._password = password
        self._local_only = local_only
        self._secure = secure
        self._cookie = f"yolofpn-{port}{'-tls' if secure else ''}"
        self._proxy_is_known = behind_proxy
        self._limits = (limits or ServerLimits()).connection
        self._wrong_password_seconds = (limits or ServerLimits()).session.wrong_password_seconds
        self._sessions = Sessions((limits or ServerLimits()).session)
        self._waiting: set[str] = set()
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        address = address_key(scope["client"][0] if scope.get("client") else "unknown")
        session = self._session(headers)
        refusal = self._too_much(scope, address) or self._refusal(headers) or self._to_login(scope, session)
        if refusal is not None:
            await _refuse(refusal, scope, receive, self._sender(scope, send, None))
            return
        self._tell_of_proxy(scope, headers)
        self._open[address] += 1
        try:
            await self._pass(scope, receive, send, address, session)
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    async def _pass(self, scope: Scope, receive: Receive, send: Send, address: str, session: str | None) -> None:
        new = session is None and self._password is None and scope["path"] == "/"
        if new:
            session = self._sessions.begin(address)
        scope["client_id"] = session or address
        scope["address"] = address
        scope["session_is_valid"] = lambda: session is None or self._sessions.use(session)
        sender = self._sender(scope, send, session if new else None)
        if scope["path"] == "/login" and scope["type"] == "http" and scope["method"] == "POST":
            response = await self._log_in(Request(scope, receive), address)
            await response(scope, receive, sender)
        else:
            await self._app(scope, receive, sender)

    def _too_much(self, scope: Scope, address: str) -> Response | None:
        head = len(scope["raw_path"]) + len(scope["query_string"])
        if head + sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > self._limits.head_bytes:
            return JSONResponse({"error": "the headers of the request are too long"}, 431)
        if self._open[address] >= self._limits.per_address:
            return JSONResponse({"error": "too many requests at once from your address"}, 429, {"Retry-After": "1"})
        return None

    def _tell_of_proxy(self, scope: Scope, headers: Headers) -> None:
        if not self._proxy_is_known and "x-forwarded-for" in headers:
            self._proxy_is_known = True
            logger.warning(
                "requests come through a proxy, whose users count as one, also for wrong passwords: "
                "if %s is yours, give --trusted-proxy %s",
                *2 * (scope["client"][0] if scope.get("client") else "it",),
            )

    def _refusal(self, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if self._local_only and not is_loopback(_host_name(host)):
            return PlainTextResponse("this page is for this computer only: see --host", 403)
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return PlainTextResponse("requests of other web sites are not answered", 403)
        return None

    def _to_login(self, scope: Scope, session: str | None) -> Response | None:
        if self._password is None or session is not None or scope["path"] in OPEN_PATHS:
            return None
        if scope["type"] == "http" and scope["path"] == "/":
            return RedirectResponse("/static/login.html", 303)
        return JSONResponse({"error": "log in first: reload the page"}, 401)

    def _session(self, headers: Headers) -> str | None:
        key = read_cookie(headers.getlist("cookie"), self._cookie, self._limits.cookie_chars)
        return key if key and self._sessions.use(key) else None

    async def _log_in(self, request: Request, address: str) -> Response:
        try:
            async with asyncio.timeout(self._limits.form_seconds):
                body = await _read(request, self._limits.form_bytes)
        except (TimeoutError, ClientDisconnect):
            return JSONResponse({"error": "the password did not arrive"}, 408)
        if body is None:
            return JSONResponse({"error": "too long"}, 413)
        # Only now, and with no await before the answer is known: else many attempts could be begun, then sent at once.
        if address in self._waiting:
            seconds = f"{max(1, round(self._wrong_password_seconds))}"
            return JSONResponse({"error": "wait a second between attempts"}, 429, {"Retry-After": seconds})
        try:
            fields = urllib.parse.parse_qs(body.decode(errors="replace"), max_num_fields=10)
        except ValueError:  # more fields than that
            return JSONResponse({"error": "expected a password alone"}, 400)
        given = fields.get("password", [""])[0]
        if hmac.compare_digest(given.encode(), (self._password or "").encode()):
            response = RedirectResponse("/", 303)
            response.headers["set-cookie"] = self._cookie_text(self._sessions.begin(address), request.scope)
            return response
        self._waiting.add(address)
        try:
            await asyncio.sleep(self._wrong_password_seconds)
        finally:
            self._waiting.discard(address)
        return RedirectResponse("/static/login.html#wrong", 303)

    def _sender(self, scope: Scope, send: Send, new_session: str | None) -> Send:
        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if new_session is not None:
                    headers["set-cookie"] = self._cookie_text(new_session, scope)
            await send(message)

        return send_with_headers

    def _cookie_text(self, session: str, scope: Scope) -> str:
        secure = self._secure or scope["scheme"] in ("https", "wss")  # the latter behind a proxy that speaks https
        return f"{self._cookie}={session}; Path=/; HttpOnly; SameSite=Strict" + ("; Secure" if secure else "")


async def _read(request: Request, most_bytes: int) -> bytes | None:
    """The body, or None if it is longer."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            return None
    return bytes(body)


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is the local host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_name(host: str) -> str:
    try:
        return urllib.parse.urlsplit(f"//{host}").hostname or ""
    except ValueError:  # no name at all, such as "["
        return ""


async def _refuse(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await response(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008})
