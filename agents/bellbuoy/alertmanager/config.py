"""`alertmanager.yml`: its fields as strict models, with Alertmanager's names, defaults and inheritance.

One extension: `print_configs` writes a message to standard output, as Slack would show it. What we do not send to
(mail, paging services) is refused with a word on what to use. Text fields of a message may hold the placeholders of
`template`.
"""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, SecretStr, model_validator

from bellbuoy.alertmanager.intervals import TimeInterval
from bellbuoy.alertmanager.matchers import Matchers, format_matcher, make_matcher, ordered, parse_matchers
from bellbuoy.alertmanager.template import check_template
from bellbuoy.configuration import ConfigError, Duration, Secret, Strict, load_yaml, to_yaml, validate
from bellbuoy.labels import Matcher

__all__ = ["Config", "ConfigError", "load_config", "to_yaml"]

GROUP_ALL = "..."
_OTHER_RECEIVERS = [
    "email",
    "pagerduty",
    "opsgenie",
    "pushover",
    "victorops",
    "wechat",
    "telegram",
    "sns",
    "webex",
    "discord",
    "msteams",
    "msteamsv2",
    "jira",
    "rocketchat",
    "mattermost",
    "incidentio",
]


def _matchers(value: Any) -> Any:
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(matcher for one in value for matcher in parse_matchers(one))
    return value


def _url(value: Any) -> Any:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if isinstance(text, str):
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("is no http or https URL; write it as https://host/path")
    return value


MatcherList = Annotated[
    tuple[Matcher, ...],
    BeforeValidator(_matchers),
    PlainSerializer(lambda matchers: [format_matcher(matcher) for matcher in matchers]),
]
SecretUrl = Annotated[Secret, BeforeValidator(_url)]
Template = Annotated[str, BeforeValidator(lambda value: check_template(value) if isinstance(value, str) else value)]


class Authorization(Strict):
    """The `Authorization` header of requests."""

    type: str = "Bearer"
    credentials: Secret | None = None
    credentials_file: str = ""


class BasicAuth(Strict):
    """A name and a password."""

    username: str = ""
    username_file: str = ""
    password: Secret | None = None
    password_file: str = ""


class TlsConfig(Strict):
    """Whom we trust, and who we are."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    insecure_skip_verify: bool = False


class HttpConfig(Strict):
    """How requests to a receiver are made."""

    authorization: Authorization | None = None
    basic_auth: BasicAuth | None = None
    bearer_token: Secret | None = None
    bearer_token_file: str = ""
    tls_config: TlsConfig = Field(default_factory=TlsConfig)
    proxy_url: str = ""
    follow_redirects: bool = True
    # Taken and without effect: requests are HTTP/1.1.
    enable_http2: bool = True

    @classmethod
    def refused(cls) -> dict[str, str]:
        return {"oauth2": "oauth2 is not supported; use authorization with a credentials_file"}

    @model_validator(mode="after")
    def _one_way(self) -> "HttpConfig":
        ways = ("authorization", "basic_auth", "bearer_token", "bearer_token_file")
        given = [name for name in ways if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"has {' and '.join(given)}; keep one of them")
        return self


class Global(Strict):
    """What receivers inherit."""

    resolve_timeout: Duration = 300.0
    http_config: HttpConfig = Field(default_factory=HttpConfig)
    slack_api_url: SecretUrl | None = None
    slack_api_url_file: str = ""

    @classmethod
    def refused(cls) -> dict[str, str]:
        return {"smtp_smarthost": "mail is not supported; use slack_configs or webhook_configs"}

    @model_validator(mode="after")
    def _one_url(self) -> "Global":
        if self.slack_api_url and self.slack_api_url_file:
            raise ValueError("has slack_api_url and slack_api_url_file; keep one of them")
        return self


class SlackConfig(Strict):
    """An incoming webhook of Slack. Without `title` and `text` the message is ours, made of blocks."""

    send_resolved: bool = False
    api_url: SecretUrl | None = None
    api_url_file: str = ""
    http_config: HttpConfig | None = None
    timeout: Duration = 0.0
    title: Template = ""
    text: Template = ""
    title_link: Template = ""
    # Webhooks of apps belong to one channel and ignore these four; Mattermost and Rocket.Chat heed them.
    channel: str = ""
    username: str = ""
    icon_emoji: str = ""
    icon_url: str = ""

    @classmethod
    def refused(cls) -> dict[str, str]:
        ours = "is not supported; leave it out, messages are built of blocks"
        names = "color pretext fallback fields actions short_fields footer mrkdwn_in callback_id image_url thumb_url"
        app = "is not supported; use an incoming webhook's api_url"
        return {name: f"{name} {ours}" for name in names.split()} | {
            name: f"{name} {app}" for name in ("app_token", "app_token_file", "app_url", "update_message")
        }

    @model_validator(mode="after")
    def _one_url(self) -> "SlackConfig":
        if self.api_url and self.api_url_file:
            raise ValueError("has api_url and api_url_file; keep one of them")
        return self


class WebhookConfig(Strict):
    """Any HTTP service that takes Alertmanager's JSON, version 4."""

    send_resolved: bool = True
    url: SecretUrl | None = None
    url_file: str = ""
    http_config: HttpConfig | None = None
    max_alerts: int = Field(default=0, ge=0)
    timeout: Duration = 0.0

    @model_validator(mode="after")
    def _one_url(self) -> "WebhookConfig":
        if bool(self.url) == bool(self.url_file):
            raise ValueError("needs url or url_file, and just one of them")
        return self


class PrintConfig(Strict):
    """Standard output, as Slack would show the message."""

    send_resolved: bool = True


class Receiver(Strict):
    """A name, and where its notifications go; nowhere is allowed."""

    name: str = Field(min_length=1)
    labels: dict[str, str] = Field(default_factory=dict)
    slack_configs: list[SlackConfig] = Field(default_factory=list)
    webhook_configs: list[WebhookConfig] = Field(default_factory=list)
    print_configs: list[PrintConfig] = Field(default_factory=list)

    @classmethod
    def refused(cls) -> dict[str, str]:
        use = "is not supported yet; use slack_configs or webhook_configs"
        return {f"{name}_configs": f"{name}_configs {use}" for name in _OTHER_RECEIVERS} | {
            "hipchat_configs": "HipChat ended in 2019; use slack_configs"
        }


class RouteConfig(Strict):
    """A node of the routing tree: what it takes, and what it changes of what it inherits."""

    receiver: str = ""
    matchers: MatcherList = ()
    match: dict[str, str] = Field(default_factory=dict)
    match_re: dict[str, str] = Field(default_factory=dict)
    continue_: bool = Field(default=False, alias="continue")
    group_by: list[str] | None = None
    group_wait: Duration | None = None
    group_interval: Duration | None = None
    repeat_interval: Duration | None = None
    mute_time_intervals: list[str] = Field(default_factory=list)
    active_time_intervals: list[str] = Field(default_factory=list)
    labels: dict[str, str] = Field(default_factory=dict)
    routes: list["RouteConfig"] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check(self) -> "RouteConfig":
        names = self.group_by or []
        if GROUP_ALL in names and len(names) > 1:
            raise ValueError(f"group_by: '{GROUP_ALL}' groups by all labels; name no others beside it")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'group_by: "{name}" stands twice; keep one')
        for field in ("group_interval", "repeat_interval"):
            if getattr(self, field) == 0:
                raise ValueError(f"{field} cannot be zero; write 1m or more")
        self.all_matchers()
        return self

    def all_matchers(self) -> Matchers:
        """Of the new form and the two old ones, in the order of a group's key."""
        old = [make_matcher(name, "=", value) for name, value in self.match.items()]
        old += [make_matcher(name, "=~", value) for name, value in self.match_re.items()]
        return ordered((*old, *self.matchers))


class InhibitConfig(Strict):
    """While a source fires, its targets with equal labels are not told."""

    name: str = ""
    source_matchers: MatcherList = ()
    source_match: dict[str, str] = Field(default_factory=dict)
    source_match_re: dict[str, str] = Field(default_factory=dict)
    target_matchers: MatcherList = ()
    target_match: dict[str, str] = Field(default_factory=dict)
    target_match_re: dict[str, str] = Field(default_factory=dict)
    equal: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check(self) -> "InhibitConfig":
        self.sources()
        self.targets()
        return self

    def sources(self) -> Matchers:
        """What an inhibiting alert satisfies."""
        return _both(self.source_match, self.source_match_re, self.source_matchers)

    def targets(self) -> Matchers:
        """What an inhibited alert satisfies."""
        return _both(self.target_match, self.target_match_re, self.target_matchers)


def _both(equal: dict[str, str], regex: dict[str, str], matchers: Matchers) -> Matchers:
    old = [make_matcher(name, "=", value) for name, value in equal.items()]
    old += [make_matcher(name, "=~", value) for name, value in regex.items()]
    return (*old, *matchers)


class Config(Strict):
    """The whole file."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    global_: Global = Field(default_factory=Global, alias="global")
    route: RouteConfig
    receivers: list[Receiver]
    inhibit_rules: list[InhibitConfig] = Field(default_factory=list)
    time_intervals: list[TimeInterval] = Field(default_factory=list)
    mute_time_intervals: list[TimeInterval] = Field(default_factory=list)

    @classmethod
    def refused(cls) -> dict[str, str]:
        return {
            "templates": "templates are not supported; use title and text of slack_configs",
            "tracing": "tracing is not supported; leave it out",
        }

    @model_validator(mode="after")
    def _check(self) -> "Config":
        names = [receiver.name for receiver in self.receivers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'receivers: "{name}" stands twice; give one of them another name')
        intervals = [interval.name for interval in self.all_time_intervals()]
        for name in intervals:
            if intervals.count(name) > 1:
                raise ValueError(f'time_intervals: "{name}" stands twice; give one of them another name')
        root = self.route
        if not root.receiver:
            raise ValueError("route.receiver: is missing; the root names the receiver of all that no other route takes")
        if root.all_matchers():
            raise ValueError("route.matchers: the root takes every alert; move matchers to a route below it")
        for field in ("mute_time_intervals", "active_time_intervals"):
            if getattr(root, field):
                raise ValueError(f"route.{field}: the root is always active; move it to a route below")
        _check_route(root, "route", names, intervals)
        for n, receiver in enumerate(self.receivers):
            self._check_slack(receiver, n)
        return self

    def _check_slack(self, receiver: Receiver, n: int) -> None:
        inherited = self.global_.slack_api_url or self.global_.slack_api_url_file
        for i, slack in enumerate(receiver.slack_configs):
            if not (slack.api_url or slack.api_url_file or inherited):
                place = f"receivers[{n}].slack_configs[{i}]"
                raise ValueError(f"{place}: no webhook URL; set api_url or api_url_file here, or global.slack_api_url")

    def all_time_intervals(self) -> list[TimeInterval]:
        """Of the new and of the old key."""
        return [*self.time_intervals, *self.mute_time_intervals]


def _check_route(route: RouteConfig, place: str, receivers: list[str], intervals: list[str]) -> None:
    if route.receiver and route.receiver not in receivers:
        raise ValueError(
            f'{place}.receiver: "{route.receiver}" is not among receivers; add it there, '
            f"or use one of {', '.join(receivers) or 'none yet'}"
        )
    for field in ("mute_time_intervals", "active_time_intervals"):
        for name in getattr(route, field):
            if name not in intervals:
                raise ValueError(f'{place}.{field}: "{name}" is not among time_intervals; add it there')
    for n, child in enumerate(route.routes):
        _check_route(child, f"{place}.routes[{n}]", receivers, intervals)


def load_config(text: str, *, name: str, folder: Path | None = None) -> Config:
    """The configuration in this text. Relative file names are looked up in `folder`. Raises ConfigError."""
    config = validate(Config, load_yaml(text, name=name), name=name)
    return config if folder is None else _with_paths(config, folder)


def _with_paths(model: Any, folder: Path) -> Any:
    """The same model with every `*_file` made absolute."""
    changes: dict[str, Any] = {}
    for key in type(model).model_fields:
        value = getattr(model, key)
        if key.endswith("_file") and isinstance(value, str) and value and not Path(value).is_absolute():
            changes[key] = str(folder / value)
        elif isinstance(value, Strict):
            changes[key] = _with_paths(value, folder)
        elif isinstance(value, list) and any(isinstance(one, Strict) for one in value):
            changes[key] = [_with_paths(one, folder) for one in value]
    set_before = model.model_fields_set
    copy = model.model_copy(update=changes)
    object.__setattr__(copy, "__pydantic_fields_set__", set_before)
    return copy
