"""Pages for people: `/` shows groups with their alerts and the silences, `/silences/new` is a form for one.

Rendered here, without a build; the form sends JSON to the API. All text is escaped, and the pages may load nothing
else.
"""

import secrets
from html import escape

from aiohttp import web

from bellbuoy.alertmanager.alerts import Alert, by_place
from bellbuoy.alertmanager.dispatch import Dispatcher, Group
from bellbuoy.alertmanager.matchers import format_matchers
from bellbuoy.alertmanager.service import Service
from bellbuoy.alertmanager.times import to_datetime
from bellbuoy.labels import format_labels

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1d2433}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #dde;vertical-align:top}
code{background:#eef1f6;border-radius:3px;padding:0 .25rem;overflow-wrap:anywhere}
.firing{border-left:4px solid #d50000}.suppressed{border-left:4px solid #99a}.quiet{color:#667}
label{display:block;margin:.8rem 0}input{display:block;font:inherit;width:100%;max-width:40rem;padding:.3rem}
button{font:inherit;padding:.4rem 1rem}
"""
_SCRIPT = """
const form=document.querySelector("form"),out=document.querySelector("output");
form.addEventListener("submit",async event=>{event.preventDefault();const data=new FormData(form);
const pattern=/^\\s*("(?:[^"\\\\]|\\\\.)*"|[^=!~\\s]+)\\s*(=~|!=|!~|=)\\s*"((?:[^"\\\\]|\\\\.)*)"\\s*,?/s;
let rest=data.get("filter").trim().replace(/^\\{|\\}$/g,""),matchers=[];
while(rest.trim()){const m=rest.match(pattern);if(!m){out.textContent="cannot read the matchers at: "+rest;return}
matchers.push({name:m[1].startsWith('"')?JSON.parse(m[1]):m[1],value:JSON.parse('"'+m[3]+'"'),
isRegex:m[2].includes("~"),isEqual:!m[2].includes("!")});rest=rest.slice(m[0].length)}
const now=new Date(),end=new Date(+now+3600e3*Number(data.get("hours")));
const answer=await fetch("../api/v2/silences",{method:"POST",headers:{"Content-Type":"application/json"},
body:JSON.stringify({matchers,startsAt:now,endsAt:end,createdBy:data.get("by"),comment:data.get("comment")})});
const body=await answer.json();
out.textContent=answer.ok?"silenced until "+end.toLocaleString()+" ("+body.silenceID+")":(body.message||body)});
"""


def add_pages(app: web.Application, service: Service) -> None:
    """Add the pages to the application."""

    async def overview(_: web.Request) -> web.Response:
        return _page("Alerts", _groups(service) + _silences(service))

    async def form(request: web.Request) -> web.Response:
        return _page("New silence", _form(request.query.get("filter", "")), script=_SCRIPT)

    app.router.add_get("/", overview)
    app.router.add_get("/silences/new", form)


def _page(title: str, body: str, *, script: str = "") -> web.Response:
    nonce = secrets.token_urlsafe(16)
    code = f'<script nonce="{nonce}">{script}</script>' if script else ""
    html = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<title>{escape(title)} · Bellbuoy</title><style nonce="{nonce}">{_STYLE}</style>'
        f"<h1>{escape(title)}</h1>{body}{code}</html>"
    )
    policy = f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'"
    headers = {"Content-Security-Policy": policy + "; form-action 'none'; frame-ancestors 'none'"}
    return web.Response(text=html, content_type="text/html", headers=headers)


def _groups(service: Service) -> str:
    dispatcher = service.dispatcher
    if dispatcher is None:
        return f"<p>No configuration yet. {escape(service.config_error)}</p>"
    now = service.clock.now()
    parts = []
    for group in dispatcher.groups():
        firing = [alert for alert in group.alerts.values() if not alert.resolved_at(now)]
        if firing:
            parts.append(_group(dispatcher, group, sorted(firing, key=by_place)))
    return "".join(parts) or '<p class="quiet">Nothing fires.</p>'


def _group(dispatcher: Dispatcher, group: Group, alerts: list[Alert]) -> str:
    muted = dispatcher.muted_by(group.route)
    rows = []
    for alert in alerts:
        muting = dispatcher.muting(alert.labels)
        why = [f"silenced by {key}" for key in muting.silenced_by]
        why += [f"inhibited by {key:016x}" for key in muting.inhibited_by] + [f"muted in {name}" for name in muted]
        own = {name: value for name, value in alert.labels.items() if name not in group.labels}
        text = alert.annotations.get("summary") or alert.annotations.get("description") or ""
        rows.append(
            f'<tr class="{"suppressed" if why else "firing"}"><td>{escape(alert.name)}<br>'
            f"<code>{escape(format_labels(own))}</code></td><td>{escape(text)}</td>"
            f"<td>{_time(alert.starts_at)}</td><td>{escape(', '.join(why)) or 'active'}</td></tr>"
        )
    labels = format_labels(group.labels) if group.labels else "all alerts"
    return (
        f"<h2><code>{escape(labels)}</code> → {escape(group.route.receiver)}</h2>"
        f"<table><tr><th>alert<th>says<th>since<th>state</tr>{''.join(rows)}</table>"
    )


def _silences(service: Service) -> str:
    now = service.clock.now()
    rows = [
        f"<tr><td><code>{escape(format_matchers(silence.matchers))}</code></td><td>{silence.state(now)}</td>"
        f"<td>{_time(silence.ends_at)}</td><td>{escape(silence.created_by)}: {escape(silence.comment)}</td></tr>"
        for silence in sorted(service.silences.all(), key=lambda s: s.ends_at)
        if silence.state(now) != "expired"
    ]
    table = f"<table><tr><th>matchers<th>state<th>until<th>by</tr>{''.join(rows)}</table>" if rows else ""
    return f'<h2>Silences</h2>{table}<p><a href="silences/new">New silence</a></p>'


def _form(matchers: str) -> str:
    return (
        f'<form><label>Matchers<input name="filter" required value="{escape(matchers, quote=True)}"></label>'
        '<label>Hours<input name="hours" type="number" min="0.1" step="any" value="2" required></label>'
        '<label>By<input name="by" required></label><label>Comment<input name="comment" required></label>'
        '<button>Silence</button></form><p><output></output></p><p><a href="../">All alerts</a></p>'
    )


def _time(moment: int) -> str:
    return to_datetime(moment).strftime("%Y-%m-%d %H:%M:%S UTC")
