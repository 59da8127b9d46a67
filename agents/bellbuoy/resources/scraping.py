"""A stack's `prometheus.yml`: one scrape configuration for each pool, with where its targets are to be asked for.

A `Layout` says where things lie for whoever reads it: the operator's addresses and the mounted files in a cluster,
folders of `bellbuoy up` on one machine. What a ScrapeTarget of a foreign namespace scrapes keeps that namespace's
label, whatever its metric relabelings say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from bellbuoy.durations import parse_duration
from bellbuoy.resources.model import ScrapeTarget, SecretKey
from bellbuoy.resources.secrets import secret_use
from bellbuoy.resources.selection import Selection
from bellbuoy.resources.targets import CADVISOR_POOL, PART_POOLS, enabled, rule_of

# How often a real Prometheus asks; our server is told of changes by the long poll.
REFRESH_INTERVAL = "5s"
_DEFAULT_TIMEOUT = "10s"


@dataclass(frozen=True)
class Layout:
    """Where the reader of a configuration finds things.

    `sd_url` is the base of the operator's answers for this stack, `token_file` and `ca_file` what they ask for;
    without `sd_url`, targets come as `static_configs` from `targets`, by pool. `secrets_folder` holds the files of
    `SecretUse.file`; `kubelet_token_file` is what kubelets ask for.
    """

    secrets_folder: str
    alertmanagers: Sequence[str] = ()
    sd_url: str = ""
    token_file: str = ""
    ca_file: str = ""
    targets: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
    kubelet_token_file: str = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105
    kubelet_ca_file: str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
    rule_files: Sequence[str] = ("rules.yml",)


def prometheus_config(selection: Selection, layout: Layout) -> dict[str, Any]:
    """The configuration of the stack's server, as `prometheus.yml` holds it."""
    stack = selection.stack
    config: dict[str, Any] = {
        "global": {
            "scrape_interval": stack.spec.scrape_interval,
            "evaluation_interval": stack.spec.evaluation_interval,
        },
        "rule_files": list(layout.rule_files),
    }
    if stack.spec.external_labels:
        config["global"]["external_labels"] = dict(sorted(stack.spec.external_labels.items()))
    if layout.alertmanagers:
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": list(layout.alertmanagers)}]}]}
    jobs = [_own_job(pool, layout) for part, pool in PART_POOLS.items() if enabled(stack, part)]
    if stack.spec.kubelet.cadvisor and layout.sd_url:
        jobs.append(_cadvisor_job(selection, layout))
    jobs.extend(_scrape_target_job(selection, target, layout) for target in selection.scrape_targets)
    config["scrape_configs"] = jobs
    return config


def _discovery(pool: str, layout: Layout) -> dict[str, Any]:
    if not layout.sd_url:
        return {"static_configs": [dict(group) for group in (layout.targets or {}).get(pool, ())]}
    source: dict[str, Any] = {"url": f"{layout.sd_url}/targets/{pool}", "refresh_interval": REFRESH_INTERVAL}
    if layout.token_file:
        source["authorization"] = {"type": "Bearer", "credentials_file": layout.token_file}
    if layout.ca_file:
        source["tls_config"] = {"ca_file": layout.ca_file}
    return {"http_sd_configs": [source]}


def _own_job(pool: str, layout: Layout) -> dict[str, Any]:
    # A pushgateway speaks for the jobs that pushed: their labels stay.
    honor = {"honor_labels": True} if pool == "pushgateway" else {}
    return {"job_name": pool, **honor, **_discovery(pool, layout)}


def _cadvisor_job(selection: Selection, layout: Layout) -> dict[str, Any]:
    tls: dict[str, Any] = {"ca_file": layout.kubelet_ca_file}
    if selection.stack.spec.kubelet.insecure_skip_verify:
        tls["insecure_skip_verify"] = True
    return {
        "job_name": CADVISOR_POOL,
        "scheme": "https",
        "metrics_path": "/metrics/cadvisor",
        # A container's labels namespace, pod and container are the container's, not the kubelet's.
        "honor_labels": True,
        "authorization": {"type": "Bearer", "credentials_file": layout.kubelet_token_file},
        "tls_config": tls,
        **_discovery(CADVISOR_POOL, layout),
    }


def _scrape_target_job(selection: Selection, target: ScrapeTarget, layout: Layout) -> dict[str, Any]:
    spec, limits = target.spec, target.spec.limits
    job: dict[str, Any] = {"job_name": target.id, "metrics_path": spec.path, "scheme": spec.scheme}
    interval = spec.interval or selection.stack.spec.scrape_interval
    if spec.interval:
        job["scrape_interval"] = spec.interval
    if spec.timeout or parse_duration(interval) < parse_duration(_DEFAULT_TIMEOUT):
        job["scrape_timeout"] = spec.timeout or interval
    if spec.params:
        job["params"] = {key: list(values) for key, values in sorted(spec.params.items())}
    if spec.honor_labels:
        job["honor_labels"] = True
    if not spec.honor_timestamps:
        job["honor_timestamps"] = False
    if not spec.follow_redirects:
        job["follow_redirects"] = False
    if spec.fallback_protocol is not None:
        job["fallback_scrape_protocol"] = spec.fallback_protocol
    if spec.series_budget:
        job["series_budget"] = spec.series_budget

    def file(key: SecretKey) -> str:
        return f"{layout.secrets_folder}/{secret_use(target, key).file}"

    if spec.basic_auth is not None:
        job["basic_auth"] = {
            "username": spec.basic_auth.username,
            "password_file": file(spec.basic_auth.password),
        }
    if spec.authorization is not None:
        job["authorization"] = {
            "type": spec.authorization.type,
            "credentials_file": file(spec.authorization.credentials),
        }
    if spec.tls is not None:
        tls: dict[str, Any] = {
            f"{name}_file": file(key) for name in ("ca", "cert", "key") if (key := getattr(spec.tls, name))
        }
        if spec.tls.server_name:
            tls["server_name"] = spec.tls.server_name
        if spec.tls.insecure_skip_verify:
            tls["insecure_skip_verify"] = True
        job["tls_config"] = tls
    for name, limit in (
        ("target_limit", limits.targets),
        ("sample_limit", limits.samples),
        ("label_limit", limits.labels),
        ("label_name_length_limit", limits.label_name_length),
        ("label_value_length_limit", limits.label_value_length),
    ):
        if limit:
            job[name] = limit
    if limits.body_bytes:
        job["body_size_limit"] = f"{limits.body_bytes}B"
    rules = [rule_of(one) for one in spec.metric_relabelings]
    if not selection.is_own(target) and (rules or spec.honor_labels):
        rules.append({"target_label": "namespace", "replacement": target.namespace, "action": "replace"})
    if rules:
        job["metric_relabel_configs"] = rules
    return {**job, **_discovery(target.id, layout)}


def to_yaml(config: Mapping[str, Any]) -> str:
    """The configuration as text, equal for equal configurations."""
    text: str = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=120)
    return text
