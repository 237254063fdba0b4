"""People with passwords of this machine, a site that they approve at, and who looks at them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ncen_updater.agent.service.snapshot import SnapshotStore
from tests.agent.cli.site import make_site
from tests.agent.service.api.conftest import NEXT, NOW, SETTINGS, Counter
from tests.agent.service.api.serving import answering
from tests.login.login_socket import GROUP, SECRETS, LoginSocket, login_socket, opened
from tests.support.system_users import create_users, require_user_creation


@pytest.fixture(scope="module")
def people() -> Iterator[None]:
    require_user_creation()
    with create_users(dict.fromkeys(SECRETS, GROUP), SECRETS):
        yield


@pytest.fixture
def place() -> Iterator[Path]:
    """Where these people may enter, which pytest's own directories are not."""
    with tempfile.TemporaryDirectory(prefix="nu-login-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def counter(people: None, place: Path) -> Counter:
    del people
    settings = SETTINGS.model_copy(update={"approver_group": GROUP})
    made = Counter(make_site(place / "site"), SnapshotStore(settings, lambda: NOW))
    made.know(NEXT)
    return made


@pytest.fixture
def login(counter: Counter, place: Path) -> Iterator[LoginSocket]:
    with answering(counter) as service:
        opened(service)
        with login_socket(place, service) as found:
            yield found
