"""A site whose service answers on a real socket, and a console for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ncen_updater.agent.service.snapshot import SnapshotStore
from tests.agent.cli.site import make_site
from tests.agent.service.api.conftest import NEXT, NOW, SETTINGS, Counter
from tests.agent.service.api.serving import answering
from tests.console.support import Guest, Place, served_console


@pytest.fixture
def counter(tmp_path: Path) -> Counter:
    made = Counter(make_site(tmp_path / "site"), SnapshotStore(SETTINGS, lambda: NOW))
    made.know(NEXT)
    return made


@pytest.fixture
def socket(counter: Counter) -> Iterator[Path]:
    with answering(counter) as path:
        yield path


@pytest.fixture
def place(socket: Path) -> Iterator[Place]:
    with served_console(socket) as found:
        yield found


@pytest.fixture
def guest(place: Place) -> Guest:
    return place.enter()
