"""The web UI's files: built elsewhere into `static/`, served here with headers that keep a page to itself.

Pages are one application: every page path answers with `index.html`, whose assets have hashed names and may be kept.
"""

from pathlib import Path

from aiohttp import web

STATIC = Path(__file__).parent / "static"
PAGES = ("/", "/query", "/graph", "/targets", "/alerts", "/rules", "/nodes", "/status")
_KINDS = {
    ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png",
    ".ico": "image/x-icon", ".woff2": "font/woff2", ".json": "application/json", ".map": "application/json",
}  # fmt: skip
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
_YEAR = "public, max-age=31536000, immutable"


def find(folder: Path, path: str) -> Path | None:
    """The file of this path; one that leads out of the folder does not exist."""
    file = (folder / path).resolve()
    inside = file.is_relative_to(folder.resolve())
    return file if inside and file.suffix in _KINDS and file.is_file() else None


def add_ui(app: web.Application, *, folder: Path = STATIC) -> None:
    """Serve the folder's files, and its index.html as every page."""

    def answer(path: Path, *, cache: str) -> web.Response:
        kind = _KINDS.get(path.suffix, "application/octet-stream")
        response = web.Response(body=path.read_bytes(), content_type=kind, headers={**HEADERS, "Cache-Control": cache})
        if kind.startswith("text/") or path.suffix in (".svg", ".json", ".map"):
            response.charset = "utf-8"
            response.enable_compression()
        return response

    async def page(_: web.Request) -> web.Response:
        index = folder / "index.html"
        if not index.is_file():
            return web.Response(status=404, text="The web UI is not built into this copy; run `make ui`.\n")
        return answer(index, cache="no-cache")

    async def file(request: web.Request) -> web.Response:
        path = find(folder, request.match_info["path"])
        if path is None:
            raise web.HTTPNotFound(text=f"There is no {request.path} here.\n")
        hashed = path.parent.name == "assets"
        return answer(path, cache=_YEAR if hashed else "no-cache")

    for one in PAGES:
        app.router.add_get(one, page)
    app.router.add_get("/{path:assets/.+}", file)
    app.router.add_get(r"/{path:[^/]+\.(?:svg|png|ico|json|js|css|woff2)}", file)
