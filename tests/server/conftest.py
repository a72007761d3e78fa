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
    """A client of a server with the settings in the module's `LIMITS`."""
    from serving import on

    with on(ear, **getattr(request.module, "LIMITS", {})) as client:
        yield client
