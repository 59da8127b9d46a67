"""`bellbuoy up`: all agents in one process on one machine, from the same manifests that `kubectl apply` takes.

    manifests ─▶ checked one by one ─▶ prometheus.yml, rules.yml, alertmanager.yml, secrets ─▶ the parts, as when alone

This machine is the node. Pods are not discovered, as there are none: a ScrapeTarget with `static` addresses is scraped.
A Slack webhook in the environment gets what the manifests' Slack receivers would; without one, the message is printed
as Slack would show it. A manifest that changes takes effect; one that is broken says so and costs itself only.
"""

from bellbuoy.up.options import Options, add_arguments, options
from bellbuoy.up.running import run

__all__ = ["Options", "add_arguments", "options", "run"]
