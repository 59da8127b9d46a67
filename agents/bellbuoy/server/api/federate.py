"""`/federate`: the newest sample of each series that is selected, as a page that a Prometheus scrapes.

What scrapes it keeps our labels with `honor_labels`, and gets our external labels where a series has none of that name.
A page is text, or protobuf for who wants that more. Native histograms have no form in text; they are left out of it, as
Prometheus leaves them out.
"""

import re
import time

import numpy as np
from aiohttp import web

from bellbuoy.exposition import go_number, series
from bellbuoy.http.compression import compress
from bellbuoy.labels import is_legacy_metric_name, quote
from bellbuoy.promql import QueryError
from bellbuoy.promql.values import is_histogram, is_stale, numbers_of
from bellbuoy.server.api.answers import STATUS, ApiError
from bellbuoy.server.api.federate_protobuf import PROTOBUF, protobuf_page, wants_protobuf
from bellbuoy.server.api.parameters import Parameters
from bellbuoy.server.parts import Parts
from bellbuoy.server.query_cost import restricted
from bellbuoy.tsdb import Histogram, LabelSets

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8; escaping="
_ANY_NAME = "escaping=allow-utf-8"


def underscores(name: str) -> str:
    """The name with _ for each character that names of old may not have."""
    out = re.sub(r"[^a-zA-Z0-9_:]", "_", name)
    return f"_{out}" if out[:1].isdigit() else out


Row = tuple[dict[str, str], int, float | Histogram]
"""Labels, time in milliseconds, and the sample."""


def page(rows: list[Row], external: dict[str, str], *, any_name: bool) -> str:
    """The page of these samples, `(labels, time, value)`, sorted by name; `any_name`: they may be any text."""
    out: list[str] = []
    last = ""
    for labels, time_ms, value in rows:
        name = labels.get("__name__", "")
        if not name or isinstance(value, Histogram):
            continue
        shown = name if any_name else underscores(name)
        if name != last:
            out.append(f"# TYPE {shown if is_legacy_metric_name(shown) else quote(shown)} untyped\n")
            last = name
        own = {key: word for key, word in labels.items() if key != "__name__"}
        pairs = own | {key: word for key, word in external.items() if key not in own}
        named = ((key if any_name else underscores(key).replace(":", "_"), word) for key, word in pairs.items())
        out.append(f"{series(shown, named)} {go_number(value)} {time_ms}\n")
    return "".join(out)


def newest(parts: Parts, selectors: list[tuple[tuple[str, str, str], ...]], now_ms: int) -> list[Row]:
    """The newest sample of each series within the lookback, sorted by name; one that has ended has none."""
    start = now_ms - round(parts.options.query.lookback_seconds * 1000)
    most = parts.options.query.max_samples
    found = [parts.storage.select(one, start, now_ms, max_samples=most) for one in selectors]
    labels = LabelSets.concat([one.labels for one in found])
    times = np.concatenate([np.empty(0, np.int64), *(one.timestamps[one.offsets[1:] - 1] for one in found)])
    values = np.concatenate([np.empty(0), *(one.values[one.offsets[1:] - 1] for one in found)])
    source = np.repeat(np.arange(len(found)), [len(one.labels) for one in found])
    _, rows = labels.group()
    rows = rows[~is_stale(values[rows])]
    rows = rows[labels.take(rows).order()]
    rows = rows[np.argsort(np.array(labels.take(rows).get("__name__"), object), kind="stable")]
    samples: list[float | Histogram] = values[rows].tolist()
    for at in np.flatnonzero(is_histogram(values[rows])).tolist():
        row = rows[at]
        samples[at] = found[source[row]].histograms[int(numbers_of(values[row : row + 1])[0])]
    return list(zip(labels.take(rows).to_dicts(), times[rows].tolist(), samples, strict=True))


async def federate(parts: Parts, request: web.Request) -> web.Response:
    """The page; errors are plain text, as those of other pages that are scraped."""
    try:
        parameters = await Parameters.of(request)
        wanted = parameters.selectors()
        selectors = [tuple(one) for one in restricted(wanted, parameters.filters())] if wanted else []
        accepted = request.headers.get("Accept", "")
        any_name, binary = _ANY_NAME in accepted, wants_protobuf(accepted)
        external = {"instance": "", **parts.external_labels}
        now_ms = round(time.time() * 1000)

        def work() -> bytes:
            rows = newest(parts, selectors, now_ms) if selectors else []
            common = dict(sorted(external.items()))
            if binary:
                return protobuf_page(rows, common, name=str if any_name else underscores)
            return page(rows, common, any_name=any_name).encode("utf-8", "replace")

        body = await parts.queries.run(request, lambda _: work())
    except (ApiError, QueryError) as e:
        return web.Response(status=STATUS[e.kind], text=f"{e}\n")
    except OverflowError as e:
        return web.Response(status=422, text=f"{e}\n")
    scheme = "allow-utf-8" if any_name else "underscores"
    response = web.Response(body=body, headers={"Content-Type": (PROTOBUF if binary else CONTENT_TYPE) + scheme})
    await compress(request, response)
    return response
