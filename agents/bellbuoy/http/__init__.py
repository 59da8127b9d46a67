"""The HTTP that all parts share: one application shape, its health pages, its own metrics, a graceful end.

A part makes an `aiohttp.web.Application` with `application()`, adds its routes, and runs it with `serve()`. What a part
answers on its own paths is the part's business.
"""

from bellbuoy.http.application import ERROR_LIMIT, Health, application, serve
from bellbuoy.http.metrics import metrics_handler

__all__ = ["ERROR_LIMIT", "Health", "application", "metrics_handler", "serve"]
