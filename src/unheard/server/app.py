"""The server's application: which address does what."""

import asyncio
import io
import json
import re
from collections.abc import Awaitable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Query, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from markdown_it import MarkdownIt
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from unheard import __version__
from unheard.errors import did_you_mean
from unheard.recogniser.formats import Job as WriterJob
from unheard.recogniser.formats import Sink, writer
from unheard.recogniser.recogniser import Recogniser
from unheard.samples import samples
from unheard.server import live
from unheard.server.answers import Answer, Health, Limits, OneChannel, Options, Problem, Readiness
from unheard.server.guard import Guard
from unheard.server.refusals import STATUSES, Refusal
from unheard.server.scoring import Scored, inspect, score
from unheard.server.settings import ServerSettings
from unheard.server.upload import PARTS, Budget, Drain, read_upload
from unheard.server.work import REGISTRY, Job, Work

TEXT_TYPES = {"csv": "text/csv; charset=utf-8", "rttm": "text/plain; charset=utf-8"}
LINES = "application/x-ndjson"

EVERY = 0.2  # seconds between two lines of progress


def _problems(*statuses: int, text: bool = False) -> dict[int | str, dict[str, Any]]:
    """Describe refusals; where the answer is `text`, FastAPI would describe a model as text too."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
    kind: dict[str, Any] = {"content": content} if text else {"model": Problem}
    return {status: {**kind, "description": STATUSES[status]} for status in statuses}


_ANY = (400, 401, 403, 421, 500)
_TYPES = ("application/octet-stream", "audio/wav", "audio/flac", "audio/ogg", "audio/mpeg")
_BINARY = {"type": "string", "format": "binary"}
_UPLOAD: dict[str, Any] = {
    "tags": ["recognise"],
    "responses": {
        200: {
            "description": "JSON, or the format asked for; `Accept: application/x-ndjson` sends lines of "
            '`{"progress": 0.4}` and then one with `answer` (a list) or `problem`.',
            "content": {"text/csv": {}, "text/plain": {}, LINES: {}},
        },
        **_problems(*_ANY, 408, 413, 415, 422, 429, 503, 504),
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "description": "The bytes of a recording (WAV, FLAC, OGG, MP3 and what else libsndfile reads), or a form "
            "with the recording as `file` and, for /predict, clips of the same speaker as `enrol`, or who spoke when "
            "as `segments` (.rttm, .TextGrid, .srt, .vtt, .csv, .tsv, .jsonl).",
            "content": {
                **{kind: {"schema": _BINARY} for kind in _TYPES},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "properties": {
                            "file": _BINARY,
                            "enrol": {"type": "array", "items": _BINARY},
                            "segments": {**_BINARY, "example": "start,end,speaker\n0.0,1.6,Anna\n2.0,3.9,Bo\n"},
                        },
                    }
                },
            },
        }
    },
}

router = APIRouter(redirect_slashes=False)


def create_app(recogniser: Recogniser, settings: ServerSettings | None = None) -> FastAPI:
    """Create an ASGI application that answers with this recogniser."""
    settings = settings or ServerSettings()
    app = FastAPI(
        title="unheard",
        version=__version__,
        summary="Emotion in speech, for voices the model has never heard",
        description="Nothing that is sent is kept. An estimate of how speech sounds; not for decisions about people.",
        docs_url=None,  # these pages load scripts from elsewhere; /docs below does not
        redoc_url=None,
        redirect_slashes=False,
        openapi_tags=[
            {"name": "recognise", "description": "Send a recording"},
            {"name": "server", "description": "Ask about the server and its model"},
        ],
    )
    app.state.recogniser, app.state.settings = recogniser, settings
    app.state.work, app.state.budget = Work(settings), Budget(settings.budget)
    app.include_router(router)
    app.router.routes.extend(page_routes())
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(Drain, settings=settings)  # the outermost
    app.add_exception_handler(HTTPException, _no_such_address)
    app.add_exception_handler(RequestValidationError, _wrong_parameter)
    return app


@router.post("/predict", response_model=Answer, operation_id="predict", **_UPLOAD)
async def predict(request: Request, options: Annotated[OneChannel, Query()]) -> Response:
    """Recognise the emotion of a recording, with its timeline; adapted to the speaker of the `enrol` clips, if any.

    With `segments`, each turn is recognised, adapted to the other turns of its speaker.
    """
    return await _answer(request, options, options.channel)


@router.post("/channels", response_model=list[Answer], operation_id="channels", **_UPLOAD)
async def channels(request: Request, options: Annotated[Options, Query()]) -> Response:
    """Recognise the emotion in every channel on its own, as for the two sides of a call."""
    return await _answer(request, options, None)


@router.websocket("/stream")
async def stream(socket: WebSocket) -> None:
    """Recognise speech as it arrives; see `unheard.server.live`."""
    await live.converse(socket)


@router.get("/health", tags=["server"], operation_id="health", responses=_problems(400, 403, 421, 500))
async def health(request: Request) -> Health:
    """Return the model, its licence and the server's limits."""
    state = request.app.state
    settings, model = state.settings, state.recogniser.model
    return Health(
        status="ok",
        version=__version__,
        model=model.name,
        labels=list(model.labels),
        licence=model.metadata.licence,
        commercial_use=model.commercial_use,
        adapts=model.profile_width > 0,
        busy=state.work.taken,
        limits=Limits(
            bytes=settings.bytes,
            seconds=settings.max_seconds,
            timeout=settings.timeout,
            concurrency=settings.threads,
            waiting=settings.waiting,
        ),
    )


@router.get("/ready", tags=["server"], operation_id="ready", responses=_problems(400, 403, 421, 500, 503))
async def ready(request: Request) -> Readiness:
    """Return whether the server takes work; 503 as soon as it begins to stop."""
    request.app.state.work.check_running()
    return Readiness(ready=True)


@router.get(
    "/card", tags=["server"], operation_id="card", response_class=PlainTextResponse,
    responses={200: {"content": {"text/html": {}}}, **_problems(400, 403, 421, 422, 500, text=True)},
)  # fmt: skip
async def card(request: Request, format: Literal["markdown", "html"] = "markdown") -> Response:
    """Return the model card: training data, licences, accuracy, limits, what it must not be used for."""
    text: str = request.app.state.recogniser.model.card() or "This model came without a card.\n"
    if format == "html":
        return Response(rendered(text), media_type="text/html; charset=utf-8")
    return PlainTextResponse(text)


@router.get("/metrics", tags=["server"], operation_id="metrics", response_class=PlainTextResponse,
            responses=_problems(*_ANY, text=True))  # fmt: skip
async def metrics() -> Response:
    """Return this process's metrics in the format of Prometheus."""
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The interface as a page that loads nothing from elsewhere."""
    described = request.app.openapi()
    lines = [f"# {described['info']['title']} {described['info']['version']}", described["info"]["description"]]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            lines += [f"## {method.upper()} {path}", operation["description"]]
            lines += [f"- `?{p['name']}=` {p.get('description', '')}" for p in operation.get("parameters", [])]
            lines += [f"- {status}: {answer['description']}" for status, answer in operation["responses"].items()]
    lines += ["## WS /stream", str(live.__doc__)]
    head = '<!doctype html><html lang=en><meta name=viewport content="width=device-width"><title>unheard: API</title>'
    page = f"{head}<link rel=stylesheet href=style.css><main>{rendered(chr(10).join(lines))}</main></html>"
    return Response(page, media_type="text/html; charset=utf-8")


async def _answer(request: Request, options: Options, channel: str | None) -> Response:
    """Answer in the format asked for: for one channel, or (None) a list with one answer for each."""
    job, chosen = Job(), options.format or _accepted(request.headers.get("accept", ""))
    scored = _scored(request, options, channel, job)
    if chosen == "ndjson":
        return _Progress(job, scored, options)
    found = await scored
    if chosen == "json":
        answers = _plain(found, options)
        return JSONResponse(answers if channel is None else answers[0])
    model, text = request.app.state.recogniser.model, io.StringIO()
    turns = any(one.prediction.of_speakers() for one in found)
    out = writer(chosen, WriterJob(model.labels, model.name, timeline=True, turns=turns), Sink(text))
    for one in found:
        out.add(one.prediction)
    out.close()
    return Response(text.getvalue(), media_type=TEXT_TYPES[chosen])


def _accepted(header: str) -> str:
    """Return the format that an Accept header prefers: csv, rttm, ndjson (progress), or json."""
    kinds = re.findall(r"\b(csv|rttm|ndjson|json)\b[^,]*?(?:;\s*q=([01]\.?\d*)[^,]*)?(?:,|$)", header.lower())
    found = [(float(weight or 1), name) for name, weight in kinds]
    best = max((weight for weight, _ in found), default=0.0)
    return next((name for weight, name in found if weight == best > 0), "json")


def _plain(scored: list[Scored], options: Options) -> list[dict[str, Any]]:
    return [Answer.of(one, embedding=options.embedding, steps=options.steps) for one in scored]


async def _scored(request: Request, options: Options, channel: str | None, job: Job) -> list[Scored]:
    """Read the upload, admit it, and return the results when its turn has come."""
    state, longest = request.app.state, request.app.state.settings.max_seconds
    state.work.check_running()
    with state.budget.hold() as hold:
        upload = await read_upload(request, state.settings, hold)
        if channel is None and (upload.enrol or upload.segments):
            mend = "Send enrol and segments to /predict?channel=left."
            raise Refusal("unexpected_part", "every channel has a speaker of its own", mend)
        if upload.enrol and upload.segments:
            raise Refusal("unexpected_part", "enrol is of one speaker, and segments name several", PARTS)
        header = await asyncio.to_thread(inspect, upload, longest)
        job.seconds = min(header.seconds, longest) + sum(map(len, upload.enrol)) / 32_000
        if upload.segments:  # whose recording is decoded as a whole, and scored twice
            hold(round(4.5 * state.recogniser.model.metadata.features.sample_rate * job.seconds))
            job.seconds *= 2
        work: Work = state.work
        begin = partial(score, state.recogniser, upload, header, longest, job, channel, options.min_confidence)
        return await work.run(begin, job, _gone(request))


async def _gone(request: Request) -> None:
    """Return when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Progress(Response):
    """An answer that tells how far the work is: lines of `{"progress": 0.4}`, then one of `answer` or `problem`.

    A request refused before it is admitted has the status of the refusal, as without progress.
    """

    def __init__(self, job: Job, scored: Awaitable[list[Scored]], options: Options) -> None:
        super().__init__(media_type=LINES, headers={"X-Accel-Buffering": "no"})  # nginx sends each line at once
        del self.headers["content-length"]
        self.job, self.scored, self.options = job, scored, options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the lines; raises `Refusal` before the first one."""
        began = False

        async def line(value: dict[str, Any], more: bool = True) -> None:
            nonlocal began
            if not began:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                began = True
            await send({"type": "http.response.body", "body": json.dumps(value).encode() + b"\n", "more_body": more})

        task = asyncio.ensure_future(self.scored)
        try:
            while not (await asyncio.wait({task}, timeout=EVERY))[0]:
                if self.job.share is not None:
                    await line({"progress": round(self.job.share, 3)})
            last: dict[str, Any] = {"answer": _plain(task.result(), self.options)}
        except Exception as error:
            if not began:
                raise
            last = {"problem": (error if isinstance(error, Refusal) else Refusal("internal")).as_dict()}
        finally:
            task.cancel()
        await line(last, more=False)


async def _no_such_address(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "wrong_method"}.get(error.status_code, "bad_request")
    return Refusal(code, error.detail, headers=error.headers).response()


async def _wrong_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = " ".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = (OneChannel if request.url.path.endswith("/predict") else Options).model_fields
        return Refusal("unknown_parameter", first["loc"][-1], did_you_mean(first["loc"][-1], known)).response()
    return Refusal("wrong_parameter", f"{name}: {first['msg']}").response()


# The page at `/`: its files, read once, from the package and from nowhere else; and Markdown as HTML.

PAGE = Path(__file__).parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ogg": "audio/ogg",
}
"""Ending of a file of the page -> content type."""


def page_routes() -> list[Route]:
    """Return a route for every file of the page and every sample; `/` is index.html."""
    own = [_route(file, file.name) for file in sorted(PAGE.iterdir()) if file.suffix in TYPES]
    clips = samples()
    index = json.dumps([{"file": one.file, "language": one.language, "emotion": one.emotion} for one in clips])

    async def listed(_: Request) -> Response:
        return Response(index, media_type="application/json")

    return [*own, Route("/samples", listed), *(_route(one.path, f"samples/{one.file}") for one in clips)]


def _route(file: Path, name: str) -> Route:
    content, kind = file.read_bytes(), TYPES[file.suffix]

    async def serve(_: Request) -> Response:
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    return Route("/" if name == "index.html" else f"/{name}", serve)


def rendered(markdown: str) -> str:
    """Render Markdown from strangers as HTML: no HTML of theirs, no scripts; front matter is left out."""
    text = re.sub(r"\A---\n.*?\n---\n", "", markdown, flags=re.DOTALL)
    return str(MarkdownIt("commonmark", {"html": False}).enable("table").disable("image").render(text))
