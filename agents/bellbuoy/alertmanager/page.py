"""Pages for people: `/` shows groups with their alerts and the silences, `/silences/new` is a form for one.

Rendered here, without a build; what changes something is sent to the API as JSON by the script. All text is escaped,
and the pages may load nothing else.
"""

import secrets
from collections.abc import Mapping
from html import escape
from urllib.parse import quote

from aiohttp import web

from bellbuoy.alertmanager.alerts import Alert, by_place
from bellbuoy.alertmanager.dispatch import Dispatcher, Group
from bellbuoy.alertmanager.matchers import format_matchers, selector
from bellbuoy.alertmanager.service import Service
from bellbuoy.alertmanager.times import to_datetime
from bellbuoy.labels import format_labels

# A group shows this many alerts until it is asked for all.
SHOWN = 50
# The overview is read again this often, while someone looks.
REFRESH_SECONDS = 30
_STYLE = """
:root{color-scheme:light dark;--page:#eef2f5;--card:#fff;--text:#17232d;--muted:#566673;--edge:#d5dde4;--link:#0b62a0;
--back:#e6ebf0;--bad:#b3261e;--top:#0e3048}
@media(prefers-color-scheme:dark){:root{--page:#0d151c;--card:#15202a;--text:#e3eaf0;--muted:#9aabb9;--edge:#2a3a47;
--link:#74bdf2;--back:#263542;--bad:#ff9d94;--top:#0a2233}}
*{box-sizing:border-box}body{font:14px/1.5 system-ui,sans-serif;margin:0;background:var(--page);color:var(--text)}
header{background:var(--top);padding:0 24px;display:flex;flex-wrap:wrap;gap:0 24px;align-items:center}
header a{color:#d6e5f0;padding:12px 0 9px;border-bottom:3px solid transparent}
header b{color:#fff;font-size:17px}header [aria-current]{color:#fff;font-weight:600;border-color:#f2b632}
main{max-width:1100px;margin:0 auto;padding:20px 24px}h1{font-size:22px;margin:0 0 14px}
h2{font-size:15px;margin:0;overflow-wrap:anywhere}a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}
section{background:var(--card);border:1px solid var(--edge);border-radius:10px;padding:12px 16px;margin:0 0 14px}
section>p{margin:8px 0 0}table{border-collapse:collapse;width:100%;margin-top:8px}
td,th{text-align:left;padding:8px 10px;border-top:1px solid var(--edge);vertical-align:top;overflow-wrap:break-word}
thead th{color:var(--muted);font-size:12px;font-weight:500;border:0}td p{margin:2px 0 0;overflow-wrap:anywhere}
time,button{white-space:nowrap}::placeholder{color:var(--muted)}
code{font:13px ui-monospace,"DejaVu Sans Mono",monospace;background:var(--back);border-radius:4px;padding:0 4px;
overflow-wrap:anywhere}
tr.firing{box-shadow:inset 4px 0 var(--bad)}tr.quiet{box-shadow:inset 4px 0 var(--edge)}.muted{color:var(--muted)}
label{display:block;margin:0 0 12px}input,button{font:inherit;color:inherit;background:var(--card);
border:1px solid var(--edge);border-radius:6px;padding:5px 11px;min-height:34px}
input{display:block;width:100%;max-width:640px}button{cursor:pointer}
@media(max-width:720px){main{padding:14px 12px}header{padding:0 12px;gap:0 14px}header b{font-size:15px}
thead{display:none}table,tbody,tr,td{display:block}
td{border:0;padding:3px 10px;display:grid;grid-template-columns:70px 1fr;gap:0 8px}td>*{grid-column:2;min-width:0}
td::before{content:attr(data-title);color:var(--muted);font-size:12px;grid-row:1}
tr{border-top:1px solid var(--edge);padding:7px 0}}
"""
_SCRIPT = """
const out=document.querySelector("output"),form=document.querySelector("form");
const said=async answer=>{const text=await answer.text();try{const body=JSON.parse(text);return body.message??body}
catch{return text||"the alertmanager answered "+answer.status}};
const send=async(path,what)=>{try{return await fetch(path,what)}
catch{return new Response("The alertmanager does not answer.",{status:503})}};
for(const button of document.querySelectorAll("button[data-silence]"))button.addEventListener("click",async()=>{
const answer=await send("api/v2/silence/"+button.dataset.silence,{method:"DELETE"});
if(answer.ok)location.reload();else out.textContent="Cannot end it: "+await said(answer)});
form?.addEventListener("submit",async event=>{event.preventDefault();const data=new FormData(form);
const pattern=/^\\s*("(?:[^"\\\\]|\\\\.)*"|[^=!~\\s]+)\\s*(=~|!=|!~|=)\\s*"((?:[^"\\\\]|\\\\.)*)"\\s*,?/s;
let rest=data.get("filter").trim().replace(/^\\{|\\}$/g,""),matchers=[];
while(rest.trim()){const m=rest.match(pattern);
if(!m){out.textContent='Cannot read the matchers at: '+rest+'; they look like alertname="Slow", pod=~"web-.*"';return}
matchers.push({name:m[1].startsWith('"')?JSON.parse(m[1]):m[1],value:JSON.parse('"'+m[3]+'"'),
isRegex:m[2].includes("~"),isEqual:!m[2].includes("!")});rest=rest.slice(m[0].length)}
const now=new Date(),end=new Date(+now+3600e3*Number(data.get("hours")));
const answer=await send("../api/v2/silences",{method:"POST",headers:{"Content-Type":"application/json"},
body:JSON.stringify({matchers,startsAt:now,endsAt:end,createdBy:data.get("by"),comment:data.get("comment")})});
const body=await said(answer);
out.textContent=answer.ok?"silenced until "+end.toLocaleString()+" ("+body.silenceID+")":"Cannot silence: "+body});
"""


def add_pages(app: web.Application, service: Service) -> None:
    """Add the pages to the application."""

    async def overview(request: web.Request) -> web.Response:
        body = _groups(service, whole="whole" in request.query) + _silences(service)
        return _page("Alerts", body, root="", refresh_seconds=REFRESH_SECONDS)

    async def form(request: web.Request) -> web.Response:
        return _page("New silence", _form(request.query.get("filter", "")), root="../")

    app.router.add_get("/", overview)
    app.router.add_get("/silences/new", form)


def _page(title: str, body: str, *, root: str, refresh_seconds: int = 0) -> web.Response:
    """`root` leads from the page to `/`: addresses are relative, so that a proxy may put a prefix before them."""
    nonce = secrets.token_urlsafe(16)
    places = (("Alerts", root or "./"), ("New silence", f"{root}silences/new"))
    links = "".join(f'<a href="{to}"{" aria-current=page" if name == title else ""}>{name}</a>' for name, to in places)
    refresh = f'<meta http-equiv="refresh" content="{refresh_seconds}">' if refresh_seconds else ""
    html = (
        f'<!doctype html><html lang="en"><meta charset="utf-8">{refresh}'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>{escape(title)} · Bellbuoy</title><style nonce="{nonce}">{_STYLE}</style>'
        f"<header><b>Bellbuoy alertmanager</b>{links}</header>"
        f'<main><h1>{escape(title)}</h1>{body}</main><script nonce="{nonce}">{_SCRIPT}</script></html>'
    )
    policy = f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'"
    headers = {"Content-Security-Policy": policy + "; form-action 'none'; frame-ancestors 'none'"}
    return web.Response(text=html, content_type="text/html", headers=headers)


def _groups(service: Service, *, whole: bool) -> str:
    dispatcher = service.dispatcher
    if dispatcher is None:
        return f"<section>No configuration yet. {escape(service.config_error)}</section>"
    now = service.clock.now()
    parts = []
    for group in dispatcher.groups():
        firing = [alert for alert in group.alerts.values() if not alert.resolved_at(now)]
        if firing:
            parts.append(_group(dispatcher, group, sorted(firing, key=by_place), whole=whole))
    return "".join(parts) or '<section class="muted">Nothing fires.</section>'


def _group(dispatcher: Dispatcher, group: Group, alerts: list[Alert], *, whole: bool) -> str:
    muted = [f"muted in {name}" for name in dispatcher.muted_by(group.route)]
    shown = alerts if whole else alerts[:SHOWN]
    rows = "".join(_row(dispatcher, group, alert, muted) for alert in shown)
    labels = f"<code>{escape(format_labels(group.labels))}</code>" if group.labels else "all alerts"
    more = f'<p><a href="?whole">Show all {len(alerts)}</a></p>' if len(shown) < len(alerts) else ""
    silence = f' · <a href="{_silence_address(group.labels)}">silence all</a>' if group.labels else ""
    return (
        f'<section><h2>{labels} → {escape(group.route.receiver)}</h2><p class="muted">{len(alerts)} firing{silence}</p>'
        f"<table><thead><tr><th>Alert<th>Since<th>State</tr></thead><tbody>{rows}</tbody></table>{more}</section>"
    )


def _row(dispatcher: Dispatcher, group: Group, alert: Alert, muted: list[str]) -> str:
    muting = dispatcher.muting(alert.labels)
    why = [f"silenced by {key}" for key in muting.silenced_by]
    why += [f"inhibited by {key:016x}" for key in muting.inhibited_by] + muted
    own = {name: value for name, value in alert.labels.items() if name not in group.labels and name != "alertname"}
    text = alert.annotations.get("summary") or alert.annotations.get("description") or ""
    name, source = escape(alert.name), alert.generator_url
    if source.startswith(("http://", "https://")):
        name = f'<a href="{escape(source, quote=True)}" rel="noopener noreferrer">{name}</a>'
    says = f"<p>{escape(text)}</p>" if text else ""
    code = f"<p><code>{escape(format_labels(own))}</code></p>" if own else ""
    state = escape(", ".join(why)) or f'active<p><a href="{_silence_address(alert.labels)}">silence</a></p>'
    return (
        f'<tr class="{"quiet" if why else "firing"}"><td data-title="Alert"><div>{name}{says}{code}</div></td>'
        f'<td data-title="Since">{_time(alert.starts_at)}</td><td data-title="State"><div>{state}</div></td></tr>'
    )


def _silence_address(labels: Mapping[str, str]) -> str:
    return escape(f"silences/new?filter={quote(selector(labels))}", quote=True)


def _silences(service: Service) -> str:
    now = service.clock.now()
    rows = [
        f'<tr><td data-title="Matchers"><div><code>{escape(format_matchers(silence.matchers))}</code></div></td>'
        f'<td data-title="State">{silence.state(now)}</td><td data-title="Until">{_time(silence.ends_at)}</td>'
        f'<td data-title="By"><div>{escape(silence.created_by)}: {escape(silence.comment)}</div></td>'
        f'<td data-title=""><button type="button" data-silence="{escape(silence.id, quote=True)}">End it</button></td>'
        for silence in sorted(service.silences.all(), key=lambda s: s.ends_at)
        if silence.state(now) != "expired"
    ]
    head = "<thead><tr><th>Matchers<th>State<th>Until<th>By<th></tr></thead>"
    table = (
        f"<table>{head}<tbody>{''.join(rows)}</tbody></table>" if rows else '<p class="muted">Nothing is silenced.</p>'
    )
    return f'<section><h2>Silences</h2>{table}<p role="alert"><output></output></p></section>'


def _form(matchers: str) -> str:
    return (
        f'<section><form><label>Matchers<input name="filter" required value="{escape(matchers, quote=True)}"'
        ' placeholder="{alertname=&quot;Slow&quot;, pod=~&quot;web-.*&quot;}"></label>'
        '<label>Hours<input name="hours" type="number" min="0.1" step="any" value="2" required></label>'
        '<label>By<input name="by" required placeholder="who you are"></label>'
        '<label>Comment<input name="comment" required placeholder="why"></label>'
        '<button>Silence</button></form><p role="alert"><output></output></p></section>'
    )


def _time(moment: int) -> str:
    when = to_datetime(moment)
    return f'<time datetime="{when.isoformat()}">{when.strftime("%Y-%m-%d %H:%M:%S UTC")}</time>'
