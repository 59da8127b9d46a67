"""`features`: what this server can, by the names that Prometheus gives it; clients choose by it what they offer.

What Prometheus has behind a flag and we have always is said to be on; what we do not have is off.
"""

from aiohttp import web

from bellbuoy.promql import FUNCTIONS
from bellbuoy.promql.functions import AGGREGATIONS
from bellbuoy.rules.template_functions import KNOWN
from bellbuoy.server.api.answers import success
from bellbuoy.server.parts import Parts

_OPERATORS = (
    "!=", "!~", "%", "*", "+", "-", "/", "<", "<=", "==", "=~", ">", ">=", "@", "^", "</", ">/", "and", "atan2", "or",
    "unless", *sorted(AGGREGATIONS),
)  # fmt: skip
_ON = {
    "promql": (
        "anchored", "at_modifier", "bool", "by", "delayed_name_removal", "duration_expr", "fill", "fill_left",
        "fill_right", "group_left", "group_right", "ignoring", "negative_offset", "offset", "on",
        "per_query_lookback_delta", "per_step_stats", "smoothed", "subqueries", "without",
    ),
    "promql_functions": tuple(sorted(FUNCTIONS)),
    "promql_operators": _OPERATORS,
    "rules": ("concurrent_rule_eval", "keep_firing_for", "query_offset"),
    "scrape": ("extra_scrape_metrics",),
    "service_discovery_providers": ("dns", "file", "http", "static"),
    "templating_functions": tuple(sorted(KNOWN)),
    "tsdb": ("exemplar_storage", "isolation", "native_histograms"),
    "prometheus": ("server_mode",),
    "ui": (),
}  # fmt: skip
_OFF = {
    "promql": ("type_and_unit_labels", "unquoted_utf8_names"),
    "otlp_receiver": ("delta_conversion", "native_delta_ingestion"),
    "prometheus": ("agent_mode", "auto_reload_config"),
    "tsdb": ("delayed_compaction", "st_storage", "use_uncached_io", "xor2_encoding"),
}
_API_ON = (
    "exclude_alerts", "label_values_match", "query_stats", "query_warnings", "time_range_labels", "time_range_series",
    "search", "search_fuzz_alg_subsequence", "search_fuzz_alg_jarowinkler", "openapi_3.1",
)  # fmt: skip
_API_OFF = ("openapi_3.2", "otlp_write_receiver", "query_cost", "remote_write_receiver")
# Ours.
_BEYOND = ("arrow", "explain", "extra_filters", "query_log", "top_queries")


async def features(parts: Parts, _: web.Request) -> web.Response:
    """What is on and what is off."""
    out: dict[str, dict[str, bool]] = {group: {} for group in (*_ON, *_OFF)}
    for table, on in ((_ON, True), (_OFF, False)):
        for group, names in table.items():
            out[group] |= dict.fromkeys(names, on)
    out["api"] = {
        **dict.fromkeys(_API_ON, True),
        **dict.fromkeys(_API_OFF, False),
        "admin": parts.options.admin,
        "lifecycle": parts.options.lifecycle,
    }
    out["bellbuoy"] = dict.fromkeys(_BEYOND, True)
    return success({group: dict(sorted(out[group].items())) for group in sorted(out)})
