"""What the tests of courses share."""

from collections.abc import Iterator
from functools import cache

import nbgrader.api
import pytest


@pytest.fixture(scope="session", autouse=True)
def schema_asked_once() -> Iterator[None]:
    """nbgrader starts the command alembic for every new gradebook, to ask for the newest schema:
    a pure question, asked once here.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nbgrader.api, "get_alembic_version", cache(nbgrader.api.get_alembic_version))
        yield
