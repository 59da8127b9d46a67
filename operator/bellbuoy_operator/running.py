"""The operator as a whole: the world watched, a task for each stack, the lease, the two listeners, and their end.

Everything runs in one group of tasks: what fails for good takes all of it down, and Kubernetes starts it again.
"""

import asyncio
import logging
from collections.abc import Callable

import aiohttp
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

import bellbuoy
from bellbuoy.http import Health, metrics_handler, serve
from bellbuoy.logs import fields
from bellbuoy_operator.access import Access
from bellbuoy_operator.builders import Images, Settings
from bellbuoy_operator.certificates import ServingCertificate, cluster_authority
from bellbuoy_operator.cluster import Cluster
from bellbuoy_operator.lease import Leadership
from bellbuoy_operator.options import Options
from bellbuoy_operator.publishing import Publications
from bellbuoy_operator.service import ConfigService, end_polls
from bellbuoy_operator.stack_task import Pace, StackTask, Tools
from bellbuoy_operator.statuses import StatusBoard, StatusWriter
from bellbuoy_operator.world import Listeners, World

log = logging.getLogger(__name__)


class Stacks:
    """A running task for each MonitoringStack that there is, told of what changes."""

    def __init__(self, tools: Tools, group: asyncio.TaskGroup) -> None:
        self._tools, self._group = tools, group
        self._tasks: dict[tuple[str, str], tuple[StackTask, asyncio.Task[None]]] = {}

    def listeners(self) -> Listeners:
        """What a World calls."""
        return Listeners(
            resource=self._resource,
            pod=self._pod,
            node=lambda: self._pod(""),
            namespace=self._everything,
            owned=self._owned,
        )

    def _resource(self, key: tuple[str, str, str]) -> None:
        kind, namespace, name = key
        exists = key in self._tools.world.own.entries
        if not exists:
            self._tools.board.forget_resource(key)
        if kind == "MonitoringStack":
            stack = (namespace, name)
            if exists and stack not in self._tasks:
                task = StackTask(stack, self._tools)
                self._tasks[stack] = (task, self._group.create_task(task.run()))
                log.info("stack found", extra=fields(stack=f"{namespace}/{name}"))
            elif not exists and stack in self._tasks:
                task, running = self._tasks.pop(stack)
                running.cancel()
                task.forget()
                log.info("stack gone", extra=fields(stack=f"{namespace}/{name}"))
            elif exists:
                self._tasks[stack][0].notice_objects()
        self._everything()

    def _everything(self) -> None:
        for task, _ in self._tasks.values():
            task.notice_resources()

    def _pod(self, namespace: str) -> None:
        for task, _ in self._tasks.values():
            task.notice_pods(namespace)

    def _owned(self, stack: tuple[str, str]) -> None:
        if stack in self._tasks:
            self._tasks[stack][0].notice_objects()

    def cancel(self) -> None:
        """End all tasks."""
        for _, running in self._tasks.values():
            running.cancel()


async def run(options: Options, stop: asyncio.Event, *, listening: Callable[[str], None] | None = None) -> None:
    """Serve until `stop` is set. `listening` is told the address of the configuration service.

    Raises ClusterError when the API server cannot be found, ListenError when a port cannot be had.
    """
    registry, health = CollectorRegistry(), Health(reason="waiting for the API server")
    cluster = await Cluster.connect(options.kubeconfig)
    session = aiohttp.ClientSession()
    try:
        authority = await cluster_authority(cluster, namespace=options.namespace)
        certificate = ServingCertificate(authority, options.certificate_names)
        world = World(cluster, registry)
        leadership = Leadership(cluster, namespace=options.namespace, identity=options.identity)
        settings = Settings(
            images=Images(options.image_prefix, options.image_tag),
            service_url=options.stack_service_url,
            ca_pem=authority.certificate_pem,
        )
        tools = make_tools(options, cluster, world, leadership, settings, session, registry)
        service = ConfigService(world, tools.publications, Access(cluster), registry)
        async with asyncio.TaskGroup() as group:
            stacks = Stacks(tools, group)
            world.listeners = stacks.listeners()
            writer = StatusWriter(cluster, world.own, tools.board, leadership.held)
            background = [
                group.create_task(certificate.run()),
                group.create_task(leadership.run()),
                group.create_task(writer.run()),
                group.create_task(_tell_ready(world, health)),
            ]
            config_app = service.application(registry=registry, health=health)
            servers = [
                group.create_task(
                    serve(
                        config_app,
                        listen=options.config_listen,
                        stop=stop,
                        tls=certificate.context,
                        listening=listening,
                    )
                ),
                group.create_task(end_polls(tools.publications, stop)),
            ]
            metrics_app = _metrics_application(registry, health)
            servers.append(group.create_task(serve(metrics_app, listen=options.metrics_listen, stop=stop)))
            await world.run(stop)
            health.set_waiting("stopping")
            stacks.cancel()
            for task in background:
                task.cancel()
            await asyncio.gather(*servers)
    except ExceptionGroup as group:
        # One cause is enough to say; more than one are shown together.
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from group
        raise
    finally:
        await session.close()
        await cluster.close()


def make_tools(
    options: Options,
    cluster: Cluster,
    world: World,
    leadership: Leadership,
    settings: Settings,
    session: aiohttp.ClientSession,
    registry: CollectorRegistry,
) -> Tools:
    """What all stacks share, with the metrics that belong to it."""
    leading = Gauge("bellbuoy_operator_leading", "Whether this replica holds the lease.", registry=registry)
    leading.set_function(lambda: float(leadership.held.is_set()))
    return Tools(
        cluster=cluster,
        world=world,
        publications=Publications(),
        board=StatusBoard(),
        settings=settings,
        allowed=leadership.held,
        session=session,
        version=bellbuoy.__version__,
        pace=Pace(status_seconds=options.status_seconds, resync_seconds=options.resync_seconds),
        reconciles=Counter(
            "bellbuoy_operator_reconciles", "Reconciles of stacks, by outcome.", ["outcome"], registry=registry
        ),
        seconds=Histogram(
            "bellbuoy_operator_reconcile_duration_seconds", "Time that a reconcile of a stack takes.", registry=registry
        ),
    )


def _metrics_application(registry: CollectorRegistry, health: Health) -> web.Application:
    """What Prometheus and the kubelet ask without TLS. Its own requests are not counted: the service's are."""

    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="Operator is healthy.\n")

    async def ready(_: web.Request) -> web.Response:
        if health.ready:
            return web.Response(text="Operator is ready.\n")
        return web.Response(status=503, text=f"Operator is not ready: {health.reason}\n")

    app = web.Application()
    app.router.add_get("/-/healthy", healthy)
    app.router.add_get("/-/ready", ready)
    app.router.add_get("/metrics", metrics_handler(registry))
    return app


async def _tell_ready(world: World, health: Health) -> None:
    health.set_waiting("not all is known of the cluster yet")
    await world.wait_synced()
    health.set_ready()
    log.info("all is known, answering", extra=fields(pods=len(world.pods.objects), nodes=len(world.nodes.objects)))
