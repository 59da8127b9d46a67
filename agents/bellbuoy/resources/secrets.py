"""Which keys of which Secrets the resources name, and the files that their values stand in.

Configuration never holds a secret; it says `*_file`. The operator copies the keys into one Secret a stack, which is
mounted as a folder; `bellbuoy up` writes the same files itself. A file's name is `namespace.name.key`, made
unambiguous by a hash where it would be too long for a Secret's key.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from pydantic import BaseModel

from bellbuoy.resources.model import Resource, SecretKey
from bellbuoy.resources.selection import Selection

# A Secret's key, and a file's name, may be this long.
_NAME_LIMIT = 253


@dataclass(frozen=True, order=True)
class SecretUse:
    """One key of one Secret, in a namespace."""

    namespace: str
    name: str
    key: str

    @property
    def file(self) -> str:
        """The name of the file that holds its value."""
        # Neither part is separated unambiguously by dots alone, hence the hash of all three.
        digest = sha256("/".join((self.namespace, self.name, self.key)).encode()).hexdigest()[:12]
        return f"{self.namespace}.{self.name}.{self.key}"[: _NAME_LIMIT - 13] + "-" + digest


def secret_use(resource: Resource[Any], key: SecretKey) -> SecretUse:
    """The use of a key by a resource: always of the resource's own namespace."""
    return SecretUse(resource.namespace, key.name, key.key)


def secret_uses(resource: Resource[Any]) -> frozenset[SecretUse]:
    """All that a resource names."""
    return frozenset(secret_use(resource, key) for key in _keys(resource.spec))


def selected_secret_uses(selection: Selection) -> frozenset[SecretUse]:
    """All that the resources of a stack name."""
    resources: list[Resource[Any]] = [*selection.scrape_targets, *selection.receivers]
    return frozenset(use for one in resources for use in secret_uses(one))


def _keys(value: object) -> Iterator[SecretKey]:
    if isinstance(value, SecretKey):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _keys(getattr(value, name))
