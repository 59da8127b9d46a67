"""Who writes: of all replicas of the operator the one that holds the Lease. All of them watch and serve.

The holder renews; when it has not for a while, another takes over. Time is the loop's clock: a replica trusts no
other's clock, only how long it has itself seen the Lease unchanged.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bellbuoy.logs import fields
from bellbuoy_operator.cluster import LEASES, Cluster, ClusterError

log = logging.getLogger(__name__)

NAME = "bellbuoy-operator"


@dataclass
class Leadership:
    """Holds, or waits for, the Lease. `held` is set while we may write."""

    cluster: Cluster
    namespace: str
    identity: str
    lease_seconds: float = 15.0
    renew_seconds: float = 5.0
    held: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._seen: tuple[str, float] = ("", 0.0)
        self._renewed = 0.0

    async def run(self) -> None:
        """Acquire and renew until cancelled; then give it up, so that another need not wait."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    await self._turn(loop.time())
                except ClusterError as e:
                    log.warning("cannot reach the lease", extra=fields(lease=f"{self.namespace}/{NAME}", error=e))
                if self.held.is_set() and loop.time() - self._renewed > self.lease_seconds * 2 / 3:
                    self._lose("it could not be renewed in time")
                await asyncio.sleep(self.renew_seconds)
        finally:
            if self.held.is_set():
                self.held.clear()
                await self._release()

    async def _turn(self, now: float) -> None:
        lease = await self.cluster.get(LEASES, namespace=self.namespace, name=NAME)
        if lease is None:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"namespace": self.namespace, "name": NAME},
                "spec": self._spec({}),
            }
            await self._write(body, now, create=True)
            return
        spec = lease.get("spec") or {}
        mark = f"{spec.get('holderIdentity')}@{spec.get('renewTime')}"
        if mark != self._seen[0]:
            self._seen = (mark, now)
        if (
            spec.get("holderIdentity") == self.identity
            or not spec.get("holderIdentity")
            or now - self._seen[1] > self.lease_seconds
        ):
            await self._write({**lease, "spec": self._spec(spec)}, now, create=False)
        elif self.held.is_set():
            self._lose(f"{spec.get('holderIdentity')} holds it")

    async def _write(self, body: Mapping[str, Any], now: float, *, create: bool) -> None:
        try:
            if create:
                await self.cluster.create(LEASES, body, namespace=self.namespace)
            else:
                await self.cluster.replace(LEASES, body)
        except ClusterError as e:
            if e.status != 409:
                raise
            # Another replica was faster: the next turn sees who.
            return
        self._renewed = now
        if not self.held.is_set():
            log.info("holding the lease, writing from now on", extra=fields(identity=self.identity))
            self.held.set()

    def _lose(self, reason: str) -> None:
        log.warning("lost the lease, writing no more", extra=fields(identity=self.identity, reason=reason))
        self.held.clear()

    async def _release(self) -> None:
        try:
            lease = await self.cluster.get(LEASES, namespace=self.namespace, name=NAME)
            if lease is not None and (lease.get("spec") or {}).get("holderIdentity") == self.identity:
                await self.cluster.replace(LEASES, {**lease, "spec": {**lease["spec"], "holderIdentity": ""}})
        except ClusterError as e:
            log.warning("cannot give the lease up, it expires by itself", extra=fields(error=e))

    def _spec(self, before: Mapping[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        same = before.get("holderIdentity") == self.identity
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(self.lease_seconds),
            "acquireTime": before.get("acquireTime", now) if same else now,
            "renewTime": now,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if same else 1),
        }
