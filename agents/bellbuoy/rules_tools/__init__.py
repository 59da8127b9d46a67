"""`bellbuoy rules`: rule files checked, tested and tried on stored history before a server has them.

`checking` says what a server would refuse, `unit_tests` runs promtool's test files (`unit_test_file` reads them,
`series_text` their series), `report` shows what `bellbuoy.rules.backtest` found. All three run what the server runs.
"""

from bellbuoy.rules_tools.commands import run
from bellbuoy.rules_tools.options import Options, add_arguments, options

__all__ = ["Options", "add_arguments", "options", "run"]
