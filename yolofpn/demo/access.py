"""Who may use the page: a password where one is set, and no other web site in the user's browser."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
import urllib.parse
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN_PATHS = frozenset({"/login", "/static/login.html", "/static/style.css", "/static/icon.svg"})
MOST_SESSIONS = 10_000
WRONG_PASSWORD_SECONDS = 1.0  # that an address waits before it may try again
LONGEST_FORM = 4096
HEADERS = {
    # Nothing from other hosts, whatever a file's name or a class's name may try to smuggle into the page.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer browsers send the log-in form as if from nowhere
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


class Guard:
    """Stands before the page: gives every browser a session, and turns away who has no business here.

    ``scope["client_id"]`` tells the page whose request it is.

    Args:
        app: the page.
        password: that users have to give; None for no password.
        local_only: the server is reachable from this computer only, so it must be addressed as such; other names
            come from web sites that point their own name here.
        secure: the page is served by https.
        port: of the server. Browsers do not keep the cookies of one computer's ports apart, so theirs differ in name.
    """

    def __init__(self, app: ASGIApp, *, password: str | None, local_only: bool, secure: bool, port: int) -> None:
        self._app = app
        self._password = password
        self._local_only = local_only
        self._secure = secure
        self._cookie = f"yolofpn-{port}{'-tls' if secure else ''}"
        self._sessions: dict[str, None] = {}  # in the order of their beginning
        self._waiting: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        session = self._session(headers)
        refusal = self._refusal(headers) or self._to_login(scope, session)
        if refusal is not None:
            await _refuse(refusal, scope, receive, self._sender(send, None))
            return
        new = session is None and self._password is None and scope["path"] == "/"
        if new:
            session = self._begin_session()
        address = scope["client"][0] if scope.get("client") else "unknown"
        scope["client_id"] = session or address
        sender = self._sender(send, session if new else None)
        if scope["path"] == "/login" and scope["type"] == "http" and scope["method"] == "POST":
            response = await self._log_in(Request(scope, receive), address)
            await response(scope, receive, sender)
        else:
            await self._app(scope, receive, sender)

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
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except CookieError:
            return None
        value = cookies[self._cookie].value if self._cookie in cookies else ""
        return value if value in self._sessions else None

    def _begin_session(self) -> str:
        session = secrets.token_urlsafe(24)
        self._sessions[session] = None
        if len(self._sessions) > MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return session

    async def _log_in(self, request: Request, address: str) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > LONGEST_FORM:
                return JSONResponse({"error": "too long"}, 413)
        # Only now, and with no await before the answer is known: else many attempts could be begun, then sent at once.
        if address in self._waiting:
            return JSONResponse({"error": "wait a second between attempts"}, 429)
        given = urllib.parse.parse_qs(body.decode(errors="replace")).get("password", [""])[0]
        if hmac.compare_digest(given.encode(), (self._password or "").encode()):
            response = RedirectResponse("/", 303)
            response.headers["set-cookie"] = self._cookie_text(self._begin_session())
            return response
        self._waiting.add(address)
        try:
            await asyncio.sleep(WRONG_PASSWORD_SECONDS)
        finally:
            self._waiting.discard(address)
        return RedirectResponse("/static/login.html#wrong", 303)

    def _sender(self, send: Send, new_session: str | None) -> Send:
        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if new_session is not None:
                    headers["set-cookie"] = self._cookie_text(new_session)
            await send(message)

        return send_with_headers

    def _cookie_text(self, session: str) -> str:
        return f"{self._cookie}={session}; Path=/; HttpOnly; SameSite=Strict" + ("; Secure" if self._secure else "")


def is_loopback(host: str) -> bool:
    """Whether a name or address always leads to the computer that asks."""
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
