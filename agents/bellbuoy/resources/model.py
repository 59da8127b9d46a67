"""The five kinds of resources as Python sees them: what their `spec` may hold, with the defaults of the CRDs.

The CRDs in crds/ are what users meet; these models are what the API server's answer, or a manifest that never saw an
API server, becomes. Mistakes are a `ConfigError` that lists each with its place. A test keeps models and CRDs equal,
field by field.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from bellbuoy.configuration import Strict, validate
from bellbuoy.durations import parse_duration

GROUP = "bellbuoy.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
# Without it on a Secret, no resource may name that Secret.
ALLOW_LABEL = "bellbuoy.io/allow"

_QUANTITY_PARTS = re.compile(r"([0-9]+(?:\.[0-9]+)?)(?:([eE][0-9]+)|(m|k|Ki|Mi|Gi|Ti|Pi|Ei|M|G|T|P|E))?\Z")


def _check_duration(text: str) -> str:
    parse_duration(text)
    return text


def _check_quantity(value: str | int) -> str:
    quantity_bytes(value)
    return str(value)


_SUFFIXES = {"m": 0.001, "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
_SUFFIXES |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}


def quantity_bytes(value: str | int) -> int:
    """Bytes of a Kubernetes quantity such as `10Gi`, `500M` or `1e9`."""
    match = _QUANTITY_PARTS.match(str(value))
    if match is None:
        raise ValueError(f'"{value}" is no quantity; write such as 10Gi or 500M')
    number, exponent, suffix = match.groups(default="")
    return int(float(number + exponent) * _SUFFIXES[suffix])


Duration = Annotated[str, AfterValidator(_check_duration)]
Quantity = Annotated[str | int, AfterValidator(_check_quantity)]
FallbackProtocol = Literal["OpenMetricsText1.0.0", "OpenMetricsText0.0.1", "PrometheusText1.0.0", "PrometheusText0.0.4"]


class Part(Strict):
    """Any mapping within a spec."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, validate_by_alias=True)


class SecretKey(Part):
    """A key of a Secret in the resource's own namespace."""

    name: str
    key: str


class SelectorCondition(Part):
    """One condition on labels."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str] = Field(default_factory=list)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels satisfy it."""
        if self.operator in ("Exists", "DoesNotExist"):
            return (self.key in labels) == (self.operator == "Exists")
        return (labels.get(self.key) in self.values) == (self.operator == "In")


class Selector(Part):
    """A Kubernetes label selector; empty, it selects everything."""

    match_labels: dict[str, str] = Field(default_factory=dict)
    match_expressions: list[SelectorCondition] = Field(default_factory=list)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether it selects an object with these labels."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            one.matches(labels) for one in self.match_expressions
        )


class Tls(Part):
    """How to speak https."""

    ca: SecretKey | None = None
    cert: SecretKey | None = None
    key: SecretKey | None = None
    server_name: str = ""
    insecure_skip_verify: bool = False


class Relabeling(Part):
    """One rule, as in Prometheus's relabel_configs."""

    source_labels: list[str] = Field(default_factory=list)
    separator: str = ";"
    regex: str = "(.*)"
    modulus: int = 0
    target_label: str = ""
    replacement: str = "$1"
    action: str = "replace"


class PodNamespaces(Part):
    """Where pods are looked for besides the resource's own namespace."""

    any: bool = False
    names: list[str] = Field(default_factory=list)


class Pods(Part):
    """Pods as targets."""

    selector: Selector
    namespaces: PodNamespaces = PodNamespaces()


class Static(Part):
    """Fixed addresses as targets."""

    addresses: list[str] = Field(min_length=1)


class BasicAuth(Part):
    """User name and password."""

    username: str
    password: SecretKey


class Authorization(Part):
    """An Authorization header."""

    type: str = "Bearer"
    credentials: SecretKey


class Limits(Part):
    """Limits of one scrape and of a target list; 0 is none."""

    targets: int = 0
    samples: int = 0
    labels: int = 0
    label_name_length: int = 0
    label_value_length: int = 0
    body_bytes: int = 0


class ScrapeTargetSpec(Part):
    """What to scrape, and how."""

    pods: Pods | None = None
    static: Static | None = None
    port: int | str = "metrics"
    path: str = "/metrics"
    scheme: Literal["http", "https"] = "http"
    params: dict[str, list[str]] = Field(default_factory=dict)
    interval: Duration | None = None
    timeout: Duration | None = None
    job: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    pod_labels: list[str] = Field(default_factory=list)
    honor_labels: bool = False
    honor_timestamps: bool = True
    relabelings: list[Relabeling] = Field(default_factory=list)
    metric_relabelings: list[Relabeling] = Field(default_factory=list)
    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    tls: Tls | None = None
    follow_redirects: bool = True
    fallback_protocol: FallbackProtocol | None = None
    series_budget: int = 0
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.pods is None) == (self.static is None):
            raise ValueError("needs exactly one of pods and static: remove one, or add the one that is missing")
        if self.basic_auth is not None and self.authorization is not None:
            raise ValueError("basicAuth and authorization exclude each other: remove one")
        if 0 < self.limits.samples < self.series_budget:
            raise ValueError(
                "seriesBudget is more than limits.samples, so scrapes fail before the budget is spent: lower it, or "
                "raise or remove limits.samples"
            )
        return self


class AlertRuleSpec(Part):
    """When to ring."""

    expr: str
    for_: Duration | None = Field(default=None, alias="for")
    keep_firing_for: Duration | None = None
    interval: Duration | None = None
    alert: str | None = None
    severity: str = "warning"
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    receivers: list[str] = Field(default_factory=list)


class RecordingRuleSpec(Part):
    """What to compute and store."""

    record: str
    expr: str
    interval: Duration | None = None
    labels: dict[str, str] = Field(default_factory=dict)


class Slack(Part):
    """A Slack channel by incoming webhook."""

    webhook: SecretKey
    channel: str = ""


class Webhook(Part):
    """An endpoint that takes Alertmanager's JSON."""

    url: str | None = None
    url_from: SecretKey | None = None
    max_alerts: int = 0

    @model_validator(mode="after")
    def _one_url(self) -> Self:
        if (self.url is None) == (self.url_from is None):
            raise ValueError("needs exactly one of url and urlFrom: remove one, or add the one that is missing")
        return self


class AlertReceiverSpec(Part):
    """Where notifications go, and which alerts."""

    slack: Slack | None = None
    webhook: Webhook | None = None
    matchers: list[str] = Field(default_factory=list)
    group_by: list[str] = Field(default_factory=lambda: ["alertname", "namespace"])
    group_wait: Duration = "30s"
    group_interval: Duration = "5m"
    repeat_interval: Duration = "4h"
    send_resolved: bool = True

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.slack is None) == (self.webhook is None):
            raise ValueError("needs exactly one of slack and webhook: remove one, or add the one that is missing")
        return self


class SelectedNamespaces(Part):
    """From which namespaces a stack takes resources and pods."""

    from_: Literal["Own", "All", "Selector"] = Field(default="Own", alias="from")
    selector: Selector | None = None


class Selects(Part):
    """Which resources and pods a stack takes."""

    namespaces: SelectedNamespaces = SelectedNamespaces()
    static: Literal["Own", "All"] = "Own"


class Storage(Part):
    """A volume."""

    size: Quantity
    storage_class: str | None = None


class ServerStorage(Part):
    """The server's volume: it always has one."""

    size: Quantity = "20Gi"
    storage_class: str | None = None


class Resources(Part):
    """CPU and memory."""

    requests: dict[str, str | int] = Field(default_factory=dict)
    limits: dict[str, str | int] = Field(default_factory=dict)


class Toleration(Part):
    """One toleration of a taint."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: str | None = None
    effect: str | None = None
    toleration_seconds: int | None = None


class Placement(Part):
    """What every workload of a stack may say: resources, and where it may run."""

    resources: Resources = Resources()
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[Toleration] = Field(default_factory=list)


class Server(Placement):
    """The server."""

    retention: Duration = "15d"
    retention_size: Quantity | None = None
    external_url: str = ""
    storage: ServerStorage = ServerStorage()


class NodeExporter(Placement):
    """The node exporter."""

    enabled: bool = True
    tolerations: list[Toleration] = Field(default_factory=lambda: [Toleration(operator="Exists")])


class Deployable(Placement):
    """What alertmanager and pushgateway have in common."""

    enabled: bool = True
    storage: Storage | None = None


class Alertmanager(Deployable):
    """The alertmanager."""

    external_url: str = ""


class S3(Part):
    """A bucket of object storage."""

    bucket: str
    prefix: str | None = None
    endpoint: str | None = None
    region: str | None = None
    credentials: SecretKey | None = None


class Archive(Part):
    """Where finished blocks go as Parquet."""

    folder: str | None = None
    s3: S3 | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.folder is None) == (self.s3 is None):
            raise ValueError("exactly one of folder and s3 must be there: remove one, or add one")
        return self


class Kubelet(Part):
    """What the kubelets know of containers."""

    cadvisor: bool = True
    insecure_skip_verify: bool = True


class MonitoringStackSpec(Part):
    """One whole monitoring."""

    selects: Selects = Selects()
    scrape_interval: Duration = "15s"
    evaluation_interval: Duration = "15s"
    external_labels: dict[str, str] = Field(default_factory=dict)
    server: Server = Server()
    node_exporter: NodeExporter = NodeExporter()
    alertmanager: Alertmanager = Alertmanager()
    pushgateway: Deployable = Deployable()
    archive: Archive | None = None
    kubelet: Kubelet = Kubelet()


S = TypeVar("S", bound=Part, covariant=True)


@dataclass(frozen=True)
class Resource(Generic[S]):
    """One resource: who it is and what it says. `raw` is all of it, status too, as the API server gave it."""

    kind: str
    namespace: str
    name: str
    spec: S
    uid: str = ""
    generation: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def id(self) -> str:
        """`namespace.name`: a scrape pool's, a rule group's or a receiver's name, unique since a namespace has no
        dot.
        """
        return f"{self.namespace}.{self.name}"

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


SPECS: Mapping[str, type[Part]] = {
    "ScrapeTarget": ScrapeTargetSpec,
    "AlertRule": AlertRuleSpec,
    "RecordingRule": RecordingRuleSpec,
    "AlertReceiver": AlertReceiverSpec,
    "MonitoringStack": MonitoringStackSpec,
}
PLURALS: Mapping[str, str] = {kind: kind.lower() + "s" for kind in SPECS}

ScrapeTarget = Resource[ScrapeTargetSpec]
AlertRule = Resource[AlertRuleSpec]
RecordingRule = Resource[RecordingRuleSpec]
AlertReceiver = Resource[AlertReceiverSpec]
MonitoringStack = Resource[MonitoringStackSpec]


def read_resource(raw: Mapping[str, Any], *, default_namespace: str = "default") -> Resource[Any]:
    """The resource of an object of one of our kinds. Raises ConfigError with every mistake in its spec."""
    kind, metadata = raw["kind"], raw.get("metadata") or {}
    namespace, name = metadata.get("namespace") or default_namespace, metadata.get("name", "")
    spec = validate(SPECS[kind], raw.get("spec"), name=f"{kind} {namespace}/{name}, spec")
    return Resource(
        kind=kind,
        namespace=namespace,
        name=name,
        spec=spec,
        uid=metadata.get("uid", ""),
        generation=int(metadata.get("generation") or 0),
        labels=metadata.get("labels") or {},
        raw=raw,
    )
