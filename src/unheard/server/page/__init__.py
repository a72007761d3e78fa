"""The page at `/`: its files, read once, from the package and from nowhere else; and Markdown as HTML."""

from __future__ import annotations

import json
import re
from pathlib import Path

from markdown_it import MarkdownIt
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from unheard.samples import samples

FOLDER = Path(__file__).parent
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ogg": "audio/ogg",
}


def page_routes() -> list[Route]:
    """Return a route for every file of the page and every sample; `/` is index.html."""
    own = [_route(file, file.name) for file in sorted(FOLDER.iterdir()) if file.suffix in TYPES]
    clips = samples()
    index = json.dumps([{"file": one.file, "language": one.language, "emotion": one.emotion} for one in clips])

    async def listed(_: Request) -> Response:
        return Response(index, media_type="application/json")

    return [*own, Route("/samples", listed), *(_route(one.path, f"samples/{one.file}") for one in clips)]


def rendered(markdown: str) -> str:
    """Render Markdown from strangers as HTML: no HTML of theirs, no scripts; front matter is left out."""
    text = re.sub(r"\A---\n.*?\n---\n", "", markdown, flags=re.DOTALL)
    return str(MarkdownIt("commonmark", {"html": False}).enable("table").disable("image").render(text))


def _route(file: Path, name: str) -> Route:
    content, kind = file.read_bytes(), TYPES[file.suffix]

    async def serve(_: Request) -> Response:
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    return Route("/" if name == "index.html" else f"/{name}", serve)
