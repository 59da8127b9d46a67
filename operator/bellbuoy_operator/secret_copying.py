"""Copies of the secrets that a stack's resources name, in one Secret that its pods mount.

Only a Secret with the label `bellbuoy.io/allow: "true"` is copied: whoever may write a ScrapeTarget may not thereby
read every Secret of the namespace. Secrets are got one by one, never listed or watched.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass

from bellbuoy.resources import ALLOW_LABEL, Refusal, SecretUse
from bellbuoy_operator.cluster import SECRETS, Cluster, Object


@dataclass(frozen=True)
class Copies:
    """What may be copied, by file name, and why the rest may not."""

    values: dict[str, bytes]
    refusals: dict[SecretUse, Refusal]


async def gather_secrets(cluster: Cluster, uses: Iterable[SecretUse]) -> Copies:
    """Get the keys that are used."""
    copies = Copies({}, {})
    secrets: dict[tuple[str, str], Object | None] = {}
    for use in sorted(uses):
        where = (use.namespace, use.name)
        if where not in secrets:
            secrets[where] = await cluster.get(SECRETS, namespace=use.namespace, name=use.name)
        refusal = _refusal(secrets[where], use)
        if refusal is not None:
            copies.refusals[use] = refusal
            continue
        copies.values[use.file] = base64.b64decode((secrets[where] or {})["data"][use.key])
    return copies


def _refusal(secret: Object | None, use: SecretUse) -> Refusal | None:
    name = f"Secret {use.namespace}/{use.name}"
    if secret is None:
        return Refusal("SecretNotFound", f"{name} does not exist: make it, with the label {ALLOW_LABEL}=true")
    if (secret["metadata"].get("labels") or {}).get(ALLOW_LABEL) != "true":
        cure = f"kubectl label secret -n {use.namespace} {use.name} {ALLOW_LABEL}=true"
        return Refusal("SecretNotAllowed", f"{name} lacks the label that lets it be used: {cure}")
    if use.key not in (secret.get("data") or {}):
        return Refusal("SecretKeyNotFound", f'{name} has no key "{use.key}": add it, or name another')
    return None
