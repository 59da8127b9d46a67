"""The CRDs against models, documentation and a real API server: a wrong value is told its field and its cure."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic import BaseModel

from bellbuoy.resources import PLURALS, SPECS
from deploy.local.shell import LocalClusterError

if TYPE_CHECKING:
    from tests.conftest import Kubernetes, Namespace

ROOT = Path(__file__).resolve().parents[2]
CRDS = {kind: ROOT / "crds" / f"{plural}.yaml" for kind, plural in PLURALS.items()}
# What the API server and kubectl take; the limit of the annotation that `kubectl apply` writes is five times that.
SIZE_LIMIT = 50_000


def schema(kind: str) -> dict[str, Any]:
    crd = yaml.safe_load(CRDS[kind].read_text())
    found: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return found


def field_names(node: dict[str, Any], at: str = "") -> Iterator[str]:
    for name, below in node.get("properties", {}).items():
        yield f"{at}{name}"
        yield from field_names(below, f"{at}{name}.")
        yield from field_names(below.get("items", {}), f"{at}{name}[].")


def model_fields(model: type[BaseModel], at: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        alias = field.alias or name
        yield f"{at}{alias}"
        for inner, many in _models_in(field.annotation):
            yield from model_fields(inner, f"{at}{alias}{'[]' if many else ''}.")


def _models_in(annotation: Any, many: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, many
    for inner in getattr(annotation, "__args__", ()):
        yield from _models_in(inner, many or getattr(annotation, "__origin__", None) is list)


@pytest.mark.parametrize("kind", SPECS)
def test_a_crd_is_small(kind: str) -> None:
    assert CRDS[kind].stat().st_size < SIZE_LIMIT


@pytest.mark.parametrize("kind", SPECS)
def test_models_and_crds_have_the_same_fields(kind: str) -> None:
    assert sorted(model_fields(SPECS[kind])) == sorted(field_names(schema(kind)["spec"]))


@pytest.mark.parametrize("kind", SPECS)
def test_models_and_crds_have_the_same_defaults(kind: str) -> None:
    def check(model: type[BaseModel], node: dict[str, Any], at: str) -> None:
        for name, field in model.model_fields.items():
            place, default = node["properties"][field.alias or name], field.get_default(call_default_factory=True)
            for inner, many in _models_in(field.annotation):
                check(inner, place["items"] if many else place, f"{at}.{name}")
            if not isinstance(default, BaseModel) and place.get("default", None) not in (None, {}):
                written = (
                    [one.model_dump(exclude_none=True) if isinstance(one, BaseModel) else one for one in default]
                    if isinstance(default, list)
                    else default
                )
                assert written == place["default"], f"{at}.{name}"

    check(SPECS[kind], schema(kind)["spec"], kind)


@pytest.mark.parametrize("kind", SPECS)
def test_everything_is_bounded_and_described(kind: str) -> None:
    def check(node: dict[str, Any], at: str) -> None:
        if "additionalProperties" in node:
            assert "maxProperties" in node, at
            check({**node["additionalProperties"], "description": "-"}, f"{at}.*")
        if node.get("type") == "array":
            assert "maxItems" in node, at
            check({**node["items"], "description": "-"}, f"{at}[]")
        if node.get("type") == "string":
            assert "maxLength" in node, at
        assert node.get("description"), f"{at} has no description"
        for name, below in node.get("properties", {}).items():
            check(below, f"{at}.{name}")

    for part in ("spec", "status"):
        check(schema(kind)[part], f"{kind}.{part}")


@pytest.mark.parametrize("kind", SPECS)
def test_every_field_is_in_the_documentation(kind: str) -> None:
    text = (ROOT / "docs" / "resources.md").read_text()
    section = text.split(f"\n## {kind}\n", 1)[1].split("\n## ", 1)[0]
    for part in ("spec", "status"):
        missing = [name for name in field_names(schema(kind)[part], f"{part}.") if f"`{name}`" not in section]
        assert missing == [], f"docs/resources.md lacks fields of {kind}"


@pytest.fixture(scope="module")
def with_crds(control_plane: "Kubernetes") -> "Kubernetes":
    control_plane.kubectl("apply", "--server-side", "--kustomize", str(ROOT / "crds"))
    names = [f"crd/{plural}.bellbuoy.io" for plural in PLURALS.values()]
    control_plane.kubectl("wait", "--for=condition=Established", *names)
    return control_plane


GOOD: dict[str, dict[str, Any]] = {
    "ScrapeTarget": {"pods": {"selector": {"matchLabels": {"app": "web"}}}},
    "AlertRule": {"expr": "up == 0"},
    "RecordingRule": {"record": "a:b:c", "expr": "up"},
    "MonitoringStack": {"archive": {"s3": {"bucket": "a.b-c", "prefix": "a/b.c_d", "endpoint": "http://minio:9000"}}},
    "AlertReceiver": {"slack": {"webhook": {"name": "slack", "key": "url"}}},
}
PODS = GOOD["ScrapeTarget"]
SLACK = GOOD["AlertReceiver"]
HASHMOD = {"action": "hashmod", "targetLabel": "a"}


def manifest(kind: str, spec: dict[str, Any], name: str = "it") -> dict[str, Any]:
    return {
        "apiVersion": "bellbuoy.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": copy.deepcopy(spec),
    }


@pytest.mark.control_plane
@pytest.mark.parametrize("kind", SPECS)
def test_a_good_resource_is_taken_and_printed(with_crds: "Kubernetes", namespace: "Namespace", kind: str) -> None:
    namespace.kubectl("apply", "--filename=-", stdin=yaml.safe_dump(manifest(kind, GOOD[kind])))
    printed = namespace.kubectl("get", PLURALS[kind]).splitlines()[0].split()
    assert printed[0] == "NAME"
    assert printed[-1] == "AGE"
    short = dict(zip(SPECS, ("st", "ar", "rr", "arec", "ms"), strict=True))
    assert "it" in namespace.kubectl("get", short[kind])


WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("ScrapeTarget", {}, "spec", "exactly one of pods and static"),
    ("ScrapeTarget", {**PODS, "static": {"addresses": ["a:1"]}}, "spec", "exactly one of pods and static: remove one"),
    (
        "ScrapeTarget",
        {"static": {"addresses": ["http://a/"]}},
        "spec.static.addresses[0]",
        "write such as db.example.org",
    ),
    ("ScrapeTarget", {**PODS, "interval": "15"}, "spec.interval", "interval is no duration: write numbers with units"),
    ("ScrapeTarget", {**PODS, "interval": "1s500"}, "spec.interval", "interval is no duration"),
    ("ScrapeTarget", {**PODS, "interval": "5s", "timeout": "10s"}, "spec", "timeout is longer than interval: shorten"),
    ("ScrapeTarget", {**PODS, "port": 0}, "spec.port", "port is neither a number from 1 to 65535"),
    ("ScrapeTarget", {**PODS, "port": "a b"}, "spec.port", "nor the name of a container's port"),
    ("ScrapeTarget", {**PODS, "path": "metrics"}, "spec.path", "path does not start with /: write such as /metrics"),
    ("ScrapeTarget", {**PODS, "scheme": "ftp"}, "spec.scheme", 'supported values: "http", "https"'),
    ("ScrapeTarget", {**PODS, "fallbackProtocol": "text"}, "spec.fallbackProtocol", '"PrometheusText0.0.4"'),
    ("ScrapeTarget", {**PODS, "seriesBudget": -1}, "spec.seriesBudget", "greater than or equal to 0"),
    (
        "ScrapeTarget",
        {**PODS, "seriesBudget": 2, "limits": {"samples": 1}},
        "spec",
        "seriesBudget is more than limits.samples, so scrapes fail before the budget is spent: lower it",
    ),
    ("ScrapeTarget", {**PODS, "labels": {"a-b": "c"}}, "spec.labels", "no label name: use letters, digits and _"),
    ("ScrapeTarget", {**PODS, "labels": {"__a": "c"}}, "spec.labels", "labels has a key that is no label name"),
    ("ScrapeTarget", {**PODS, "tls": {}}, "spec", "tls is given but scheme is http: set scheme to https or remove tls"),
    ("ScrapeTarget", {**PODS, "relabelings": [{"action": "replace"}]}, "spec.relabelings[0]", "targetLabel is missing"),
    (
        "ScrapeTarget",
        {**PODS, "relabelings": [HASHMOD]},
        "spec.relabelings[0]",
        "modulus is missing: the action hashmod",
    ),
    ("AlertRule", {}, "spec.expr", "Required value"),
    ("AlertRule", {"expr": ""}, "spec.expr", "Invalid value"),
    ("AlertRule", {"expr": "up", "for": "soon"}, "spec.for", "for is no duration"),
    (
        "AlertRule",
        {"expr": "up", "severity": "Very Bad"},
        "spec.severity",
        "severity is no word: use lower-case letters",
    ),
    ("AlertRule", {"expr": "up", "annotations": {"a b": "c"}}, "spec.annotations", "a key that is no annotation name"),
    ("RecordingRule", {"record": "a-b", "expr": "up"}, "spec.record", "record is no metric name: use letters, digits"),
    ("AlertReceiver", {}, "spec", "exactly one of slack and webhook"),
    ("AlertReceiver", {"webhook": {}}, "spec.webhook", "webhook needs exactly one of url and urlFrom"),
    ("AlertReceiver", {"webhook": {"url": "hooks"}}, "spec.webhook.url", "url is no http or https URL: write such as"),
    (
        "AlertReceiver",
        {**SLACK, "matchers": ["critical"]},
        "spec.matchers[0]",
        "write name, one of = != =~ !~, and a value",
    ),
    ("AlertReceiver", {**SLACK, "repeatInterval": "often"}, "spec.repeatInterval", "repeatInterval is no duration"),
    ("MonitoringStack", {"server": {"storage": {"size": "big"}}}, "spec.server.storage.size", "size is no quantity"),
    (
        "MonitoringStack",
        {"server": {"externalUrl": "x"}},
        "spec.server.externalUrl",
        "externalUrl is no http or https URL",
    ),
    *(
        ("MonitoringStack", {"alertmanager": {"externalUrl": url}}, "spec.alertmanager.externalUrl", "or has a query")
        for url in ("https://", "ftp://a/", "https://a/?b", "https://a/#b", "https://a b/", "/alerts")
    ),
    *(
        (
            "MonitoringStack",
            {"archive": archive},
            "spec.archive",
            "exactly one of folder and s3: remove one, or add one",
        )
        for archive in ({}, {"folder": "a", "s3": {"bucket": "abc"}})
    ),
    ("MonitoringStack", {"archive": {"folder": "../x"}}, "spec.archive.folder", "folder is no plain name"),
    *(
        ("MonitoringStack", {"archive": {"s3": {"bucket": "abc", field: value}}}, f"spec.archive.s3.{field}", cure)
        for field, value, cure in (
            ("bucket", "a_b", "bucket is no bucket's name"),
            ("prefix", "a/../b", "prefix is no path"),
            ("endpoint", "https://key@minio", "endpoint is no http or https URL of a host"),
            ("endpoint", "minio:9000", "endpoint is no http or https URL of a host"),
            ("region", "Frankfurt am Main", "region is no region"),
        )
    ),
    ("MonitoringStack", {"selects": {"namespaces": {"from": "Selector"}}}, "spec.selects.namespaces", "do not fit"),
    ("MonitoringStack", {"selects": {"namespaces": {"from": "x"}}}, "spec.selects.namespaces.from", '"Own", "All"'),
    ("MonitoringStack", {"serverr": {}}, ".spec.serverr", "field not declared in schema"),
]


@pytest.mark.control_plane
@pytest.mark.parametrize(("kind", "spec", "field", "cure"), WRONG)
def test_a_wrong_value_is_told_its_field_and_its_cure(
    with_crds: "Kubernetes", kind: str, spec: dict[str, Any], field: str, cure: str
) -> None:
    text = yaml.safe_dump(manifest(kind, spec))
    with pytest.raises(LocalClusterError) as caught:
        with_crds.kubectl("apply", "--server-side", "--dry-run=server", "--filename=-", stdin=text)
    assert f"{field}: " in str(caught.value)
    assert cure in str(caught.value)


@pytest.mark.control_plane
def test_a_stacks_name_leaves_room_for_its_objects_names(with_crds: "Kubernetes", namespace: "Namespace") -> None:
    long = manifest("MonitoringStack", {}, name="x" * 41)
    with pytest.raises(LocalClusterError, match="longer than 40 characters: shorten it"):
        namespace.kubectl("apply", "--filename=-", stdin=yaml.safe_dump(long))


@pytest.mark.control_plane
def test_kubectl_explains_every_kind(with_crds: "Kubernetes") -> None:
    assert "Exactly one of pods and static" in with_crds.kubectl("explain", "scrapetarget.spec").replace("\n", " ")
    for kind, plural in PLURALS.items():
        for field in schema(kind)["spec"]["properties"]:
            assert "DESCRIPTION" in with_crds.kubectl("explain", f"{plural}.spec.{field}")


@pytest.mark.control_plane
@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_are_taken(with_crds: "Kubernetes", namespace: "Namespace", example: Path) -> None:
    documents = [one for one in yaml.safe_load_all(example.read_text()) if one["kind"] != "Namespace"]
    for one in documents:
        one["metadata"].pop("namespace", None)
    text = yaml.safe_dump_all(documents)
    namespace.kubectl("apply", "--server-side", "--dry-run=server", "--filename=-", stdin=text)
