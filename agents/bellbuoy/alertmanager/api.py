"""Alertmanager's API v2, as its OpenAPI document says, and one path of ours that tells how receivers do.

Only JSON is taken: a page of another site cannot send that from a browser unasked.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar
from uuid import UUID

import orjson
from aiohttp import web
from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError

from bellbuoy import __version__, _core
from bellbuoy.alertmanager.alerts import Alert, by_place, check_alert, format_fingerprint
from bellbuoy.alertmanager.config import ConfigError, to_yaml
from bellbuoy.alertmanager.dispatch import Muting
from bellbuoy.alertmanager.matchers import Matchers, make_matcher, matches_all, parse_matcher
from bellbuoy.alertmanager.nflog import ReceiverTally
from bellbuoy.alertmanager.service import Service
from bellbuoy.alertmanager.silences import Silence, SilenceError, UnknownSilenceError
from bellbuoy.alertmanager.times import format_millis, format_time, parse_time, seconds
from bellbuoy.configuration import mistakes
from bellbuoy.labels import Matcher, MatcherError

Time = Annotated[int, BeforeValidator(lambda value: parse_time(value) if isinstance(value, str) else value)]
T = TypeVar("T")
_STATE_ORDER = {"active": 0, "pending": 1, "expired": 2}


class PostedAlert(BaseModel):
    """An alert as it is posted; unknown fields are no mistake."""

    labels: dict[str, str]
    annotations: dict[str, str] = Field(default_factory=dict)
    startsAt: Time = 0
    endsAt: Time = 0
    generatorURL: str = ""


class PostedMatcher(BaseModel):
    """A matcher of a silence."""

    name: str
    value: str
    isRegex: bool
    isEqual: bool | None = True


class PostedSilence(BaseModel):
    """A silence as it is posted."""

    id: str = ""
    matchers: list[PostedMatcher] = Field(min_length=1)
    startsAt: Time
    endsAt: Time
    createdBy: str
    comment: str
    annotations: dict[str, str] | None = None


_ALERTS = TypeAdapter(list[PostedAlert])
_SILENCE = TypeAdapter(PostedSilence)


def add_api(app: web.Application, service: Service) -> None:
    """Add the paths to the application."""
    api = Api(service)
    router = app.router
    router.add_get("/api/v2/status", api.status)
    router.add_get("/api/v2/receivers", api.receivers)
    router.add_get("/api/v2/alerts", api.alerts)
    router.add_post("/api/v2/alerts", api.post_alerts)
    router.add_get("/api/v2/alerts/groups", api.groups)
    router.add_get("/api/v2/silences", api.silences)
    router.add_post("/api/v2/silences", api.post_silence)
    router.add_get("/api/v2/silence/{id}", api.silence)
    router.add_delete("/api/v2/silence/{id}", api.delete_silence)
    router.add_get("/api/v1/bellbuoy/receivers", api.receiver_tallies)
    router.add_post("/-/reload", api.reload)


class Api:
    """One method a path."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def status(self, _: web.Request) -> web.Response:
        """Version, configuration with its secrets hidden, since when we run."""
        service = self._service
        return _json(
            {
                "cluster": {"status": "disabled", "peers": []},
                "config": {"original": to_yaml(service.config) if service.config else ""},
                "uptime": service.started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "versionInfo": {
                    "branch": "",
                    "buildDate": "",
                    "buildUser": "",
                    "goVersion": "",
                    "revision": "",
                    "version": __version__,
                },
            }
        )

    async def receivers(self, request: web.Request) -> web.Response:
        """Names and labels."""
        wanted = _filters(request, "receiver_matchers")
        config = self._service.config
        every = config.receivers if config else []
        return _json([{"name": one.name, "labels": one.labels} for one in every if matches_all(wanted, one.labels)])

    async def alerts(self, request: web.Request) -> web.Response:
        """Those that fire, by fingerprint."""
        service, dispatcher = self._service, self._service.dispatcher
        keep, receives = self._alert_filter(request), self._receiver_filter(request)
        found = []
        for alert in service.alerts:
            receivers = [route.receiver for route in dispatcher.route.match(alert.labels)] if dispatcher else []
            if not any(receives(name) for name in receivers or [""]):
                continue
            muting = keep(alert)
            if muting is not None:
                found.append((alert.fingerprint, _alert(alert, muting, receivers)))
        return _json([shown for _, shown in sorted(found, key=lambda pair: pair[0])])

    async def groups(self, request: web.Request) -> web.Response:
        """Groups with the alerts that fire in them."""
        dispatcher = self._service.dispatcher
        keep, receives = self._alert_filter(request), self._receiver_filter(request)
        with_muted = _flag(request, "muted")
        shown: list[tuple[Any, list[tuple[Alert, Muting]], list[str]]] = []
        receivers: dict[int, list[str]] = {}
        for group in dispatcher.groups() if dispatcher else []:
            if not receives(group.route.receiver):
                continue
            kept = [(alert, muting) for alert in group.alerts.values() if (muting := keep(alert)) is not None]
            for alert, _ in kept:
                receivers.setdefault(alert.fingerprint, []).append(group.route.receiver)
            muted_by = dispatcher.muted_by(group.route) if dispatcher else []
            if kept and (with_muted or not muted_by):
                shown.append((group, sorted(kept, key=lambda pair: by_place(pair[0])), muted_by))
        return _json(
            [
                {
                    "labels": dict(group.labels),
                    "routeLabels": dict(group.route.labels),
                    "receiver": {"name": group.route.receiver},
                    "alerts": [
                        _alert(alert, muting, sorted(receivers[alert.fingerprint]), muted_by=muted_by)
                        for alert, muting in kept
                    ],
                }
                for group, kept, muted_by in shown
            ]
        )

    async def post_alerts(self, request: web.Request) -> web.Response:
        """Take alerts; the valid ones of a list with mistakes too."""
        service = self._service
        posted = _body(await _read_json(request), _ALERTS)
        now = service.clock.now()
        wrong = []
        for one in posted:
            alert = Alert(
                labels={name: value for name, value in one.labels.items() if value},
                annotations=one.annotations,
                starts_at=one.startsAt or one.endsAt or now,
                ends_at=one.endsAt or now + seconds(service.resolve_timeout_seconds),
                updated_at=now,
                generator_url=one.generatorURL,
                timeout=not one.endsAt,
            )
            service.metrics.received.labels("resolved" if alert.resolved_at(now) else "firing", "v2").inc()
            error = check_alert(alert)
            if error:
                service.metrics.invalid.labels("v2").inc()
                wrong.append(error)
            else:
                service.put(alert)
        if wrong:
            raise _bad("\n".join(wrong))
        return web.Response()

    async def silences(self, request: web.Request) -> web.Response:
        """The active ones that end next first, then the pending, then the expired."""
        wanted = _filters(request, "filter")
        states = {state for state in _STATE_ORDER if _flag(request, state)}
        now = self._service.clock.now()
        found = [
            silence
            for silence in self._service.silences.all()
            if silence.state(now) in states and all(matcher in silence.matchers for matcher in wanted)
        ]
        order = {"active": lambda s: s.ends_at, "pending": lambda s: s.starts_at, "expired": lambda s: -s.ends_at}
        found.sort(key=lambda s: (_STATE_ORDER[s.state(now)], order[s.state(now)](s)))
        return _json([_silence(silence, now) for silence in found])

    async def post_silence(self, request: web.Request) -> web.Response:
        """Add or change one; it is on disk before this answers."""
        service = self._service
        posted = _body(await _read_json(request), _SILENCE)
        try:
            silence = Silence(
                id=posted.id,
                matchers=tuple(_silence_matcher(matcher) for matcher in posted.matchers),
                starts_at=posted.startsAt,
                ends_at=posted.endsAt,
                updated_at=0,
                created_by=posted.createdBy,
                comment=posted.comment,
                annotations=posted.annotations or {},
            )
            key = service.silences.set(silence)
        except (SilenceError, MatcherError) as e:
            raise _bad(str(e)) from e
        except UnknownSilenceError as e:
            raise web.HTTPNotFound(text='"silence not found"', content_type="application/json") from e
        await service.silences_file.saved()
        return _json({"silenceID": key})

    async def silence(self, request: web.Request) -> web.Response:
        """One of them."""
        return _json(_silence(self._known(request), self._service.clock.now()))

    async def delete_silence(self, request: web.Request) -> web.Response:
        """End it now; it is on disk before this answers."""
        self._service.silences.expire(self._known(request).id)
        await self._service.silences_file.saved()
        return web.Response()

    async def receiver_tallies(self, _: web.Request) -> web.Response:
        """How each receiver does: what the operator writes into its resource's status."""
        config = self._service.config
        out = []
        for receiver in config.receivers if config else []:
            tally = self._service.nflog.receivers.get(receiver.name, ReceiverTally())
            out.append(
                {
                    "name": receiver.name,
                    "lastNotification": format_time(tally.last_notification) if tally.last_notification else None,
                    "notifications": tally.notifications,
                    "failures": tally.failures,
                    "lastError": tally.last_error,
                }
            )
        return _json(out)

    async def reload(self, _: web.Request) -> web.Response:
        """Read the configuration file again; a mistake in it leaves everything as it was."""
        try:
            self._service.load_file()
        except ConfigError as e:
            return web.Response(status=400, text=f"{e}\n")
        return web.Response()

    def _known(self, request: web.Request) -> Silence:
        key = request.match_info["id"]
        try:
            UUID(key)
        except ValueError as e:
            raise _unprocessable(f'silenceID in path must be of type uuid: "{key}"') from e
        try:
            return self._service.silences.get(key)
        except UnknownSilenceError as e:
            raise web.HTTPNotFound(text="") from e

    def _alert_filter(self, request: web.Request) -> Callable[[Alert], Muting | None]:
        """What of an alert to show: what keeps it quiet, or None to leave it out."""
        wanted = _filters(request, "filter")
        active, silenced = _flag(request, "active"), _flag(request, "silenced")
        inhibited, now, dispatcher = _flag(request, "inhibited"), self._service.clock.now(), self._service.dispatcher
        _flag(request, "unprocessed")

        def keep(alert: Alert) -> Muting | None:
            if alert.resolved_at(now) or not matches_all(wanted, alert.labels):
                return None
            muting = dispatcher.muting(alert.labels) if dispatcher else Muting()
            shown = (
                (active or bool(muting))
                and (silenced or not muting.silenced_by)
                and (inhibited or not muting.inhibited_by)
            )
            return muting if shown else None

        return keep

    def _receiver_filter(self, request: web.Request) -> Callable[[str], bool]:
        pattern = request.query.get("receiver")
        try:
            regex = _core.Regex(pattern) if pattern else None
        except ValueError as e:
            raise _bad(f"failed to parse receiver param: {e}") from e
        wanted = _filters(request, "receiver_matchers")
        config = self._service.config
        labels = {receiver.name: receiver.labels for receiver in config.receivers} if config else {}

        def receives(name: str) -> bool:
            return (regex is None or regex.matches(name)) and (not wanted or matches_all(wanted, labels.get(name, {})))

        return receives


def _alert(alert: Alert, muting: Muting, receivers: Iterable[str], *, muted_by: Iterable[str] = ()) -> dict[str, Any]:
    muted = list(muted_by)
    return {
        "annotations": dict(alert.annotations),
        "endsAt": format_millis(alert.ends_at),
        "fingerprint": format_fingerprint(alert.fingerprint),
        "receivers": [{"name": name} for name in receivers],
        "startsAt": format_millis(alert.starts_at),
        "status": {
            "inhibitedBy": [format_fingerprint(one) for one in muting.inhibited_by],
            "mutedBy": muted,
            "silencedBy": list(muting.silenced_by),
            "state": "suppressed" if muting or muted else "active",
        },
        "updatedAt": format_millis(alert.updated_at),
        "generatorURL": alert.generator_url,
        "labels": dict(alert.labels),
    }


def _silence(silence: Silence, now: int) -> dict[str, Any]:
    return {
        "id": silence.id,
        "status": {"state": silence.state(now)},
        "updatedAt": format_millis(silence.updated_at),
        "annotations": dict(silence.annotations),
        "comment": silence.comment,
        "createdBy": silence.created_by,
        "endsAt": format_millis(silence.ends_at),
        "matchers": [
            {
                "isEqual": matcher.operator in ("=", "=~"),
                "isRegex": matcher.operator in ("=~", "!~"),
                "name": matcher.name,
                "value": matcher.value,
            }
            for matcher in silence.matchers
        ],
        "startsAt": format_millis(silence.starts_at),
    }


def _silence_matcher(posted: PostedMatcher) -> Matcher:
    equal = posted.isEqual is not False
    operator = ("=~" if posted.isRegex else "=") if equal else ("!~" if posted.isRegex else "!=")
    return make_matcher(posted.name, operator, posted.value)


def _filters(request: web.Request, name: str) -> Matchers:
    try:
        return tuple(parse_matcher(text) for text in request.query.getall(name, []))
    except MatcherError as e:
        raise _bad(str(e) if name == "filter" else f"failed to parse {name} param: {e}") from e


def _flag(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "true").lower()
    if text in ("true", "1", "yes", "ok", "y", "on", "selected", "checked", "t", "enabled"):
        return True
    if text in ("false", "0", "no", "n", "off", "f", "disabled", "unselected", "unchecked", ""):
        return False
    raise _unprocessable(f'{name} in query must be of type boolean: "{text}"')


async def _read_json(request: web.Request) -> bytes:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(
            text=_error(415, f'unsupported media type "{request.content_type}", only [application/json] are allowed'),
            content_type="application/json",
        )
    return await request.read()


def _body(data: bytes, shape: TypeAdapter[T]) -> T:
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError as e:
        raise web.HTTPBadRequest(text=_error(400, f"cannot parse body: {e}"), content_type="application/json") from e
    try:
        return shape.validate_python(content)
    except ValidationError as e:
        raise _unprocessable("; ".join(mistakes(e))) from e


def _json(content: Any) -> web.Response:
    return web.Response(
        body=orjson.dumps(content), content_type="application/json", headers={"Cache-Control": "no-store"}
    )


def _bad(text: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=orjson.dumps(text).decode(), content_type="application/json")


def _unprocessable(text: str) -> web.HTTPUnprocessableEntity:
    return web.HTTPUnprocessableEntity(text=_error(422, text), content_type="application/json")


def _error(code: int, text: str) -> str:
    content: Mapping[str, Any] = {"code": code, "message": text}
    return orjson.dumps(content).decode()
