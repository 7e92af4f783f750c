"""Who may talk to the server: bearer token, Host and Origin checks, and errors as JSON."""

from __future__ import annotations

import hmac
import ipaddress
import json
import logging
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from engine.errors import AssetError, BackendError, ConfigError, InputError, StreamError, VisavisError
from streaming.hub import FullError

__all__ = ["COOKIE", "access_middleware", "errors_middleware", "is_loopback"]

log = logging.getLogger("visavis")

COOKIE = "visavis_token"

_STATUS: tuple[tuple[type[VisavisError], int], ...] = (
    (FullError, 503),
    (AssetError, 503),
    (BackendError, 503),
    (InputError, 400),
    (ConfigError, 400),
    (StreamError, 409),
)

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
    ),
}


def is_loopback(host: str) -> bool:
    """True for addresses only this machine can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _hostname(host: str) -> str:
    return urlsplit(f"//{host}").hostname or ""


def _refuse(status: int, text: str) -> web.Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return web.json_response({"error": text}, status=status, headers=headers)


def access_middleware(token: str | None, allow_origins: tuple[str, ...] = ()) -> Middleware:
    """Checks every request but ``/healthz``.

    * Without a token the server is for this machine only: the Host must be a loopback name, or a page
      elsewhere could reach it by pointing its own name here (DNS rebinding).
    * A request from a web page must come from this server's own page, or one of ``allow_origins``.
    * With a token: ``Authorization: Bearer``, the cookie set by ``/?token=``, or that parameter itself.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == "/healthz":
            return await handler(request)
        if token is None and not is_loopback(_hostname(request.host)):
            return _refuse(
                403, "this server answers only to localhost; start it with --token to serve others"
            )
        origin = request.headers.get("Origin")
        if origin is not None and origin not in allow_origins and urlsplit(origin).netloc != request.host:
            return _refuse(
                403, f"pages of {origin} may not call; start with --allow-origin {origin} to let them"
            )
        if origin in allow_origins and "Access-Control-Request-Method" in request.headers:
            # A browser's question before the call; it carries no token.
            return web.Response(status=204, headers=_cors(origin or ""))
        if token is not None and not _has_token(request, token):
            return _refuse(401, "a token is needed: open /?token=TOKEN, or send Authorization: Bearer TOKEN")
        response = await handler(request)
        if token is not None and request.path == "/" and "token" in request.query:
            response.set_cookie(COOKIE, token, httponly=True, samesite="Strict")
        if origin in allow_origins and not response.prepared:
            response.headers.update(_cors(origin or ""))
        return response

    return check


def _cors(origin: str) -> dict[str, str]:
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": "GET, POST, PATCH, DELETE, OPTIONS",
        "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match",
        "Access-Control-Expose-Headers": "Location",
        "Vary": "Origin",
    }


def _has_token(request: web.Request, token: str) -> bool:
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    given = [bearer if scheme.lower() == "bearer" else "", request.cookies.get(COOKIE, "")]
    given.append(request.query.get("token", ""))
    # In constant time, so that a token cannot be guessed letter by letter.
    return any(hmac.compare_digest(candidate.encode(), token.encode()) for candidate in given)


@web.middleware
async def errors_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal as ``{"error": text}``; unexpected ones are logged and say nothing of the inside."""
    try:
        response = await handler(request)
    except web.HTTPException as error:
        text = error.text if error.text and not error.text.startswith(str(error.status)) else error.reason
        headers = {k: v for k, v in error.headers.items() if k in ("Allow", "Location")}
        response = web.json_response({"error": text}, status=error.status, headers=headers)
    except VisavisError as error:
        status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
        response = _refuse(status, str(error))
    except json.JSONDecodeError as error:
        response = _refuse(400, f"the body is not JSON: {error}")
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        response = _refuse(500, "the server met an unexpected error; its log has the details")
    if not response.prepared:
        response.headers.update(_HEADERS)
    return response
