"""`scrape_pools`, `scrape_pools/config`, `targets/relabel_steps` and `targets/response`: how targets come to be, and
what one answers right now.

The last is ours: it asks a target as its scrape does, with its credentials, and shows what comes back. A page that a
target protects would thereby be open to whoever reaches this server, so it is off unless a flag turns it on, and only
targets that are scraped anyway can be asked.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from bellbuoy._core import read_exposition
from bellbuoy.configuration import to_yaml
from bellbuoy.scrape import ScrapeConfig
from bellbuoy.server.api.answers import ApiError, bad_parameter, failure, success
from bellbuoy.server.api.parameters import Parameters
from bellbuoy.server.parts import Parts

# Of a response that is shown: as much as a person looks at, and at most what one answer may hold.
RESPONSE_BYTES, RESPONSE_BYTES_MAX = 1 << 20, 16 << 20


async def scrape_pools(parts: Parts, _: web.Request) -> web.Response:
    """Names of the scrape pools."""
    return success({"scrapePools": parts.scrape.pools()})


def _config(parts: Parts, parameters: Parameters) -> ScrapeConfig:
    """The configuration of the pool that is asked for, in Prometheus's words if there is none."""
    pool = parameters.text("scrapePool")
    if not pool:
        raise ApiError("bad_data", "no scrapePool parameter provided")
    config = parts.scrape.config(pool)
    if config is None:
        raise ApiError("bad_data", f'error retrieving scrape config: scrape pool "{pool}" not found')
    return config


async def scrape_pool_config(parts: Parts, request: web.Request) -> web.Response:
    """A pool's configuration, secrets hidden."""
    return success({"yaml": to_yaml(_config(parts, await Parameters.of(request)))})


def _labels(parameters: Parameters) -> dict[str, str]:
    text = parameters.text("labels")
    if not text:
        raise ApiError("bad_data", "no labels parameter provided")
    try:
        labels = orjson.loads(text)
    except ValueError as e:
        raise ApiError("bad_data", f"error parsing labels: {e}") from e
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise ApiError("bad_data", "error parsing labels: they must be an object of strings")
    return labels


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """A rule as Go prints it: without what is empty, but for separator, regex and replacement."""
    always = ("separator", "regex", "replacement", "action")
    return {name: value for name, value in rule.items() if value or name in always}


async def relabel_steps(parts: Parts, request: web.Request) -> web.Response:
    """What each of a pool's relabel rules makes of these labels."""
    parameters = await Parameters.of(request)
    if not parameters.text("scrapePool"):
        raise ApiError("bad_data", "no scrapePool parameter provided")
    labels = _labels(parameters)
    config = _config(parts, parameters)
    outputs = config.relabel_steps({name: value for name, value in labels.items() if value})
    steps = [
        {"rule": _rule(rule.rule()), "output": dict(sorted((output or {}).items())), "keep": output is not None}
        for rule, output in zip(config.relabel_configs, outputs, strict=True)
    ]
    return success({"steps": steps})


async def response(parts: Parts, request: web.Request) -> web.Response:
    """What a target answers right now, and whether it can be read."""
    if not parts.options.target_response:
        return failure(
            "unavailable", "responses of targets are not shown; start with --web.enable-target-response to allow it"
        )
    parameters = await Parameters.of(request)
    pool, url = _config(parts, parameters).job_name, parameters.text("scrapeUrl")
    found = [one for one in parts.scrape.scraped() if (one["pool"], one["url"]) == (pool, url)]
    if parameters.text("labels"):
        labels = _labels(parameters)
        found = [one for one in found if one["labels"] == labels]
    if not found:
        raise ApiError("not_found", f'scrape pool "{pool}" has no such target; take scrapeUrl and labels of /targets')
    limit = parameters.count("limit") or RESPONSE_BYTES
    if limit > RESPONSE_BYTES_MAX:
        raise bad_parameter("limit", f"at most {RESPONSE_BYTES_MAX} bytes are shown")
    try:
        seen = await parts.scrape.look(pool, url, found[0]["labels"], limit=limit)
    except (ConnectionError, KeyError) as e:
        # The target's failure is the answer; a target that was taken away meanwhile is as if it failed.
        return success({"scrapePool": pool, "scrapeUrl": url, "error": str(e)})
    body: bytes = seen["body"]
    return success(
        {
            "scrapePool": pool,
            "scrapeUrl": url,
            "status": seen["status"],
            "httpVersion": seen["version"],
            "contentType": seen["content_type"],
            "contentEncoding": seen["encoding"],
            "wireBytes": seen["wire_bytes"],
            "bodyBytes": len(body),
            "truncated": seen["truncated"],
            "body": body.decode(errors="replace"),
            **_readable(seen),
        }
    )


def _readable(seen: Mapping[str, Any]) -> dict[str, Any]:
    """How many samples it holds, or why it cannot be read; nothing of a part of a body."""
    if seen["truncated"] or seen["status"] != 200:
        return {}
    try:
        return {"samples": len(read_exposition(seen["body"], seen["content_type"]))}
    except ValueError as e:
        return {"error": str(e)}
