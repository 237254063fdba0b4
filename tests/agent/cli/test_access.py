"""Tests of the error for users who may not read the site."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ncen_updater.agent.cli.session import build_access_error, find_denied_path
from ncen_updater.agent.model.errors import JournalPermissionError
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    BUNDLE_UNREADABLE,
    BUNDLE_UNWRITABLE,
    DOSSIER_UNWRITTEN,
    INBOX_UNUSABLE,
    LOCAL_STORE_FAILED,
    LOG_IN_AGAIN,
    MEMBER_NEEDS_ROOT,
    NOT_A_MEMBER,
    ErrorMessage,
)
from tests.agent.cli.site import TrialSite, make_site
from tests.support.as_user import run_as

GROUP = "ncen-updater"


@pytest.mark.parametrize(
    ("now", "listed", "message"),
    [
        ([], [], NOT_A_MEMBER),
        (["wheel"], ["amina"], NOT_A_MEMBER),
        ([], ["amina", "bruno"], LOG_IN_AGAIN),
        ([GROUP], ["bruno"], MEMBER_NEEDS_ROOT),
        ([GROUP], [], MEMBER_NEEDS_ROOT),
    ],
)
def test_access_error_names_group_and_command(
    now: list[str], listed: list[str], message: ErrorMessage
) -> None:
    error = build_access_error("/var/x", "bruno", GROUP, current_groups=now, group_members=listed)
    assert error.message is message
    assert GROUP in str(error) and "bruno" in str(error) and "/var/x" in str(error)


def test_lost_configuration_group_is_reported_as_such() -> None:
    """Seen: "which only the agent itself reads", and to look whether the service ran; it did."""
    error = build_access_error(
        "/etc/a.toml",
        "bruno",
        GROUP,
        current_groups=[GROUP],
        group_members=[],
        config="/etc/a.toml",
    )
    assert error.code == "NU-1125"
    assert f"sudo chgrp {GROUP} /etc/a.toml && sudo chmod g+r /etc/a.toml" in str(error.remedy_text)
    stranger = build_access_error(
        "/etc/a.toml", "eve", GROUP, current_groups=[], group_members=[], config="/etc/a.toml"
    )
    assert stranger.code == "NU-1120"


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "path"),
    [
        (PermissionError(13, "Permission denied", "/var/x"), "/var/x"),
        (JournalPermissionError(path="/var/x"), "/var/x"),
        (caused(UpdaterError(LOCAL_STORE_FAILED), PermissionError(13, "no", "/var/x")), "/var/x"),
        (UpdaterError(LOCAL_STORE_FAILED, detail="[Errno 13] Permission denied: '/x'"), "/x"),
        (UpdaterError(LOCAL_STORE_FAILED, detail="[Errno 28] No space left: '/x'"), None),
        (UpdaterError(LOCAL_STORE_FAILED), None),
        (caused(UpdaterError(BUNDLE_UNREADABLE), PermissionError(13, "no", "/home/x")), None),
        (caused(UpdaterError(INBOX_UNUSABLE), PermissionError(13, "no", "/var/x/inbox")), None),
        # Seen: "cannot read .x.html.partial-56d5432c, run the command again with sudo".
        (caused(UpdaterError(DOSSIER_UNWRITTEN), PermissionError(13, "no", "/srv/x")), None),
        (caused(UpdaterError(BUNDLE_UNWRITABLE), PermissionError(13, "no", "/srv/x")), None),
        (FileNotFoundError(2, "no", "/var/x"), None),
    ],
)
def test_denied_path_is_found_in_the_error(error: Exception, path: str | None) -> None:
    assert find_denied_path(error) == path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_status_of_a_member_without_a_service_names_the_service(tmp_path: Path) -> None:
    """``status`` names the service and sudo, and no lock file that the member may not read."""
    site = make_site(tmp_path / "site")
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == 0 and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o011)
    with site.config.open("a") as config:
        config.write('[service]\nviewer_group = "daemon"\n')
    site.config.chmod(0o644)
    lock = site.state / "change.lock"
    lock.touch()
    lock.chmod(0o600)
    environment = {
        "NCEN_CONFIG_FILE": str(site.config), "PATH": os.environ["PATH"], "LANG": "C.UTF-8",
    }  # fmt: skip
    done = run_as("nobody", ("daemon",), ("status",), environment)
    said = done.stdout + done.stderr
    assert (done.returncode, "NU-1122" in said) == (1, True), said
    assert "NU-1000" not in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("closed", ["state", "config"])
@pytest.mark.parametrize(
    "command", ["status", "doctor", "plan", "history", "verify", "support-bundle"]
)
def test_user_in_no_group_is_told_which_group_to_join(
    tmp_path: Path, command: str, closed: str
) -> None:
    site = make_site(tmp_path / "site")
    place = site.state if closed == "state" else site.root
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == 0 and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o011)
    site.config.chmod(0o644)
    place.chmod(0o750)
    os.chown(place, 0, 0)
    environment = {
        "NCEN_CONFIG_FILE": str(site.config), "PATH": os.environ["PATH"], "LANG": "C.UTF-8",
    }  # fmt: skip
    done = run_as("nobody", (), (command,), environment)
    said = done.stdout + done.stderr
    assert (done.returncode, "NU-1120" in said) == (1, True), said
    assert f"sudo usermod -aG {GROUP} nobody" in " ".join(said.split())
    assert "NU-1000" not in said and "Traceback" not in said


def _open_to_nobody(tmp_path: Path) -> tuple[TrialSite, dict[str, str]]:
    site = make_site(tmp_path / "site")
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == 0 and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o011)
    site.config.chmod(0o644)
    environment = {
        "NCEN_CONFIG_FILE": str(site.config), "PATH": os.environ["PATH"], "LANG": "C.UTF-8",
    }  # fmt: skip
    return site, environment


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_watch_names_the_group_where_the_socket_is_closed(tmp_path: Path) -> None:
    """A service that runs was reported as not responding, with the advice to start it."""
    site, environment = _open_to_nobody(tmp_path)
    with site.config.open("a") as config:
        config.write('[service]\napi_socket = "run/api.sock"\n')
    (site.root / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(site.root / "run/api.sock"))
        service.listen()
        (site.root / "run").chmod(0o750)
        done = run_as("nobody", (), ("watch",), environment)
    said = " ".join((done.stdout + done.stderr).split())
    assert (done.returncode, "NU-1120" in said) == (1, True), said
    assert f"sudo usermod -aG {GROUP} nobody" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("options", [(), ("--all-levels",), ("--level", "version")])
def test_receipt_of_a_member_names_sudo_and_no_key_file(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    site, environment = _open_to_nobody(tmp_path)
    site.state.chmod(0o755)
    for file in site.state.iterdir():
        file.chmod(0o644)
    done = run_as("nobody", ("daemon",), ("receipt", *options), environment)
    said = " ".join((done.stdout + done.stderr).split())
    assert (done.returncode, "NU-9820" in said) == (2, True), said
    assert "sudo ncen-updater receipt" in said and "receipt.key" not in said
