"""The server's application: which address does what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

from unheard import __version__
from unheard.errors import did_you_mean
from unheard.recogniser.profiles import SpeakerProfile
from unheard.recogniser.recogniser import Recogniser
from unheard.server.answers import Answer, Health, Learnt, Limits, Problem
from unheard.server.limits import Guard, Refusal, ServerSettings, Work
from unheard.server.page import page_routes
from unheard.server.tokens import read_token, write_token
from unheard.server.upload import Drain, Hearing, read_body

T = TypeVar("T")

REFUSALS = {
    400: "The connection ended, or the request is none.",
    403: "Another site is asking.",
    408: "The upload took too long.",
    413: "Too many bytes or seconds.",
    415: "The body is no recording.",
    421: "The server does not go by that name.",
    422: "The recording cannot be read, or a parameter is none that exists.",
    429: "Too much to do: try again after the seconds in `Retry-After`.",
    500: "Something went wrong in the server.",
    504: "No answer was found in time.",
}
_DOOR = {status: {"model": Problem, "description": REFUSALS[status]} for status in (400, 403, 421, 500)}
_UPLOAD: dict[str, Any] = {
    "responses": {status: {"model": Problem, "description": text} for status, text in REFUSALS.items()},
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "description": "The bytes of a recording: WAV, FLAC, OGG, MP3 and whatever else libsndfile reads.",
            "content": {
                kind: {"schema": {"type": "string", "format": "binary"}}
                for kind in ("application/octet-stream", "audio/wav", "audio/flac", "audio/ogg", "audio/mpeg")
            },
        }
    },
}

Channel = Annotated[str, Query(pattern=r"^(mix|left|right|[1-9][0-9]?)$", description="mix, left, right or a number")]
Token = Annotated[str | None, Header(alias="Voice", max_length=32_000, description="What `/voice` gave")]
Embedding = Annotated[bool, Query(description="Whether to send the embedding too")]
Steps = Annotated[bool, Query(description="Whether to send every step too, not only the segments made of them")]

router = APIRouter()


def create_app(recogniser: Recogniser, settings: ServerSettings | None = None) -> FastAPI:
    """An ASGI application that answers with this recogniser."""
    settings = settings or ServerSettings()
    app = FastAPI(
        title="unheard",
        version=__version__,
        summary="Emotion in speech, for voices the model has never heard",
        description="Nothing that is sent is kept. An estimate of how speech sounds; not for decisions about anyone.",
        docs_url=None,  # these pages load their scripts from elsewhere
        redoc_url=None,
    )
    app.state.recogniser, app.state.settings = recogniser, settings
    app.state.work = Work(settings.concurrency, settings.waiting)
    app.include_router(router)
    app.router.routes.extend(page_routes())
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(Drain, settings=settings)  # the outermost
    app.add_exception_handler(HTTPException, _no_such_thing)
    app.add_exception_handler(RequestValidationError, _wrong_parameter)
    return app


@router.post("/predict", **_UPLOAD)
async def predict(
    request: Request,
    channel: Channel = "mix",
    embedding: Embedding = False,
    steps: Steps = False,
    voice: Token = None,
) -> Answer:
    """The emotion of a recording, and its timeline."""
    known = _known(request, voice)
    heard = await _work(request, lambda hearing: hearing.one(channel, known))
    return Answer.of(heard, embedding=embedding, steps=steps)


@router.post("/channels", **_UPLOAD)
async def channels(
    request: Request, embedding: Embedding = False, steps: Steps = False, voice: Token = None
) -> list[Answer]:
    """The emotion and the timeline of every channel on its own, as for the two sides of a call."""
    if voice is not None:
        raise Refusal(
            422,
            "every channel is a person of its own, and one voice was sent",
            "Send it to /predict?channel=left or right.",
        )
    heard = await _work(request, lambda hearing: hearing.each())
    return [Answer.of(one, embedding=embedding, steps=steps) for one in heard]


@router.post("/voice", **_UPLOAD)
async def voice(request: Request, channel: Channel = "mix", voice: Token = None) -> Learnt:
    """What a clip of unlabelled speech says of its speaker's voice, added to what the header `Voice` holds."""
    known = _known(request, voice)
    if not request.app.state.recogniser.model.profile_width:
        raise Refusal(422, "this model cannot adapt to a voice", "Ask without a voice.")
    learnt = await _work(request, lambda hearing: hearing.learn(channel, known))
    return Learnt(token=write_token(learnt), utterances=learnt.utterances)


@router.head("/health", include_in_schema=False)
async def alive() -> Response:
    """That the server is there, for those who ask no more."""
    return Response()


@router.get("/health", responses=_DOOR)  # type: ignore[arg-type]
async def health(request: Request) -> Health:
    """That the server is there, its model, and what it takes."""
    state = request.app.state
    settings: ServerSettings = state.settings
    model = state.recogniser.model
    return Health(
        status="ok",
        version=__version__,
        model=model.name,
        labels=list(model.labels),
        licence=model.metadata.licence,
        adapts=model.profile_width > 0,
        busy=state.work.taken,
        limits=Limits(
            bytes=settings.bytes,
            seconds=settings.seconds,
            timeout=settings.timeout,
            concurrency=settings.concurrency,
            waiting=settings.waiting,
        ),
    )


@router.get("/card", response_class=PlainTextResponse, responses=_DOOR)  # type: ignore[arg-type]
async def card(request: Request) -> str:
    """The model card: training data, licences, accuracy, limits, what it must not be used for."""
    text: str = request.app.state.recogniser.model.card()
    return text or "This model came without a card.\n"


async def _work(request: Request, job: Callable[[Hearing], T]) -> T:
    """Takes a place, reads the upload, has the job done."""
    state = request.app.state
    settings: ServerSettings = state.settings
    known = [one.alias for one in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            raise Refusal(422, f"unknown parameter '{name}'", did_you_mean(name, known))
    async with state.work.place() as place:
        body = await read_body(request, settings)
        done: T = await place.run(
            lambda stop: job(Hearing(state.recogniser, body, settings.seconds, stop)), settings.timeout
        )
        return done


def _known(request: Request, token: str | None) -> SpeakerProfile | None:
    model = request.app.state.recogniser.model
    return None if token is None else read_token(token, model.digest, model.profile_width)


async def _no_such_thing(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    mends = {404: "See /openapi.json for what there is.", 405: "See /openapi.json for what can be done here."}
    mend = mends.get(error.status_code, "See /openapi.json.")
    return Refusal(error.status_code, str(error.detail), mend, error.headers).response()


async def _wrong_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = " ".join(str(part) for part in first["loc"])
    return Refusal(422, f"{name}: {first['msg']}", "See /openapi.json for what it can be.").response()
