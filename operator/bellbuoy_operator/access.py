"""Who may read a stack's configuration: tokens of this cluster that were made for us, reviewed by the API server.

A token's review is remembered for a minute, by its hash. The service accounts of a stack's own server and
alertmanager may read that stack; everyone else needs RBAC's word: `get` on the subresource
`monitoringstacks/configuration`.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from bellbuoy.resources import GROUP
from bellbuoy_operator.builders import AUDIENCE
from bellbuoy_operator.cluster import ACCESS_REVIEWS, TOKEN_REVIEWS, Cluster

# How long a review is remembered: a token that was revoked works for this much longer.
CACHE_SECONDS = 60.0
# So many reviews are remembered; past it all are forgotten, which costs reviews and no more.
CACHE_SIZE = 4096
PARTS = ("server", "alertmanager")


class DeniedError(Exception):
    """No access; `status` is HTTP's, and the text says why."""

    def __init__(self, text: str, *, status: int) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class _User:
    name: str
    groups: tuple[str, ...]
    uid: str


@dataclass
class Access:
    """Decides, by asking the API server."""

    cluster: Cluster
    _users: dict[str, tuple[float, _User | None, str]] = field(default_factory=dict)
    _grants: dict[tuple[str, str, str], tuple[float, bool]] = field(default_factory=dict)

    async def check(self, authorization: str, *, namespace: str, name: str) -> None:
        """Raises DeniedError unless whoever sent this Authorization header may read the stack's configuration."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise DeniedError(
                f'a token is needed: send "Authorization: Bearer …" with one made for audience {AUDIENCE}', status=401
            )
        user, why = await self._review(token.strip())
        if user is None:
            raise DeniedError(
                f"the token is not accepted: {why or 'the API server does not know it'}; use one made for audience "
                f"{AUDIENCE}",
                status=401,
            )
        if user.name in {f"system:serviceaccount:{namespace}:{name}-{part}" for part in PARTS}:
            return
        if not await self._granted(user, namespace, name):
            raise DeniedError(
                f"{user.name} may not read stack {namespace}/{name}: grant it get on monitoringstacks/configuration "
                f"in group {GROUP}",
                status=403,
            )

    async def _review(self, token: str) -> tuple[_User | None, str]:
        now, key = asyncio.get_running_loop().time(), sha256(token.encode()).hexdigest()
        known = self._users.get(key)
        if known is not None and known[0] > now:
            return known[1], known[2]
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        answer = await self.cluster.create(TOKEN_REVIEWS, body)
        status: Mapping[str, Any] = answer.get("status") or {}
        user = None
        # An API server that knows nothing of audiences would leave them out: then the token is not for us.
        if status.get("authenticated") and AUDIENCE in (status.get("audiences") or ()):
            one = status["user"]
            user = _User(one["username"], tuple(one.get("groups") or ()), one.get("uid", ""))
        if len(self._users) >= CACHE_SIZE:
            self._users.clear()
        why = _first_line(status.get("error", ""))
        self._users[key] = (now + CACHE_SECONDS, user, why)
        return user, why

    async def _granted(self, user: _User, namespace: str, name: str) -> bool:
        now, key = asyncio.get_running_loop().time(), (user.name, namespace, name)
        known = self._grants.get(key)
        if known is not None and known[0] > now:
            return known[1]
        attributes = {
            "namespace": namespace,
            "name": name,
            "verb": "get",
            "group": GROUP,
            "resource": "monitoringstacks",
            "subresource": "configuration",
        }
        spec = {"user": user.name, "groups": list(user.groups), "uid": user.uid, "resourceAttributes": attributes}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        answer = await self.cluster.create(ACCESS_REVIEWS, body)
        allowed = bool((answer.get("status") or {}).get("allowed"))
        if len(self._grants) >= CACHE_SIZE:
            self._grants.clear()
        self._grants[key] = (now + CACHE_SECONDS, allowed)
        return allowed


def _first_line(text: str) -> str:
    return text.splitlines()[0][:512] if text else ""
