"""The routing tree: an alert goes down it, depth first, and comes out at the routes that take it.

A route inherits from its parent all that it does not say itself. Its key and id are Alertmanager's texts: the
notification log is found by them after a restart.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bellbuoy.alertmanager.config import GROUP_ALL, RouteConfig
from bellbuoy.alertmanager.matchers import Matchers, format_matchers, matches_all

GROUP_WAIT_SECONDS = 30.0
GROUP_INTERVAL_SECONDS = 300.0
REPEAT_INTERVAL_SECONDS = 4 * 3600.0


@dataclass(frozen=True, eq=False)
class Route:
    """One node, with everything it inherits filled in. `group_by` is None for all labels."""

    key: str
    id: str
    matchers: Matchers
    receiver: str
    group_by: frozenset[str] | None
    group_wait_seconds: float
    group_interval_seconds: float
    repeat_interval_seconds: float
    mute_time_intervals: tuple[str, ...]
    active_time_intervals: tuple[str, ...]
    labels: Mapping[str, str]
    goes_on: bool
    routes: tuple["Route", ...] = field(default=())

    def match(self, labels: Mapping[str, str]) -> list["Route"]:
        """The routes that take an alert with these labels: the deepest ones, more than one where a route continues."""
        if not matches_all(self.matchers, labels):
            return []
        found: list[Route] = []
        for route in self.routes:
            below = route.match(labels)
            found += below
            if below and not route.goes_on:
                break
        return found or [self]

    def group_labels(self, labels: Mapping[str, str]) -> dict[str, str]:
        """Those of an alert's labels that name its group here."""
        return {name: value for name, value in labels.items() if self.group_by is None or name in self.group_by}

    def walk(self) -> Iterator["Route"]:
        """This route and all below it."""
        yield self
        for route in self.routes:
            yield from route.walk()


def build_route(config: RouteConfig, parent: Route | None = None, *, place: int = 0) -> Route:
    """The tree of this configuration."""
    own = format_matchers(config.all_matchers())
    group_by: frozenset[str] | None
    if config.group_by is not None:
        group_by = None if GROUP_ALL in config.group_by else frozenset(config.group_by)
    else:
        group_by = parent.group_by if parent else frozenset()

    def inherited(value: float | None, above: float | None, default: float) -> float:
        if value is not None:
            return value
        return default if above is None else above

    bare = Route(
        key=f"{parent.key}/{own}" if parent else own,
        id=f"{parent.id}/{own}/{place}" if parent else own,
        matchers=config.all_matchers(),
        receiver=config.receiver or (parent.receiver if parent else ""),
        group_by=group_by,
        group_wait_seconds=inherited(
            config.group_wait, parent.group_wait_seconds if parent else None, GROUP_WAIT_SECONDS
        ),
        group_interval_seconds=inherited(
            config.group_interval, parent.group_interval_seconds if parent else None, GROUP_INTERVAL_SECONDS
        ),
        repeat_interval_seconds=inherited(
            config.repeat_interval, parent.repeat_interval_seconds if parent else None, REPEAT_INTERVAL_SECONDS
        ),
        mute_time_intervals=tuple(config.mute_time_intervals),
        active_time_intervals=tuple(config.active_time_intervals),
        labels={**(parent.labels if parent else {}), **config.labels},
        goes_on=config.continue_,
    )
    children = tuple(build_route(child, bare, place=n) for n, child in enumerate(config.routes))
    object.__setattr__(bare, "routes", children)
    return bare
