"""The server's application: which address does what."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import APIRouter, FastAPI, Query, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

from unheard import __version__
from unheard.errors import did_you_mean
from unheard.recogniser.formats import Job, Sink, writer
from unheard.recogniser.prediction import Prediction
from unheard.recogniser.recogniser import Recogniser
from unheard.server import live
from unheard.server.answers import Answer, Health, Limits, Problem, Readiness
from unheard.server.guard import Guard
from unheard.server.metrics import REGISTRY
from unheard.server.page import page_routes, rendered
from unheard.server.progress import LINES, Progress
from unheard.server.refusals import STATUSES, Refusal
from unheard.server.scoring import Scored, Scorer, inspect
from unheard.server.settings import ServerSettings
from unheard.server.upload import Budget, Drain, read_upload
from unheard.server.work import Job as Turn
from unheard.server.work import Work

Score: TypeAlias = Callable[[Scorer], list[Scored]]

TEXT_TYPES = {"csv": "text/csv; charset=utf-8", "rttm": "text/plain; charset=utf-8"}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem, "description": STATUSES[status]} for status in statuses}


def _problems_of_text(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """As `_problems`, of an address whose answer is text: FastAPI would describe its problems as text too."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
    return {status: {"content": content, "description": STATUSES[status]} for status in statuses}


_ANY = (400, 401, 403, 421, 500)
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
            "with the recording as `file` and clips of the same speaker as `enrol`.",
            "content": {
                **{
                    kind: {"schema": _BINARY}
                    for kind in ("application/octet-stream", "audio/wav", "audio/flac", "audio/ogg", "audio/mpeg")
                },
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "properties": {"file": _BINARY, "enrol": {"type": "array", "items": _BINARY}},
                    }
                },
            },
        }
    },
}

Channel = Annotated[str, Query(pattern=r"^(mix|left|right|[1-9][0-9]?)$", description="mix, left, right or a number")]
Embedding = Annotated[bool, Query(description="Send the embedding too")]
Steps = Annotated[bool, Query(description="Send every step of one hop too, not only the segments made of them")]
Confidence = Annotated[
    float, Query(ge=0, le=1, description='Abstain as "uncertain" where the highest probability is below this one')
]
Format = Annotated[
    Literal["json", "csv", "rttm"] | None, Query(description="Default: json, or what the Accept header names")
]

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
    app.state.work, app.state.budget = Work(settings), Budget(settings.upload_megabytes * 1_000_000)
    app.include_router(router)
    app.router.routes.extend(page_routes())
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(Drain, settings=settings)  # the outermost
    app.add_exception_handler(HTTPException, _no_such_address)
    app.add_exception_handler(RequestValidationError, _wrong_parameter)
    return app


@router.post("/predict", response_model=Answer, operation_id="predict", **_UPLOAD)
async def predict(
    request: Request,
    channel: Channel = "mix",
    embedding: Embedding = False,
    steps: Steps = False,
    format: Format = None,
    min_confidence: Confidence = 0.0,
) -> Response:
    """Recognise the emotion of a recording, with its timeline; adapted to the speaker of the `enrol` clips, if any."""
    of = partial(Answer.of, embedding=embedding, steps=steps)
    return await _answer(request, format, of, lambda scorer: [scorer.one(channel, min_confidence)], many=False)


@router.post("/channels", response_model=list[Answer], operation_id="channels", **_UPLOAD)
async def channels(
    request: Request,
    embedding: Embedding = False,
    steps: Steps = False,
    format: Format = None,
    min_confidence: Confidence = 0.0,
) -> Response:
    """Recognise the emotion in every channel on its own, as for the two sides of a call."""
    of = partial(Answer.of, embedding=embedding, steps=steps)
    return await _answer(request, format, of, lambda scorer: scorer.each(min_confidence), many=True)


@router.websocket("/stream")
async def stream(socket: WebSocket) -> None:
    """Recognise speech as it arrives; see `unheard.server.live`."""
    await live.converse(socket)


@router.get("/health", tags=["server"], operation_id="health", responses=_problems(400, 403, 421, 500))
async def health(request: Request) -> Health:
    """Return the model, its licence and the server's limits."""
    state = request.app.state
    settings: ServerSettings = state.settings
    model = state.recogniser.model
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
    if request.app.state.work.stopped.is_set():
        raise Refusal("stopping")
    return Readiness(ready=True)


@router.get(
    "/card", tags=["server"], operation_id="card", response_class=PlainTextResponse,
    responses={200: {"content": {"text/html": {}}}, **_problems_of_text(400, 403, 421, 422, 500)},
)  # fmt: skip
async def card(request: Request, format: Literal["markdown", "html"] = "markdown") -> Response:
    """Return the model card: training data, licences, accuracy, limits, what it must not be used for."""
    text: str = request.app.state.recogniser.model.card() or "This model came without a card.\n"
    if format == "html":
        return Response(rendered(text), media_type="text/html; charset=utf-8")
    return PlainTextResponse(text)


@router.get("/metrics", tags=["server"], operation_id="metrics", response_class=PlainTextResponse,
            responses=_problems_of_text(*_ANY))  # fmt: skip
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


async def _answer(
    request: Request, format: str | None, of: Callable[[Scored], Answer], score: Score, *, many: bool
) -> Response:
    """Answer in the format asked for; `many`: with a list."""
    turn = Turn()
    if format is None and LINES in request.headers.get("accept", ""):
        return Progress(turn, lambda: _scored(request, score, turn, many), of)
    scored = await _scored(request, score, turn, many)
    if text := _as_text(request, format, scored):
        return text
    answers = [of(one).model_dump() for one in scored]
    return JSONResponse(answers if many else answers[0])


async def _scored(request: Request, score: Score, turn: Turn, many: bool) -> list[Scored]:
    """Read the upload, admit it, and return the results when its turn has come."""
    state = request.app.state
    settings: ServerSettings = state.settings
    work: Work = state.work
    known = [one.alias for one in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            raise Refusal("unknown_parameter", name, did_you_mean(name, known))
    if work.stopped.is_set():
        raise Refusal("stopping")
    with state.budget.hold() as holding:
        upload = await read_upload(request, settings, holding)
        if upload.enrol and many:
            mend = "Send enrol to /predict?channel=left."
            raise Refusal("unexpected_part", "every channel has a speaker of its own", mend)
        longest = settings.max_seconds
        header = inspect(upload, longest)
        turn.seconds = min(header.seconds, longest) + sum(map(len, upload.enrol)) / 32_000
        scorer = Scorer(state.recogniser, upload, header, longest, turn)
        return await work.run(lambda _: score(scorer), turn, _gone(request))


async def _gone(request: Request) -> None:
    """Return when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _as_text(request: Request, format: str | None, scored: list[Scored]) -> Response | None:
    """The predictions as CSV or RTTM where that is asked for, else None."""
    accepted = request.headers.get("accept", "")
    chosen = format or ("csv" if "text/csv" in accepted else "rttm" if "rttm" in accepted else "json")
    if chosen == "json":
        return None
    model = request.app.state.recogniser.model
    text = io.StringIO()
    out = writer(chosen, Job(model.labels, model.name, timeline=True), Sink(text))
    for one in scored:
        prediction: Prediction = one.prediction
        out.add(prediction)
    out.close()
    return Response(text.getvalue(), media_type=TEXT_TYPES[chosen])


async def _no_such_address(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "wrong_method"}.get(error.status_code, "bad_request")
    return Refusal(code, error.detail, headers=error.headers).response()


async def _wrong_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = " ".join(str(part) for part in first["loc"])
    return Refusal("wrong_parameter", f"{name}: {first['msg']}").response()
