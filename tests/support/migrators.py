"""Places where a release's own program can run in a trial of a whole site."""

from __future__ import annotations

import os

import pytest

#: Root runs such a program as the application's user, who reaches neither a trial's directories nor
#: its interpreter. That way has tests of its own, in ``agent/adapters/databases``.
not_as_root = pytest.mark.skipif(
    os.geteuid() == 0, reason="root runs no release's program as itself; an ordinary user does"
)
