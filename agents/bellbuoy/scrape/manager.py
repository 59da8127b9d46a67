"""The scrape pools: keeps the core's Scraper at what configuration and discovery say, and remembers why targets were
dropped.

`apply()` takes a whole configuration; pools that did not change go on untouched, since the core compares. Discovery
that changes is debounced for a moment, so that a storm of updates is one update.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from bellbuoy._core import Scraper
from bellbuoy.logs import fields
from bellbuoy.scrape.config import ScrapeConfig
from bellbuoy.scrape.discovery import Discovery
from bellbuoy.scrape.targets import PoolTargets, TargetGroup, build_targets
from bellbuoy.scrape.tasks import Failed, log_failure

log = logging.getLogger(__name__)
# Changes that come within this time become one update of the pool; a new pod must still be scraped within a second.
DEBOUNCE_SECONDS = 0.05
OPERATOR = "operator"
# Responses that are looked at at the same time: each holds a thread, and a body.
LOOKS_AT_ONCE = 4


@dataclass
class _Pool:
    config: ScrapeConfig
    base: Path | None
    discovery: Discovery
    targets: PoolTargets
    update: asyncio.TimerHandle | None = None


class ScrapeManager:
    """Owns the pools. All methods run in the loop; the scraping itself is on the core's threads."""

    def __init__(
        self,
        scraper: Scraper,
        *,
        registry: CollectorRegistry,
        failed: Failed = log_failure,
        start_timestamps: bool = False,
    ) -> None:
        self._scraper, self._failed, self._start_timestamps = scraper, failed, start_timestamps
        self._pools: dict[str, _Pool] = {}
        self._looking = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._discovered = Gauge(
            "bellbuoy_scrape_pool_targets", "Targets of a scrape pool, by state.", ["pool", "state"], registry=registry
        )
        self._failures = Counter(
            "bellbuoy_discovery_failures",
            "Times that a discovery source could not be read.",
            ["pool"],
            registry=registry,
        )
        self._refused = Counter(
            "bellbuoy_scrape_pool_updates_refused", "Updates of a scrape pool that failed.", ["pool"], registry=registry
        )

    async def apply(
        self,
        configs: Sequence[ScrapeConfig],
        *,
        base: Path | None,
        handed: Mapping[str, tuple[TargetGroup, ...]] | None = None,
    ) -> None:
        """Scrape exactly these pools. `handed` has the operator's targets by pool; it then stands for http_sd."""
        wanted = {config.job_name: config for config in configs}
        for name in [name for name in self._pools if name not in wanted]:
            await self._remove(name)
        for name, config in wanted.items():
            pool = self._pools.get(name)
            groups = handed.get(name, ()) if handed is not None else None
            if pool is not None and pool.config == config and pool.base == base:
                if groups is not None:
                    pool.discovery.set_groups(OPERATOR, groups)
                continue
            discovery = Discovery(
                name,
                static=config.static_configs,
                files=config.file_sd_configs,
                http=config.http_sd_configs if handed is None else (),
                dns=config.dns_sd_configs,
                base=base,
                changed=lambda name=name: self._schedule(name),  # type: ignore[misc]
                failures=self._failures.labels(name).inc,
                failed=self._failed,
            )
            if pool is not None:
                await self._stop(pool)
            fresh = self._pools[name] = _Pool(config, base, discovery, PoolTargets((), (), 0))
            if groups is not None:
                discovery.set_groups(OPERATOR, groups)
            elif pool is not None:
                # Until the new sources have answered, what the old ones of the same kind said still holds.
                discovery.adopt(pool.discovery)
            discovery.start()
            self._update(name, fresh)

    def set_targets(self, name: str, groups: tuple[TargetGroup, ...]) -> None:
        """The operator's targets of one pool; a pool that is not configured is ignored until it is."""
        if (pool := self._pools.get(name)) is not None:
            pool.discovery.set_groups(OPERATOR, groups)

    def _schedule(self, name: str) -> None:
        pool = self._pools.get(name)
        if pool is not None and pool.update is None:
            pool.update = asyncio.get_running_loop().call_later(DEBOUNCE_SECONDS, self._run_update, name, pool)

    def _run_update(self, name: str, pool: _Pool) -> None:
        pool.update = None
        if self._pools.get(name) is pool:
            self._update(name, pool)

    def _update(self, name: str, pool: _Pool) -> None:
        pool.targets = build_targets(pool.config, pool.discovery.groups())
        try:
            self._scraper.set_pool(
                name,
                pool.config.settings(pool.base, start_timestamps=self._start_timestamps),
                [target.for_core() for target in pool.targets.active],
            )
        except (ValueError, OSError) as e:
            self._refused.labels(name).inc()
            log.exception("cannot update a scrape pool; its last targets stay", extra=fields(pool=name, error=str(e)))
        self._discovered.labels(name, "active").set(len(pool.targets.active))
        self._discovered.labels(name, "dropped").set(pool.targets.dropped_count)

    async def _stop(self, pool: _Pool) -> None:
        if pool.update is not None:
            pool.update.cancel()
            pool.update = None
        await pool.discovery.stop()

    async def _remove(self, name: str) -> None:
        pool = self._pools.pop(name)
        await self._stop(pool)
        await asyncio.to_thread(self._scraper.remove_pool, name)
        for state in ("active", "dropped"):
            self._discovered.remove(name, state)

    async def stop(self) -> None:
        """End discovery; the Scraper is its owner's to close."""
        for pool in self._pools.values():
            await self._stop(pool)

    def pools(self) -> list[str]:
        """Names of the pools, sorted."""
        return sorted(self._pools)

    def config(self, name: str) -> ScrapeConfig | None:
        """A pool's configuration."""
        pool = self._pools.get(name)
        return pool.config if pool is not None else None

    async def look(self, pool: str, url: str, labels: Mapping[str, str], *, limit: int) -> dict[str, Any]:
        """What a target answers right now, up to so many bytes of its body; see the core's `Scraper.look`."""
        async with self._looking:
            return await asyncio.to_thread(self._scraper.look, pool, url, labels, limit=limit)

    def pool_targets(self) -> dict[str, PoolTargets]:
        """Each pool's targets after relabeling."""
        return {name: self._pools[name].targets for name in sorted(self._pools)}

    def discovery_errors(self) -> dict[str, str]:
        """Pools whose discovery fails, and how."""
        return {name: pool.discovery.last_error for name, pool in self._pools.items() if pool.discovery.last_error}

    def scraped(self) -> list[dict[str, Any]]:
        """Each target's state as the core says it."""
        return self._scraper.targets()

    def metadata(self) -> list[tuple[str, str, str, str, str, str]]:
        """What the targets declare of their metrics."""
        return self._scraper.metadata()
