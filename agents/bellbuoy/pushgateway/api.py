"""What the groups look like to programs and to people: the JSON of `/api/v1/metrics`, and the status page."""

import html
from datetime import UTC, datetime
from typing import Any

from bellbuoy.exposition import go_number
from bellbuoy.exposition.text import SUFFIXES
from bellbuoy.pushgateway.families import Stored
from bellbuoy.pushgateway.grouping import path_of
from bellbuoy.pushgateway.store import Group, Store


def iso(seconds: float) -> str:
    """A time as RFC 3339; a push that never was is Go's year 1, as the reference writes it."""
    if not seconds:
        return "0001-01-01T00:00:00Z"
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _metrics(family: Stored) -> list[dict[str, Any]]:
    """The metrics of a family: one for each set of labels, a histogram's and a summary's lines put together."""
    if family.type not in SUFFIXES:
        return [{"labels": dict(sample.labels), "value": go_number(sample.value)} for sample in family.samples]
    part_label, parts = ("le", "buckets") if family.type == "histogram" else ("quantile", "quantiles")
    out: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for sample in family.samples:
        suffix = next((end for end in ("_sum", "_count") if sample.name == family.name + end), None)
        labels = tuple((name, value) for name, value in sample.labels if suffix or name != part_label)
        metric = out.setdefault(labels, {"labels": dict(labels), parts: {}, "count": "0", "sum": "0"})
        if suffix:
            metric[suffix[1:]] = go_number(sample.value)
        else:
            metric[parts][go_number(float(dict(sample.labels)[part_label]))] = go_number(sample.value)
    return list(out.values())


def group_json(group: Group) -> dict[str, Any]:
    """One group, as `/api/v1/metrics` lists it."""
    out: dict[str, Any] = {"labels": dict(group.labels), "last_push_successful": group.last_push_successful}
    for family in (*group.families.values(), *group.times()):
        said: dict[str, Any] = {"time_stamp": iso(family.pushed_at), "type": family.type.upper()}
        if family.help:
            said["help"] = family.help
        out[family.name] = said | {"metrics": _metrics(family)}
    return out


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Bellbuoy pushgateway</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ border-bottom: 1px solid #8884; padding: .4rem .6rem; text-align: left; vertical-align: top }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums }}
.bad {{ color: #c22 }}
</style>
<h1>Pushgateway</h1>
<p>{groups} groups, {series} series. <a href="{metrics}">Metrics</a> · <a href="api/v1/metrics">as JSON</a></p>
<table><thead><tr><th>Group<th>Metrics<th>Series<th>Last push<th>Last failure<th></tr></thead>
<tbody>
{rows}</tbody></table>
<script>
addEventListener("click", async (event) => {{
  const path = event.target.dataset.path;
  if (!path || !confirm("Delete this group?")) return;
  const answer = await fetch(path, {{method: "DELETE"}});
  if (answer.ok) location.reload(); else alert(await answer.text());
}});
</script></html>
"""


def _row(group: Group) -> str:
    labels = " ".join(f'{html.escape(name)}="{html.escape(value)}"' for name, value in group.labels)
    failed = not group.last_push_successful
    return (
        f"<tr><td><code>{labels}</code><td>{html.escape(', '.join(sorted(group.families)))}"
        f'<td class="number">{group.series}'
        f"<td>{iso(group.push_time) if group.push_time else 'never'}"
        f"<td{' class=bad' if failed else ''}>{iso(group.failure_time) if group.failure_time else 'never'}"
        f'<td><button data-path="{html.escape(path_of(group.labels))}">Delete</button></tr>\n'
    )


def status_page(store: Store, metrics_path: str) -> str:
    """The page for people: every group, when it was pushed to, and a button that deletes it."""
    groups = sorted(store.groups.values(), key=lambda group: group.labels)
    rows = "".join(_row(group) for group in groups)
    return _PAGE.format(
        groups=len(groups), series=store.series, metrics=html.escape(metrics_path.lstrip("/")), rows=rows
    )
