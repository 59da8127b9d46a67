"""The operator: watches resources and pods, keeps a stack's objects as its spec says, tells servers what to scrape.

`run` is the whole of it. Inside, `world` knows the cluster, `configuring` makes configuration of it, `service` serves
that over TLS, `stack_task` reconciles each stack with the objects of `builders`, `statuses` writes what became of
each resource. docs/operator.md tells how they fit.
"""

from bellbuoy_operator.options import Options, add_arguments, options
from bellbuoy_operator.running import run

__all__ = ["Options", "add_arguments", "options", "run"]
