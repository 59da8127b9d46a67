"""One scrape: every collector fills the page, and whatever one of them raises stays with it.

Each leaves behind how long it took and whether it succeeded. A failure is logged when it begins and when it ends.
"""

import logging
import time
from collections.abc import Iterable

from bellbuoy.exposition import GAUGE, Page
from bellbuoy.logs import fields
from bellbuoy.node_exporter.collectors import Collector, factories
from bellbuoy.node_exporter.machine import NoData
from bellbuoy.node_exporter.options import Options

log = logging.getLogger(__name__)


class Scraper:
    """The collectors that the options turn on. `scrape` may run in several threads at once."""

    def __init__(self, options: Options) -> None:
        self._collectors: dict[str, Collector] = {}
        self._failing: dict[str, str] = {}
        made = factories(options.machine)
        for name in sorted(options.collectors):
            self._collectors[name] = made[name](options.machine, options)

    @property
    def names(self) -> tuple[str, ...]:
        """The collectors that are on, sorted."""
        return tuple(self._collectors)

    def scrape(self, names: Iterable[str] | None = None) -> Page:
        """A page of what these collectors say; of all, unless they are named."""
        page = Page()
        results = []
        for name in self.names if names is None else names:
            start = time.perf_counter()
            error = self._run(name, page)
            results.append((f'{{collector="{name}"}}', time.perf_counter() - start, int(error is None)))
        duration = page.family(
            "node_scrape_collector_duration_seconds", GAUGE, "node_exporter: Duration of a collector scrape."
        )
        success = page.family("node_scrape_collector_success", GAUGE, "node_exporter: Whether a collector succeeded.")
        for text, seconds, succeeded in results:
            duration.add(seconds, text)
            success.add(succeeded, text)
        return page

    def _run(self, name: str, page: Page) -> str | None:
        error: str | None = None
        try:
            self._collectors[name](page)
        except NoData as e:
            log.debug("collector has no data", extra=fields(collector=name, reason=e))
            return str(e)
        except Exception as e:  # noqa: BLE001 - whatever fails, the others go on; it is logged and counted
            error = f"{type(e).__name__}: {e}"
        before = self._failing.pop(name, None)
        if error is not None:
            self._failing[name] = error
            if before is None:
                log.warning("collector fails", extra=fields(collector=name, error=error))
        elif before is not None:
            log.info("collector succeeds again", extra=fields(collector=name))
        return error
