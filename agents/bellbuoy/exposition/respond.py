"""A page as an HTTP answer: in the format that the scraper asks for, packed if it takes that, the part's own last.

Packing is at zlib's fastest level: a page of 60 kB is a tenth of that after half a millisecond, and the network between
a pod and its server is not worth more.
"""

import zlib

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from bellbuoy.exposition.page import Page

GZIP_LEVEL = 1
_GZIP_WINDOW = 15 + 16  # zlib's way to say: with gzip's header
_END = b"# EOF\n"


def respond(request: web.Request, page: Page, registry: CollectorRegistry | None) -> web.Response:
    """The page and then the registry, if there is one."""
    encoder, content_type = choose_encoder(request.headers.get("Accept", ""))
    own = encoder(registry) if registry is not None else b""
    if content_type.startswith("application/openmetrics-text"):
        body = page.openmetrics().encode() + own.removesuffix(_END) + _END
    else:
        body = page.text().encode() + own
    headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
        body = packer.compress(body) + packer.flush()
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=body, headers=headers)
