"""The page at `/`: its files, read once, from the package and from nowhere else."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).parent
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def page_routes() -> list[Route]:
    """A route for every file of the page; `/` is its index.html."""
    return [_route(file) for file in sorted(FOLDER.iterdir()) if file.suffix in TYPES]


def _route(file: Path) -> Route:
    content, kind = file.read_bytes(), TYPES[file.suffix]

    async def serve(_: Request) -> Response:
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    return Route("/" if file.name == "index.html" else f"/{file.name}", serve)
