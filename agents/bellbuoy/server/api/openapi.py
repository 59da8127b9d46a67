"""`openapi.yaml`: the API described in OpenAPI 3.1, made of the routes themselves.

A path's summary is its handler's docstring; its parameters stand here. So a path that is added is described, and its
parameters are held to the documentation by a test.
"""

import asyncio
import functools
from collections.abc import Iterable
from typing import Any, TypeAlias

import yaml
from aiohttp import web

import bellbuoy

Route: TypeAlias = tuple[str, tuple[str, ...], Any]
"""A path below the prefix, its methods, its handler."""

_TIME = "seconds since 1970, or RFC 3339"
PARAMETERS: dict[str, str] = {
    "query": "a PromQL expression",
    "time": _TIME,
    "start": _TIME,
    "end": _TIME,
    "step": "seconds, or a duration such as 1m",
    "timeout": "a duration; at most the server's own",
    "limit": "the most entries; more are cut off, with a warning",
    "lookback_delta": "how old a sample may be and still count",
    "stats": "any text: timings and samples; all: the samples of each step as well",
    "explain": "1: the plan, with time and series of each node",
    "match[]": "series selectors, of which any must match",
    "extra_filters[]": "series selectors, all of which every series must match",
    "state": "active, dropped or any",
    "scrapePool": "the name of a scrape pool",
    "match_target": "a selector of targets",
    "metric": "the name of a metric",
    "labels": "labels as JSON",
    "scrapeUrl": "a target's URL",
    "limit_per_metric": "the most entries for a metric",
    "type": "alert or record",
    "rule_name[]": "names of rules",
    "rule_group[]": "names of groups",
    "file[]": "rule files",
    "exclude_alerts": "true: rules without their alerts",
    "group_limit": "the most groups in an answer",
    "group_next_token": "where the answer before this one ended",
    "metric_name_pattern": "a regular expression that the whole name matches",
    "skip_head": "accepted, and changes nothing",
    "search[]": "what was typed; any must match",
    "fuzz_threshold": "0 to 100: the least score",
    "fuzz_alg": "subsequence or jarowinkler",
    "case_sensitive": "true or false",
    "include_score": "true: each result with its score",
    "include_metadata": "true: type, help and unit",
    "sort_by": "alpha or score",
    "sort_dir": "asc or dsc",
    "batch_size": "results in a line of the answer",
    "label": "the name of a label",
    "rule": "a rule as in a rule file, YAML or JSON",
    "expr": "the rule's expression, where there is no rule",
    "alert": "the rule's name",
    "record": "the recording rule's name",
    "for": "how long it must hold before it fires",
    "keep_firing_for": "how long it goes on firing",
    "interval": "the time from one evaluation to the next; 1m unless told",
    "query_offset": "how far behind rules look",
    "order": "cpu, time, samples or count",
}
_QUERY = ("timeout", "limit", "lookback_delta", "stats", "explain", "extra_filters[]")
_SERIES = ("match[]", "start", "end", "limit", "extra_filters[]")
_SEARCH = (
    "match[]", "search[]", "fuzz_threshold", "fuzz_alg", "case_sensitive", "include_score", "sort_by", "sort_dir",
    "start", "end", "limit", "batch_size", "extra_filters[]",
)  # fmt: skip
OF_PATH: dict[str, tuple[str, ...]] = {
    "/query": ("query", "time", *_QUERY),
    "/query_range": ("query", "start", "end", "step", *_QUERY),
    "/query_exemplars": ("query", "start", "end", "extra_filters[]"),
    "/format_query": ("query",),
    "/parse_query": ("query",),
    "/series": _SERIES,
    "/labels": _SERIES,
    "/label/{name}/values": _SERIES,
    "/targets": ("state", "scrapePool"),
    "/targets/metadata": ("match_target", "metric", "limit"),
    "/targets/relabel_steps": ("scrapePool", "labels"),
    "/targets/response": ("scrapePool", "scrapeUrl", "labels", "limit"),
    "/scrape_pools/config": ("scrapePool",),
    "/metadata": ("metric", "limit", "limit_per_metric"),
    "/rules": (
        "type", "rule_name[]", "rule_group[]", "file[]", "match[]", "exclude_alerts", "group_limit", "group_next_token",
    ),
    "/status/tsdb": ("limit", "extra_filters[]"),
    "/status/self_metrics": ("metric_name_pattern",),
    "/search/metric_names": (*_SEARCH, "include_metadata"),
    "/search/label_names": _SEARCH,
    "/search/label_values": ("label", *_SEARCH),
    "/read": ("extra_filters[]",),
    "/admin/tsdb/delete_series": ("match[]", "start", "end", "extra_filters[]"),
    "/admin/tsdb/snapshot": ("skip_head",),
    "/bellbuoy/backtest": (
        "rule", "expr", "alert", "record", "for", "keep_firing_for", "start", "end", "interval", "query_offset",
        "limit", "timeout", "extra_filters[]",
    ),
    "/bellbuoy/nodes": ("extra_filters[]",),
    "/bellbuoy/queries": ("order", "limit"),
}  # fmt: skip
REQUIRED = frozenset({"query", "step", "label", "scrapePool"})
_ANSWER = {"description": "the envelope: status, data, warnings, infos", "content": {"application/json": {}}}
_ERROR = {"description": "status, errorType, error", "content": {"application/json": {}}}


def _parameter(name: str, path: str) -> dict[str, Any]:
    many = name.endswith("[]")
    schema: dict[str, Any] = {"type": "array", "items": {"type": "string"}} if many else {"type": "string"}
    required = name in REQUIRED or (path == "/query_range" and name in ("start", "end"))
    if name == "scrapePool" and path == "/targets":
        required = False
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": PARAMETERS[name],
        "schema": schema,
    }


def describe(routes: Iterable[Route], *, prefix: str) -> dict[str, Any]:
    """The description of these routes, which are below the prefix."""
    paths: dict[str, Any] = {}
    for path, methods, handler in routes:
        parameters = [_parameter(name, path) for name in OF_PATH.get(path, ())]
        if "{name}" in path:
            parameters.insert(0, {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}})
        summary = (handler.__doc__ or "").strip().splitlines()
        operation = {
            "summary": summary[0] if summary else path,
            "parameters": parameters,
            "responses": {"200": _ANSWER, "default": _ERROR},
        }
        name = path.strip("/").replace("/", "-").replace("{", "").replace("}", "").replace("_", "-")
        paths[prefix + path] = {
            method.lower(): {"operationId": f"{method.lower()}-{name}", **operation} for method in methods
        }
    info = {"title": "Bellbuoy's HTTP API", "version": bellbuoy.__version__, "license": {"name": "Apache-2.0"}}
    return {"openapi": "3.1.0", "info": info, "paths": paths}


class _Plain(yaml.SafeDumper):
    """Without references: the same answer stands at each path."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


@functools.lru_cache(maxsize=1)
def _text(routes: tuple[Route, ...], prefix: str) -> bytes:
    """The YAML, which takes half a second to write and does not change."""
    return yaml.dump(describe(routes, prefix=prefix), Dumper=_Plain, sort_keys=False, allow_unicode=True).encode()


async def answer(routes: tuple[Route, ...], *, prefix: str) -> web.Response:
    """The YAML of these routes."""
    body = await asyncio.to_thread(_text, routes, prefix)
    return web.Response(body=body, headers={"Content-Type": "application/yaml; charset=utf-8"})
