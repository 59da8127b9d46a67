"""`targets`, `metadata`, `targets/metadata` and `alertmanagers`: what is scraped, and how it goes."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from bellbuoy.durations import format_duration
from bellbuoy.labels import Matcher
from bellbuoy.scrape import ActiveTarget
from bellbuoy.server.api.answers import success
from bellbuoy.server.api.parameters import Parameters
from bellbuoy.server.api.times import rfc3339_ms
from bellbuoy.server.parts import Parts

Key = tuple[str, str, tuple[tuple[str, str], ...]]


def _key(pool: str, url: str, labels: Mapping[str, str]) -> Key:
    return pool, url, tuple(sorted(labels.items()))


def _active(parts: Parts, pool: str, target: ActiveTarget, state: Mapping[str, Any]) -> dict[str, Any]:
    """As Prometheus says it, and beyond that what the last scrape yielded, once there was one."""
    scraped = {name: state[name] for name in ("samples", "series") if state.get("last_scrape")}
    if state.get("series_dropped"):
        scraped["seriesDropped"] = state["series_dropped"]
    return {
        "discoveredLabels": dict(sorted(target.discovered.items())),
        "labels": dict(sorted(target.labels.items())),
        "scrapePool": pool,
        "scrapeUrl": target.url,
        "globalUrl": parts.global_url(target.url),
        "lastError": state.get("last_error") or "",
        "lastScrape": rfc3339_ms(state.get("last_scrape") or 0),
        "lastScrapeDuration": state.get("duration_seconds") or 0,
        "health": state.get("health") or "unknown",
        "scrapeInterval": format_duration(target.interval_seconds),
        "scrapeTimeout": format_duration(target.timeout_seconds),
        **scraped,
    }


async def targets(parts: Parts, request: web.Request) -> web.Response:
    """Targets that are scraped, and those that relabeling dropped, with the reason."""
    parameters = await Parameters.of(request)
    state, only = parameters.text("state").lower(), parameters.text("scrapePool")
    pools = {name: pool for name, pool in parts.scrape.pool_targets().items() if not only or name == only}
    active: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    if state != "dropped":
        states = {_key(one["pool"], one["url"], one["labels"]): one for one in parts.scrape.scraped()}
        for name, pool in pools.items():
            rows = [
                _active(parts, name, target, states.get(_key(name, target.url, target.labels), {}))
                for target in pool.active
            ]
            active += sorted(rows, key=lambda row: (row["scrapeUrl"], str(row["labels"])))
    counts = None
    if state in ("", "any", "dropped"):
        for name, pool in pools.items():
            dropped += [
                {"discoveredLabels": dict(sorted(one.discovered.items())), "scrapePool": name, "reason": one.reason}
                for one in pool.dropped
            ]
        counts = {name: pool.dropped_count for name, pool in pools.items()}
    return success({"activeTargets": active, "droppedTargets": dropped, "droppedTargetCounts": counts})


async def metadata(parts: Parts, request: web.Request) -> web.Response:
    """Types and help texts by metric, each once."""
    parameters = await Parameters.of(request)
    limit, per_metric = parameters.count("limit"), parameters.count("limit_per_metric")
    metric = parameters.text("metric")
    out: dict[str, list[dict[str, str]]] = {}
    for _, _, name, kind, text, unit in parts.scrape.metadata():
        if metric and name != metric:
            continue
        if name not in out and limit and len(out) >= limit:
            continue
        known = out.setdefault(name, [])
        one = {"type": kind, "help": text, "unit": unit}
        if one not in known and (not per_metric or len(known) < per_metric):
            known.append(one)
    return success(out)


async def targets_metadata(parts: Parts, request: web.Request) -> web.Response:
    """Types and help texts by target."""
    parameters = await Parameters.of(request)
    limit, metric = parameters.count("limit"), parameters.text("metric")
    matchers: list[Matcher] = []
    if parameters.text("match_target"):
        matchers = [Matcher(*one) for selector in parameters.selectors("match_target")[:1] for one in selector]
    by_target: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for name, pool in parts.scrape.pool_targets().items():
        for target in pool.active:
            if all(matcher.matches(target.labels) for matcher in matchers):
                by_target.setdefault((name, target.url), []).append(target.labels)
    out: list[dict[str, Any]] = []
    for pool_name, url, name, kind, text, unit in parts.scrape.metadata():
        if metric and name != metric:
            continue
        for labels in by_target.get((pool_name, url), []):
            row: dict[str, Any] = {"target": dict(sorted(labels.items()))}
            if not metric:
                row["metric"] = name
            out.append({**row, "type": kind, "help": text, "unit": unit})
            if limit and len(out) >= limit:
                return success(out)
    return success(out)


async def alertmanagers(parts: Parts, _: web.Request) -> web.Response:
    """Where alerts are sent."""
    active, dropped = parts.notifier.urls(), parts.notifier.dropped_urls()
    return success(
        {
            "activeAlertmanagers": [{"url": url} for url in active],
            "droppedAlertmanagers": [{"url": url} for url in dropped],
        }
    )
