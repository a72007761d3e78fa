"""A server with the tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from unheard.recogniser.recogniser import Recogniser

collect_ignore_glob = [] if find_spec("fastapi") else ["test_*.py"]  # they need the extra `server`


@pytest.fixture(scope="session")
def ear() -> Recogniser:
    from serving import recogniser

    return recogniser()


@pytest.fixture(scope="module")
def client(ear: Recogniser, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    """A client of a server with the settings in the module's `LIMITS`, which sends the token if there is one."""
    from serving import on

    settings = getattr(request.module, "LIMITS", {})
    with on(ear, **settings) as client:
        client.headers["Authorization"] = f"Bearer {settings.get('token', '')}"
        yield client
