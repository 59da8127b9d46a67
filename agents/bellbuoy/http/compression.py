"""Answers in the encoding that a client takes: zstd, gzip or deflate, as its `Accept-Encoding` weighs them.

zstd is first among equals: it is several times quicker than gzip, and smaller. A body that is large is compressed on a
thread, so that the loop goes on; one that is small goes as it is.
"""

import asyncio
import zlib
from collections.abc import Callable

import cramjam
from aiohttp import web

# Below this, headers outweigh what is saved.
LEAST_BYTES = 128
# Up to this, a thread costs more than compressing does.
INLINE_BYTES = 16 << 10


def _zstd(body: bytes) -> bytes:
    return bytes(cramjam.zstd.compress(body, level=1))


def _zlib(body: bytes, window_bits: int) -> bytes:
    # The quickest level: answers are compressed once and read once.
    packer = zlib.compressobj(1, wbits=window_bits)
    return packer.compress(body) + packer.flush()


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": _zstd,
    "gzip": lambda body: _zlib(body, 16 + zlib.MAX_WBITS),
    "deflate": lambda body: _zlib(body, zlib.MAX_WBITS),
}


def choose_encoding(accepted: str) -> str:
    """The encoding for this `Accept-Encoding`; empty for none. What a client weighs the same, we choose."""
    best, weight = "", 0.0
    weights: dict[str, float] = {}
    for part in accepted.lower().split(","):
        name, _, parameters = part.partition(";")
        key, _, value = parameters.partition("=")
        try:
            weights[name.strip()] = float(value) if key.strip() == "q" else 1.0
        except ValueError:
            weights[name.strip()] = 0.0
    for name in ENCODERS:
        its = weights.get(name, weights.get("*", 0.0))
        if its > weight:
            best, weight = name, its
    return best


async def compress(request: web.BaseRequest, response: web.Response) -> None:
    """Encode the body of an answer that is about to leave, if the client takes it so."""
    response.headers.add("Vary", "Accept-Encoding")
    body = response.body
    if not isinstance(body, bytes) or len(body) < LEAST_BYTES or "Content-Encoding" in response.headers:
        return
    encoding = choose_encoding(request.headers.get("Accept-Encoding", ""))
    if not encoding:
        return
    encode = ENCODERS[encoding]
    response.body = encode(body) if len(body) <= INLINE_BYTES else await asyncio.to_thread(encode, body)
    response.headers["Content-Encoding"] = encoding
