"""Manifests from files: the same YAML that `kubectl apply` takes, for `bellbuoy up`, which has no API server.

Our five kinds and Secrets are read; other kinds (Deployments of the sample, say) are passed over. What an API server
would have refused is refused here, with its file, object, field and cure, and costs itself only: its neighbours are
read. Read again after a change, what is broken now stays as it was before, as `kubectl apply` would have left it.
"""

import base64
import binascii
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from bellbuoy.configuration import ConfigError
from bellbuoy.resources.model import (
    API_VERSION,
    GROUP,
    SPECS,
    MonitoringStack,
    MonitoringStackSpec,
    Resource,
    read_resource,
)
from bellbuoy.resources.secrets import SecretUse
from bellbuoy.resources.selection import Selection, select

# Kind, namespace and name.
Key = tuple[str, str, str]
Secrets = Mapping[tuple[str, str], Mapping[str, str]]


@dataclass(frozen=True)
class Manifests:
    """What a folder of manifests holds; `secrets` by namespace and name, `passed_over` the kinds that were not read.

    `mistakes` are of what is left out, each with its file; `files` says which file a resource is of.
    """

    resources: Sequence[Resource[Any]] = ()
    secrets: Secrets = field(default_factory=dict, repr=False)
    passed_over: Sequence[str] = ()
    mistakes: Sequence[str] = ()
    files: Mapping[Key, Path] = field(default_factory=dict)

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

    def without(self, refused: Mapping[Key, str]) -> "Manifests":
        """The same without these resources; the texts are their mistakes."""
        texts = [f"{self.files[key]}: {text}" for key, text in sorted(refused.items())]
        kept = [one for one in self.resources if key_of(one) not in refused]
        return replace(self, resources=kept, mistakes=[*self.mistakes, *texts])

    def secret(self, use: SecretUse) -> str:
        """The value of a secret's key. Raises ConfigError when the folder does not hold it."""
        values = self.secrets.get((use.namespace, use.name))
        if values is None or use.key not in values:
            what = f"Secret {use.namespace}/{use.name}" + ("" if values is None else f', key "{use.key}"')
            raise ConfigError(f"cannot find {what}: add it to the folder of manifests")
        return values[use.key]


def key_of(resource: Resource[Any]) -> Key:
    """What tells resources apart."""
    return resource.kind, resource.namespace, resource.name


def _everything(spec: MonitoringStackSpec) -> MonitoringStackSpec:
    data = spec.model_dump(by_alias=True)
    data["selects"] = {"namespaces": {"from": "All"}, "static": "All"}
    return MonitoringStackSpec.model_validate(data)


def load_manifests(paths: Sequence[Path], *, last: Manifests | None = None) -> Manifests:
    """What the files, and all `*.yaml` and `*.yml` below the folders, hold. `last` is what they held before.

    Raises ConfigError when a path does not exist.
    """
    reading = _Reading(last or Manifests())
    for file in manifest_files(paths):
        reading.take(file)
    return Manifests(
        resources=list(reading.resources.values()),
        secrets=reading.secrets,
        passed_over=sorted(reading.passed_over),
        mistakes=reading.mistakes,
        files=reading.files,
    )


def manifest_files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files of these files and folders. Raises ConfigError when one does not exist."""
    for path in paths:
        if path.is_dir():
            yield from sorted(file for pattern in ("*.yaml", "*.yml") for file in path.rglob(pattern))
        elif path.exists():
            yield path
        else:
            raise ConfigError(f"cannot read manifests in {path}: there is no such file or folder; give one that exists")


class _Reading:
    """What was found so far."""

    def __init__(self, last: Manifests) -> None:
        self._last = {key_of(one): one for one in last.resources}
        self._last_files, self._last_secrets = last.files, last.secrets
        self.resources: dict[Key, Resource[Any]] = {}
        self.secrets: dict[tuple[str, str], Mapping[str, str]] = {}
        self.files: dict[Key, Path] = {}
        self.passed_over: set[str] = set()
        self.mistakes: list[str] = []

    def take(self, file: Path) -> None:
        try:
            documents = list(_documents(file))
        except ConfigError as e:
            self.mistakes.append(f"{file}: {e}")
            for key, place in self._last_files.items():
                if place == file:
                    self._keep(key, file)
            return
        for document in documents:
            if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
                self.mistakes.append(f"{file}: it holds a document without a kind; each must be a Kubernetes object")
                continue
            try:
                self._take(document, file)
            except ConfigError as e:
                self.mistakes.append(f"{file}: {e}")
                self._keep(_key(document), file)

    def _take(self, document: Mapping[str, Any], file: Path) -> None:
        if not self._is_ours(document):
            self.passed_over.add(document["kind"])
            return
        kind, namespace, name = key = _key(document)
        if not isinstance(document.get("metadata") or {}, dict):
            raise ConfigError(f"cannot use a {kind}: metadata: must be a mapping, with name and namespace")
        if not name:
            raise ConfigError(f"cannot use {kind} without a name: metadata.name: is missing; set it")
        if key in self.files:
            where = "" if self.files[key] == file else f" (also in {self.files[key]})"
            raise ConfigError(f"{kind} {namespace}/{name} stands twice{where}; remove one")
        if kind == "Secret":
            self.secrets[namespace, name] = _secret_values(document, f"Secret {namespace}/{name}")
        else:
            self.resources[key] = read_resource(document)
        self.files[key] = file

    @staticmethod
    def _is_ours(document: Mapping[str, Any]) -> bool:
        """Whether it is of a kind that we read. Raises ConfigError for what was meant to be."""
        kind, version = document["kind"], document.get("apiVersion", "")
        if version == API_VERSION and kind not in SPECS:
            close = difflib.get_close_matches(kind, SPECS, n=1)
            cure = f"did you mean {close[0]}?" if close else f"use one of {', '.join(SPECS)}"
            raise ConfigError(f"cannot use kind {kind}: {GROUP} has no such kind; {cure}")
        if kind in SPECS and version != API_VERSION and (not version or str(version).startswith(f"{GROUP}/")):
            said = f'is "{version}"' if version else "is missing"
            raise ConfigError(f"cannot use {_called(document)}: apiVersion: {said}; set it to {API_VERSION}")
        return bool(version == API_VERSION or (kind == "Secret" and version == "v1"))

    def _keep(self, key: Key, file: Path) -> None:
        """What is broken now goes on as it was before."""
        kind, namespace, name = key
        if key in self.files:
            return
        if key in self._last:
            self.resources[key] = self._last[key]
            self.files[key] = file
        elif kind == "Secret" and (namespace, name) in self._last_secrets:
            self.secrets[namespace, name] = self._last_secrets[namespace, name]
            self.files[key] = file


def _documents(file: Path) -> Iterator[Any]:
    try:
        documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise ConfigError(f"cannot read it: {' '.join(str(e).split())}; mend the YAML there") from e
    except OSError as e:
        raise ConfigError(f"cannot read it: {e.strerror}; see its owner and mode") from e
    for document in documents:
        if isinstance(document, dict) and document.get("kind") == "List":
            yield from document.get("items") or ()
        elif document is not None:
            yield document


def _key(document: Mapping[str, Any]) -> Key:
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    return document["kind"], str(metadata.get("namespace") or "default"), str(metadata.get("name") or "")


def _called(document: Mapping[str, Any]) -> str:
    kind, namespace, name = _key(document)
    return f"{kind} {namespace}/{name}" if name else kind


def _secret_values(document: Mapping[str, Any], name: str) -> Mapping[str, str]:
    data, text = document.get("data") or {}, document.get("stringData") or {}
    if not isinstance(data, dict) or not isinstance(text, dict):
        raise ConfigError(f"cannot use {name}: data and stringData: must be mappings of keys to values")
    values = {}
    for key, value in data.items():
        try:
            values[str(key)] = base64.b64decode("".join(str(value).split()), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as e:
            raise ConfigError(
                f"cannot use {name}: data.{key}: is no base64 of a text; encode it, or put it under stringData"
            ) from e
    return values | {str(key): str(value) for key, value in text.items()}
