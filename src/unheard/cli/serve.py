"""`unheard serve`: a model over HTTP, and a page to try it."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from unheard.cli.shared import say


def serve(
    model: str,
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    name: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    max_megabytes: float = 32.0,
    max_seconds: float = 900.0,
    timeout: float = 30.0,
    concurrency: int | None = None,
    waiting: int = 8,
) -> None:
    """Serve a model over HTTP, with a page to try it; keeps nothing it is sent.

    Example: unheard serve starter --port 8000

    The page is at http://127.0.0.1:8000/, the interface for programs is described at /openapi.json.

    Parameters
    ----------
    model
        A name that came with the package, an exported model's folder, or its .onnx file.
    host
        Address to listen on. Any but a loopback address lets others in: see docs/server.md.
    port
        0: any free one.
    name
        Host name that the server also answers to, such as one behind a proxy; can be given several times.
    max_megabytes
        Largest upload.
    max_seconds
        Longest recording.
    timeout
        Seconds for an upload to arrive, and seconds for an answer.
    concurrency
        Recordings worked on at once (default: one a core, at most 4).
    waiting
        Recordings that may wait; one more is answered 429.
    """
    try:
        from unheard.inference.server.run import serve as run
        from unheard.inference.server.settings import ServerSettings
    except ModuleNotFoundError as error:
        from unheard.errors import MissingExtra

        if error.name not in ("fastapi", "starlette", "pydantic", "anyio", "uvicorn"):
            raise
        raise MissingExtra(error.name, "server") from None
    from unheard.inference.recogniser import load

    settings = ServerSettings(
        host=host,
        port=port,
        names=name,
        megabytes=max_megabytes,
        seconds=max_seconds,
        timeout=timeout,
        waiting=waiting,
        **({} if concurrency is None else {"concurrency": concurrency}),
    )
    recogniser = load(model)

    def ready(address: str) -> None:
        if not settings.local:
            say("unheard: others can reach this server. Whoever does can use it; see docs/server.md.")
        say(f"{recogniser.model.name} is at {address} (Ctrl-C stops it)")

    run(recogniser, settings, ready=ready)
