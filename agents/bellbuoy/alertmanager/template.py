"""The few placeholders that `title` and `text` of a receiver may hold, in Alertmanager's spelling.

`{{ .Status }}`, `{{ .Receiver }}`, `{{ .ExternalURL }}`, `{{ .GroupLabels.NAME }}`, `{{ .CommonLabels.NAME }}`, `{{
.CommonAnnotations.NAME }}`, `{{ len .Alerts.Firing }}`, `{{ len .Alerts.Resolved }}`, each with `| toUpper`, `|
toLower` or `| title` behind it. Loops and conditions are not here: a message that needs them is better made of our
blocks, and annotations have the server's full templates.
"""

import re
from collections.abc import Callable

from bellbuoy.alertmanager.notification import Notification

_PLACE = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.S)
_EXPRESSION = re.compile(
    r"(?:\.(?P<plain>Status|Receiver|ExternalURL)|\.(?P<kind>GroupLabels|CommonLabels|CommonAnnotations)\.(?P<name>\w+)"
    r"|len\s+\.Alerts(?:\.(?P<count>Firing|Resolved))?)(?:\s*\|\s*(?P<function>toUpper|toLower|title))?\Z"
)
_FUNCTIONS: dict[str | None, Callable[[str], str]] = {
    None: str,
    "toUpper": str.upper,
    "toLower": str.lower,
    "title": str.title,
}


def check_template(text: str) -> str:
    """The text as it is. Raises ValueError for a placeholder that we do not fill."""
    for expression in _PLACE.findall(text):
        if not _EXPRESSION.match(expression):
            raise ValueError(
                f"cannot fill {{{{ {expression} }}}}; use .Status, .Receiver, .ExternalURL, .GroupLabels.NAME, "
                ".CommonLabels.NAME, .CommonAnnotations.NAME or len .Alerts.Firing, with | toUpper, toLower or title"
            )
    if "{{" in _PLACE.sub("", text):
        raise ValueError("a {{ is not closed by }}; close it")
    return text


def fill(text: str, notification: Notification) -> str:
    """The text with its placeholders filled; a label or annotation that is not there is empty."""

    def value(found: re.Match[str]) -> str:
        part = _EXPRESSION.match(found[1])
        if part is None:
            raise ValueError(f"BUG: {found[0]} was not checked")
        if part["plain"]:
            out = {
                "Status": notification.status,
                "Receiver": notification.receiver,
                "ExternalURL": notification.external_url,
            }[part["plain"]]
        elif part["kind"]:
            pairs = {
                "GroupLabels": notification.group_labels,
                "CommonLabels": notification.common_labels,
                "CommonAnnotations": notification.common_annotations,
            }[part["kind"]]
            out = pairs.get(part["name"], "")
        else:
            counted = {"Firing": notification.firing, "Resolved": notification.resolved}
            out = str(len(counted[part["count"]] if part["count"] else notification.alerts))
        return _FUNCTIONS[part["function"]](out)

    return _PLACE.sub(value, text)
