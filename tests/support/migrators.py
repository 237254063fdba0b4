"""Conditions for tests that run a release's own migrator on a whole site."""

from __future__ import annotations

import os

import pytest

#: As root the agent runs migrators as the application's user, who can enter neither the
#: directories of a test nor its interpreter. Tests of this are in ``agent/adapters/databases``.
not_as_root = pytest.mark.skipif(
    os.geteuid() == 0, reason="root runs no release's program as itself; an ordinary user does"
)
