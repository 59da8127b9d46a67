"""The envelope of every answer, and the errors that become one: Prometheus's `status`, `data`, `errorType`, `error`.

A handler returns `success(…)` or raises `ApiError`; `api_handler` turns everything else that may happen into the
shape that clients expect. Large answers are compressed on a thread.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
from aiohttp import web

from bellbuoy.http import ERROR_LIMIT
from bellbuoy.logs import fields
from bellbuoy.promql import QueryError
from bellbuoy.tsdb import StorageError

log = logging.getLogger(__name__)
STATUS = {
    "bad_data": 400, "execution": 422, "canceled": 499, "timeout": 503, "internal": 500, "unavailable": 503,
    "not_found": 404, "not_acceptable": 406,
}  # fmt: skip
# Answers up to this are compressed in the loop: a thread costs more.
INLINE_COMPRESS_BYTES = 16 << 10
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
    """JSON, compressed when the client takes it."""
    response = web.Response(
        body=body,
        status=status,
        content_type="application/json",
        headers={"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"},
        zlib_executor_size=INLINE_COMPRESS_BYTES,
    )
    response.enable_compression()
    return response


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


def api_handler(handler: Handler, *, ready: Callable[[], str]) -> Handler:
    """The handler with every error in the envelope; while `ready()` gives a reason, nothing is answered but that."""

    async def answer(request: web.Request) -> web.StreamResponse:
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
