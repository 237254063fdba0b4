"""A fresh site on each server, with a superuser and with an ordinary role as the agent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ncen_updater.demo.embedded_postgres import EmbeddedPostgres
from tests.databases.postgresql.site import AGENT, Site


@pytest.fixture
def site(postgres: EmbeddedPostgres) -> Iterator[Site]:
    """A site whose agent is a superuser."""
    site = Site(postgres)
    site.build()
    yield site
    site.clear()


@pytest.fixture(params=["postgres", AGENT])
def any_site(postgres: EmbeddedPostgres, request: pytest.FixtureRequest) -> Iterator[Site]:
    """The same, once more with an agent that is not a superuser."""
    site = Site(postgres, user=request.param)
    site.build()
    yield site
    site.clear()
