"""Rules: expressions that are evaluated at an interval, recorded as series or watched as alerts, and the alerts' way
out.

Configuration goes in by `load_groups()`; `RuleManager` evaluates; what fires goes through `Notifier` to alertmanagers.
"""

from bellbuoy.rules.alerting import FIRING, INACTIVE, PENDING, UNKNOWN, Alert, AlertingRule, format_alert_value
from bellbuoy.rules.backtest import Backtest, BacktestError, Firing, Window, as_json, backtest
from bellbuoy.rules.config import BrokenRule, LoadedGroup, RuleConfig, load_groups
from bellbuoy.rules.evaluation import RuleOptions, RuleState
from bellbuoy.rules.group import RuleGroup
from bellbuoy.rules.manager import RuleManager
from bellbuoy.rules.notifier import AlertingConfig, Notifier, NotifierOptions
from bellbuoy.rules.recording import RecordingRule

__all__ = [
    "FIRING",
    "INACTIVE",
    "PENDING",
    "UNKNOWN",
    "Alert",
    "AlertingConfig",
    "AlertingRule",
    "Backtest",
    "BacktestError",
    "BrokenRule",
    "Firing",
    "LoadedGroup",
    "Notifier",
    "NotifierOptions",
    "RecordingRule",
    "RuleConfig",
    "RuleGroup",
    "RuleManager",
    "RuleOptions",
    "RuleState",
    "Window",
    "as_json",
    "backtest",
    "format_alert_value",
    "load_groups",
]
