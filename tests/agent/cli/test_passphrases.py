"""Tests of passphrase sources: private files and systemd credentials."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncen_updater.common.cli.session import CliSession
from ncen_updater.common.messages import BAD_PASSPHRASE_SOURCE
from ncen_updater.publisher.cli.options import PassphraseSource
from tests.support.errors import refused


def read_secret(path: Path) -> str:
    return PassphraseSource(path).make_prompt(CliSession("ncen-publisher", language="en"))(
        Path("a.pem")
    )


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "credentials" / "online"
    path.parent.mkdir()
    path.write_text("correct horse\n")
    return path


@pytest.mark.parametrize(
    ("mode", "as_credential", "taken"),
    [
        (0o600, False, True),
        (0o400, False, True),
        (0o440, False, False),
        (0o440, True, True),  # how it looks to the user of a unit
        (0o400, True, True),
        (0o460, True, False),
        (0o444, True, False),
    ],
)
def test_passphrase_file_readable_by_others_is_rejected(
    secret: Path, monkeypatch: pytest.MonkeyPatch, mode: int, as_credential: bool, taken: bool
) -> None:
    secret.chmod(mode)
    monkeypatch.setenv(
        "CREDENTIALS_DIRECTORY", str(secret.parent if as_credential else secret.parent.parent)
    )
    if taken:
        assert read_secret(secret) == "correct horse"
    else:
        with refused(BAD_PASSPHRASE_SOURCE):
            read_secret(secret)
