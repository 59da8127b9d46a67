"""Scraping: configuration and discovery go in, the core's Scraper is kept at the targets that result.

The fetching, parsing and storing is the core's; what is here happens once a target, not once a sample.
"""

from bellbuoy.scrape.client import HttpClient
from bellbuoy.scrape.config import (
    DEFAULT_INTERVAL_SECONDS,
    DEFAULT_TIMEOUT_SECONDS,
    HttpDiscovery,
    Inherited,
    ScrapeConfig,
    StaticConfig,
    refused_discovery,
)
from bellbuoy.scrape.discovery import Discovery
from bellbuoy.scrape.http_config import HttpClientConfig
from bellbuoy.scrape.manager import ScrapeManager
from bellbuoy.scrape.targets import ActiveTarget, DroppedTarget, PoolTargets, TargetGroup, build_targets, read_groups
from bellbuoy.scrape.tasks import Failed, endless, log_failure

__all__ = [
    "DEFAULT_INTERVAL_SECONDS",
    "DEFAULT_TIMEOUT_SECONDS",
    "ActiveTarget",
    "Discovery",
    "DroppedTarget",
    "Failed",
    "HttpClient",
    "HttpClientConfig",
    "HttpDiscovery",
    "Inherited",
    "PoolTargets",
    "ScrapeConfig",
    "ScrapeManager",
    "StaticConfig",
    "TargetGroup",
    "build_targets",
    "endless",
    "log_failure",
    "read_groups",
    "refused_discovery",
]
