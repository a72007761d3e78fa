"""A server with the tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from unheard.recogniser.recogniser import Recogniser


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
