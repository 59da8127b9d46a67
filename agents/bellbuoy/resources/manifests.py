"""Manifests from files: the same YAML that `kubectl apply` takes, for `bellbuoy up`, which has no API server.

Our five kinds and Secrets are read; other kinds (Deployments of the sample, say) are passed over. What an API server
would have refused is refused here: all mistakes of all files at once.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from bellbuoy.configuration import ConfigError
from bellbuoy.resources.model import API_VERSION, SPECS, MonitoringStack, MonitoringStackSpec, Resource, read_resource
from bellbuoy.resources.secrets import SecretUse
from bellbuoy.resources.selection import Selection, select


@dataclass(frozen=True)
class Manifests:
    """What a folder of manifests holds; `secrets` by namespace and name, `passed_over` the kinds that were not read."""

    resources: Sequence[Resource[Any]] = ()
    secrets: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict, repr=False)
    passed_over: Sequence[str] = ()

    def stack(self) -> MonitoringStack:
        """The one MonitoringStack of the folder; one with all defaults when there is none. Raises ConfigError for
        two.
        """
        stacks: list[MonitoringStack] = [one for one in self.resources if one.kind == "MonitoringStack"]
        if len(stacks) > 1:
            names = ", ".join(f"{one.namespace}/{one.name}" for one in stacks)
            raise ConfigError(f"cannot choose among the MonitoringStacks {names}: keep one in the folder")
        return stacks[0] if stacks else Resource("MonitoringStack", "default", "main", MonitoringStackSpec())

    def selection(self) -> Selection:
        """What that stack takes of the folder. All of it: on one machine a namespace is only a label."""
        stack = self.stack()
        wide = replace(stack, spec=_everything(stack.spec))
        return select(wide, self.resources, namespaces={one.namespace: {} for one in self.resources})

    def secret(self, use: SecretUse) -> str:
        """The value of a secret's key. Raises ConfigError when the folder does not hold it."""
        values = self.secrets.get((use.namespace, use.name))
        if values is None or use.key not in values:
            what = f"Secret {use.namespace}/{use.name}" + ("" if values is None else f', key "{use.key}"')
            raise ConfigError(f"cannot find {what}: add it to the folder of manifests")
        return values[use.key]


def _everything(spec: MonitoringStackSpec) -> MonitoringStackSpec:
    data = spec.model_dump(by_alias=True)
    data["selects"] = {"namespaces": {"from": "All"}, "static": "All"}
    return MonitoringStackSpec.model_validate(data)


def load_manifests(paths: Sequence[Path]) -> Manifests:
    """What the files, and all `*.yaml` and `*.yml` below the folders, hold. Raises ConfigError with all mistakes."""
    resources: list[Resource[Any]] = []
    secrets: dict[tuple[str, str], Mapping[str, str]] = {}
    passed_over: set[str] = set()
    mistakes: list[str] = []
    for file in _files(paths):
        try:
            for document in _documents(file):
                kind, version = document.get("kind", ""), document.get("apiVersion", "")
                if kind in SPECS and version == API_VERSION:
                    resources.append(read_resource(document))
                elif kind == "Secret" and version == "v1":
                    secrets.update([_secret(document)])
                else:
                    passed_over.add(kind)
        except ConfigError as e:
            mistakes.append(f"{file}: {e}")
    mistakes.extend(_twice(resources))
    if mistakes:
        raise ConfigError("cannot use the manifests:\n" + "\n".join(f"  {one}" for one in mistakes))
    return Manifests(resources=resources, secrets=secrets, passed_over=sorted(passed_over))


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for pattern in ("*.yaml", "*.yml") for file in path.rglob(pattern))
        elif path.exists():
            yield path
        else:
            raise ConfigError(f"cannot read manifests in {path}: there is no such file or folder; give one that exists")


def _documents(file: Path) -> Iterator[dict[str, Any]]:
    try:
        documents = list(yaml.safe_load_all(file.read_text()))
    except yaml.YAMLError as e:
        raise ConfigError(f"cannot read it: {e}; mend the YAML there") from e
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict) or "kind" not in document:
            raise ConfigError("it holds a document without a kind; each must be a Kubernetes object")
        if document["kind"] == "List":
            yield from document.get("items") or ()
        else:
            yield document


def _secret(document: Mapping[str, Any]) -> tuple[tuple[str, str], Mapping[str, str]]:
    metadata = document.get("metadata") or {}
    values = {key: base64.b64decode(value).decode() for key, value in (document.get("data") or {}).items()}
    values |= document.get("stringData") or {}
    return (metadata.get("namespace") or "default", metadata.get("name", "")), values


def _twice(resources: Sequence[Resource[Any]]) -> Iterator[str]:
    seen: set[tuple[str, str, str]] = set()
    for one in resources:
        key = (one.kind, one.namespace, one.name)
        if key in seen:
            yield f"{one} stands twice; remove one"
        seen.add(key)
