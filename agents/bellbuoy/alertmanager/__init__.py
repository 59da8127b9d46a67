"""The alertmanager: takes alerts, groups them, keeps quiet what should be, and tells receivers such as Slack.

    POST alerts ─▶ store ─▶ routing tree ─▶ groups ─▶ inhibited? muted? silenced? ─▶ notification log ─▶ senders

It speaks Alertmanager's API v2 and reads its `alertmanager.yml`, from a file or from the operator. Its state survives
a crash. What alerts mean, and their texts, come from the server's rules.
"""

import asyncio
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from bellbuoy.alertmanager.api import add_api
from bellbuoy.alertmanager.config import load_config
from bellbuoy.alertmanager.options import Options, add_arguments, options
from bellbuoy.alertmanager.page import add_pages
from bellbuoy.alertmanager.service import Service
from bellbuoy.alertmanager.slack import render_text
from bellbuoy.alertmanager.storage import lock_folder
from bellbuoy.alertmanager.times import Clock, SystemClock
from bellbuoy.errors import OptionsError
from bellbuoy.http import application, serve

__all__ = ["Options", "OptionsError", "add_arguments", "load_config", "lock_folder", "options", "render_text", "run"]


async def run(
    options: Options,
    stop: asyncio.Event,
    *,
    listening: Callable[[str], None] | None = None,
    clock: Clock | None = None,
) -> None:
    """Serve until `stop` is set. Raises ConfigError, StateError or OSError when it cannot begin or go on."""
    registry = CollectorRegistry()
    service = Service(options, clock=clock or SystemClock(), registry=registry)
    app = application("Alertmanager", registry=registry, health=service.health)
    add_api(app, service)
    add_pages(app, service)
    await service.run(lambda: serve(app, listen=options.listen, stop=stop, listening=listening))
