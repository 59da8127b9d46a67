"""`bellbuoy/backtest`: a rule tried on the stored history, before it rings."""

from functools import partial

from aiohttp import web

from bellbuoy.configuration import ConfigError, load_yaml, validate
from bellbuoy.rules import BacktestError, RuleConfig, Window, as_json
from bellbuoy.rules import backtest as try_rule
from bellbuoy.server.api.answers import ApiError, bad_parameter, success
from bellbuoy.server.api.parameters import Parameters
from bellbuoy.server.parts import Parts
from bellbuoy.server.query_cost import Cost, Source

# A rule is a few lines; one of this size is none.
RULE_CHARACTERS_LIMIT = 64 << 10


async def backtest(parts: Parts, request: web.Request) -> web.Response:
    """When the rule would have fired from `start` to `end`, evaluated each `interval`."""
    parameters = await Parameters.of(request)
    rule = _rule(parameters)
    interval = parameters.seconds("interval")
    try:
        window = Window(
            parameters.time_ms("start"),
            parameters.time_ms("end"),
            60_000 if interval is None else round(interval * 1000),
        )
    except BacktestError as e:
        raise ApiError("bad_data", str(e)) from e
    source = Source(parts.storage, filters=parameters.filters(), cost=Cost())
    work = partial(
        try_rule,
        parts.engine.asking(source),
        rule,
        window,
        external_labels=parts.external_labels,
        external_url=parts.options.external_url,
        limit=parameters.count("limit"),
        query_offset_ms=round((parameters.seconds("query_offset") or 0.0) * 1000),
    )
    found = await parts.queries.run(
        request, lambda cancelled: work(cancelled=cancelled), timeout_seconds=parameters.seconds("timeout")
    )
    return success(as_json(found, rule))


def _rule(parameters: Parameters) -> RuleConfig:
    """The rule as it would stand in a file, or its fields one by one."""
    text = parameters.text("rule")
    if len(text) > RULE_CHARACTERS_LIMIT:
        raise bad_parameter("rule", f"it has more than {RULE_CHARACTERS_LIMIT} characters; send one rule")
    try:
        if text:
            data = load_yaml(text, name="rule")
        else:
            names = ("alert", "record", "expr", "for", "keep_firing_for")
            data = {name: value for name in names if (value := parameters.text(name))}
            if "alert" not in data and "record" not in data:
                data["alert"] = "Backtest"
        return validate(RuleConfig, data, name="rule")
    except ConfigError as e:
        raise ApiError("bad_data", str(e)) from e
