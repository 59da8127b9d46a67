"""What every configuration file shares: YAML as Go's readers take it, strict models, and errors that name place and
cure.

Text goes in, a pydantic model comes out, or a `ConfigError` that lists every mistake at once, each with its place
such as `scrape_configs[2].relabel_configs[0].action`. Scalars stay text until a field gives them a type, so that
`yes`, `1.10` or `2024-01-01` in a label's value is not turned into something else. What the fields mean is said by
who declares them.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    SecretStr,
    ValidationError,
    model_validator,
)

from bellbuoy.durations import format_duration, parse_duration
from bellbuoy.errors import CannotError

SECRET = "<secret>"  # noqa: S105 - what is printed in a secret's place
_SIZE_UNITS = {"": 1, "B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40, "PB": 1 << 50, "EB": 1 << 60}
_SIZE_UNITS |= {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "PiB": 1 << 50, "EiB": 1 << 60}
M = TypeVar("M", bound=BaseModel)

# What a wrong type is told with, by pydantic's name of the error.
_CURES = {
    "missing": "is missing; set it",
    "list_type": "must be a list; write it as [one, two]",
    "dict_type": "must be a mapping; write lines of key: value below it",
    "model_type": "must be a mapping; write lines of key: value below it",
    "string_type": "must be text; put it in quotes",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
}


class ConfigError(CannotError):
    """A configuration that cannot be used; the text lists each mistake with its place and cure."""


class _Loader(yaml.SafeLoader):
    """Scalars as text, but for null; a key that stands twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    where = key.start_mark
                    raise yaml.constructor.ConstructorError(
                        None, None, f'key "{key.value}" stands twice; keep one of them', where
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_NULL_AND_MERGE = {"tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _NULL_AND_MERGE]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load_yaml(text: str, *, name: str) -> Any:
    """The document as dicts, lists, strings and None. Raises ConfigError with the line."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as e:
        raise ConfigError(f"cannot read {name}: {e}; mend the YAML there") from e


class Strict(BaseModel):
    """A mapping whose keys are all known; null leaves the default, as in Prometheus."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if data is None:
            return {}
        if not isinstance(data, dict):
            return data
        known = {field.alias or name for name, field in cls.model_fields.items()}
        for key in data:
            if key not in known:
                close = difflib.get_close_matches(str(key), sorted(known), n=1)
                cure = f'did you mean "{close[0]}"?' if close else f"use one of {', '.join(sorted(known))}"
                raise ValueError(cls.refused().get(str(key), f'unknown field "{key}"; {cure}'))
        return {key: value for key, value in data.items() if value is not None}

    @classmethod
    def refused(cls) -> dict[str, str]:
        """Fields that others have and we do not, with what to do instead."""
        return {}


def validate(model: type[M], data: Any, *, name: str) -> M:
    """The model of this data. Raises ConfigError with all mistakes."""
    try:
        return model.model_validate(data)
    except ValidationError as e:
        raise ConfigError(f"cannot use {name}: " + "; ".join(mistakes(e))) from e


def mistakes(error: ValidationError) -> list[str]:
    """Each mistake as `place: text`, without the value, which may be a secret."""
    out = []
    for one in error.errors(include_url=False, include_input=False):
        place = ""
        for part in one["loc"]:
            place += f"[{part}]" if isinstance(part, int) else (f".{part}" if place else str(part))
        text = _CURES.get(one["type"], one["msg"].removeprefix("Value error, "))
        if text.startswith("Input should "):
            text = "must " + text.removeprefix("Input should ")
        out.append(f"{place}: {text}" if place else text)
    return out


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _size(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    number = value.rstrip("iBKMGTPE")
    unit = value[len(number) :].strip()
    if unit not in _SIZE_UNITS or not number.strip().isdecimal():
        raise ValueError(f'cannot read size "{value}"; write a whole number with a unit, such as 512MB')
    return int(number) * _SIZE_UNITS[unit]


def parse_size(text: str) -> int:
    """Bytes of a text such as `512MB`; units are powers of 1024, as in Prometheus."""
    size: int = _size(text)
    return size


def hide_password(url: str) -> str:
    """The URL with a password in it replaced."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:xxxxx@{host}"))


Duration = Annotated[float, BeforeValidator(_duration), PlainSerializer(format_duration)]
Size = Annotated[int, BeforeValidator(_size)]
Secret = Annotated[SecretStr, PlainSerializer(lambda _: SECRET)]
Url = Annotated[str, PlainSerializer(hide_password)]


def to_yaml(model: BaseModel) -> str:
    """The model as YAML: only what was set, secrets hidden, durations as they are written."""
    text: str = yaml.safe_dump(
        model.model_dump(mode="json", exclude_unset=True, by_alias=True), sort_keys=False, allow_unicode=True
    )
    return text


def resolve_path(path: str, base: Path | None) -> str:
    """A file's path, relative to the configuration file's folder."""
    return path if not path or base is None or Path(path).is_absolute() else str(base / path)
