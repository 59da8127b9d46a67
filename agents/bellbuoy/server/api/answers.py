"""The envelope of every answer, and the errors that become one: Prometheus's `status`, `data`, `errorType`, `error`.

A handler returns `success(…)` or raises `ApiError`; `api_handler` turns everything else that may happen into the
shape that clients expect, compresses it, and answers 304 where the client has it already.
"""

import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
from aiohttp import web

from bellbuoy.http import ERROR_LIMIT
from bellbuoy.http.compression import compress
from bellbuoy.logs import fields
from bellbuoy.promql import QueryError
from bellbuoy.tsdb import StorageError

log = logging.getLogger(__name__)
STATUS = {
    "bad_data": 400, "execution": 422, "canceled": 499, "timeout": 503, "internal": 500, "unavailable": 503,
    "not_found": 404, "not_acceptable": 406,
}  # fmt: skip
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ApiError(Exception):
    """A request that gets an error; `kind` is the `errorType`."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def bad_parameter(name: str, reason: object) -> ApiError:
    """The error of a parameter that cannot be used, in Prometheus's words."""
    return ApiError("bad_data", f'invalid parameter "{name}": {reason}')


def json_response(body: bytes, *, status: int = 200) -> web.Response:
    """JSON that nobody keeps."""
    return web.Response(
        body=body,
        status=status,
        content_type="application/json",
        headers={"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"},
    )


def success(data: Any, *, warnings: Sequence[str] = (), infos: Sequence[str] = ()) -> web.Response:
    """`{"status":"success","data":…}`; bytes are JSON already."""
    body = data if isinstance(data, bytes) else orjson.dumps(data)
    notes = b""
    if warnings:
        notes += b',"warnings":' + orjson.dumps(list(warnings))
    if infos:
        notes += b',"infos":' + orjson.dumps(list(infos))
    return json_response(b"".join((b'{"status":"success","data":', body, notes, b"}")))


def failure(kind: str, text: str) -> web.Response:
    """`{"status":"error","errorType":…,"error":…}` with the status that goes with it."""
    if len(text) > ERROR_LIMIT:
        text = text[:ERROR_LIMIT] + "…"
    return json_response(
        orjson.dumps({"status": "error", "errorType": kind, "error": text}), status=STATUS.get(kind, 500)
    )


def revalidate(request: web.Request, response: web.Response) -> web.Response:
    """The answer with a tag of what is in it; 304 without a body for a client that has just that."""
    body = response.body
    if response.status != 200 or not isinstance(body, bytes):
        return response
    tag = f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    asked = request.headers.get("If-None-Match", "")
    if asked and (asked.strip() == "*" or tag in (one.strip() for one in asked.split(","))):
        return web.Response(status=304, headers=headers)
    response.headers.update(headers)
    return response


def api_handler(handler: Handler, *, ready: Callable[[], str], kept: bool = False) -> Handler:
    """The handler with every error in the envelope; while `ready()` gives a reason, nothing is answered but that.

    What is `kept` gets a tag, so that a client that asks again and again is told when nothing has changed.
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await enveloped(request)
        if isinstance(response, web.Response):
            if kept:
                response = revalidate(request, response)
            await compress(request, response)
        return response

    async def enveloped(request: web.Request) -> web.StreamResponse:
        if reason := ready():
            return failure("unavailable", f"the server is not ready: {reason}")
        try:
            return await handler(request)
        except ApiError as e:
            return failure(e.kind, str(e))
        except QueryError as e:
            return failure(e.kind, str(e))
        except OverflowError as e:
            return failure("execution", str(e))
        except StorageError as e:
            log.exception("cannot read the storage", extra=fields(path=request.path, error=str(e)))
            return failure("internal", str(e))
        except web.HTTPRequestEntityTooLarge:
            return failure("bad_data", "the body is too large; ask for less at a time")

    return answer
