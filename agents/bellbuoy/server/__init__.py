"""The server: pulls metrics, stores them, answers PromQL, evaluates rules and hands alerts to alertmanagers.

It runs by itself from a `prometheus.yml`, or follows the operator. Below it lie `scrape`, `rules`, `promql` and
`tsdb`; here is what joins them: configuration, the HTTP API, the UI's files, and the order in which all starts and
ends.
"""

from bellbuoy.server.config import read_config, rule_groups
from bellbuoy.server.options import Options, add_arguments, options
from bellbuoy.server.run import run

__all__ = ["Options", "add_arguments", "options", "read_config", "rule_groups", "run"]
