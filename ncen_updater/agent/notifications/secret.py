"""Reads a password or secret from a file or from a systemd credential; never from an argument."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ncen_updater.agent.notifications.errors import NotifyError
from ncen_updater.common.messages import SECRET_EXPOSED, SECRET_MISSING
from ncen_updater.common.secret_file import SecretExposed, SecretUnread, read_secret_file


def read_secret(
    file: Path | None, credential: str | None, environment: Mapping[str, str], least: int = 1
) -> str:
    """Return a secret, without the line's end.

    Args:
        file: Its file; others may not read it.
        credential: Name of a credential that systemd passed on, used where there is no file.
        environment: Where ``CREDENTIALS_DIRECTORY`` is looked for.
        least: So many characters it has to have.

    Raises:
        SecretMissing: If it cannot be read, or is too short.
        SecretExposed: If others may read the file.
    """
    if file is not None:
        path = file
    else:
        directory = environment.get("CREDENTIALS_DIRECTORY")
        if not directory or credential is None:
            raise NotifyError(
                SECRET_MISSING, name=credential, reason="CREDENTIALS_DIRECTORY is not set"
            )
        path = Path(directory) / credential
    try:
        # systemd gives a credential to one user, with an access list that shows as a group's.
        text = read_secret_file(path, listed=file is None)
    except SecretExposed as error:
        raise NotifyError(SECRET_EXPOSED, name=path) from error
    except SecretUnread as error:
        raise NotifyError(SECRET_MISSING, name=path, reason=str(error)) from error
    if len(text) < least:
        raise NotifyError(SECRET_MISSING, name=path, reason=f"{len(text)} < {least}")
    return text
