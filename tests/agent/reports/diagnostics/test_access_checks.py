"""Tests of findings about the trust state: the rule as a table, and files of a real site."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.reports.diagnostics.access_checks import (
    FilePermissions,
    list_older_metadata,
    list_trust_state_findings,
)
from ncen_updater.agent.reports.diagnostics.doctor import diagnose
from ncen_updater.agent.reports.diagnostics.verify import verify_site
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Severity
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.feed_summary import get_view_path
from ncen_updater.feed.offers import FeedView, load_view, save_view
from ncen_updater.feed.trust_state import (
    TRUST_STATE_LOCK_NAME,
    TRUST_STATE_NAME,
    TrustState,
    TrustStateStore,
    VerifiedRole,
)
from tests.faults.full import prepared
from tests.faults.trial import Trial
from tests.support.sites import site_in_process

STATE = FilePermissions(Path("/state"), 0, stat.S_IFDIR | 0o751)
FILE = FilePermissions(Path("/state/trust-state.json"), 0, stat.S_IFREG | 0o644)
SEEN = TrustState(roles={"ncen": VerifiedRole(7)})
OURS = frozenset({0})


@pytest.mark.parametrize(
    ("file", "directory", "proved", "left", "codes"),
    [
        (None, STATE, None, {"ncen": 7}, ["NU-6130"]),
        (FILE, STATE, SEEN, {"ncen": 7}, []),
        (FILE, STATE, SEEN, {"ncen": 8}, []),
        (FILE, STATE, SEEN, {}, []),
        (FILE, STATE, SEEN, {"ncen": 6, "ncen-updater": 1}, ["NU-6132"]),
        (FilePermissions(FILE.path, 7, FILE.mode), STATE, SEEN, {}, ["NU-6131"]),
        (FilePermissions(FILE.path, 0, stat.S_IFREG | 0o664), STATE, SEEN, {}, ["NU-6131"]),
        (FilePermissions(FILE.path, 0, stat.S_IFREG | 0o602), STATE, SEEN, {}, ["NU-6131"]),
        (FilePermissions(FILE.path, 0, FILE.mode, 2), STATE, SEEN, {}, ["NU-6131"]),
        (FilePermissions(FILE.path, 0, stat.S_IFLNK | 0o777), STATE, None, {}, ["NU-6131"]),
        (FilePermissions(FILE.path, 0, stat.S_IFIFO | 0o600), STATE, None, {}, ["NU-6131"]),
        (FILE, FilePermissions(STATE.path, 7, STATE.mode, 5), SEEN, {}, ["NU-6131"]),
        (FILE, FilePermissions(STATE.path, 0, stat.S_IFDIR | 0o771), SEEN, {}, ["NU-6131"]),
    ],
)
def test_trust_state_access_is_judged(
    file: FilePermissions | None,
    directory: FilePermissions,
    proved: TrustState | None,
    left: dict[str, int],
    codes: list[str],
) -> None:
    found = list(list_trust_state_findings(file, directory, OURS, was_present=True))
    if proved is not None:
        found += list_older_metadata(proved, left)
    assert [finding.code for finding in found] == codes
    for finding in found:
        strict = finding.severity is Severity.CRITICAL
        assert strict is (finding.code == "NU-6131")
        assert finding.title.render("en") and finding.remedy.render("fr")


def test_missing_trust_state_of_a_new_site_is_accepted() -> None:
    assert not list(list_trust_state_findings(None, STATE, OURS, was_present=False))


@pytest.fixture(scope="module")
def trial() -> Iterator[Trial]:
    with prepared("sqlite") as made:
        made.reset()
        yield made


@pytest.fixture
def state(trial: Trial) -> Iterator[Path]:
    """The state of a site with verified metadata on the disk, restored afterwards."""
    state = trial.demo.state
    received = site_in_process(trial.demo).config.paths.feed_state_directory
    view, before = get_view_path(received, "ncen"), (state / TRUST_STATE_NAME)
    lock = state / TRUST_STATE_LOCK_NAME
    kept = {path: path.read_bytes() for path in (view, before, lock) if path.exists()}
    now = datetime.now(UTC)
    known = load_view(view)
    save_view(view, FeedView(known.offers if known else (), now, now, 7))
    before.unlink(missing_ok=True)
    TrustStateStore(state).update(lambda _: SEEN)
    yield state
    for path in (view, before, lock):
        path.unlink(missing_ok=True)
        if path in kept:
            path.write_bytes(kept[path])


def verified(trial: Trial) -> set[str]:
    site = site_in_process(trial.demo)
    with Journal.open(trial.demo.state / JOURNAL_FILE, read_only=True) as journal:
        return {finding.code for finding in verify_site(site, journal, SilentProgress())}


def both(trial: Trial) -> tuple[set[str], set[str]]:
    found = {f.code for f in diagnose(trial.demo.config_path, SilentProgress())}
    return found & {"NU-2045", "NU-6130", "NU-6131", "NU-6132"}, verified(trial)


def test_intact_trust_state_has_no_finding(trial: Trial, state: Path) -> None:
    assert both(trial) == (set(), set())


def test_missing_trust_state_is_reported(trial: Trial, state: Path) -> None:
    (state / TRUST_STATE_NAME).unlink()
    assert both(trial) == ({"NU-6130"}, {"NU-6130"})


def test_damaged_trust_state_is_reported(trial: Trial, state: Path) -> None:
    path = state / TRUST_STATE_NAME
    path.write_bytes(path.read_bytes().replace(b'"version":7', b'"version":1'))
    found = {f.code for f in diagnose(trial.demo.config_path, SilentProgress())}
    assert "NU-2045" in found
    with pytest.raises(UpdaterError) as caught:
        verified(trial)
    assert caught.value.code == "NU-2045"


def test_trust_state_writable_by_others_is_reported(trial: Trial, state: Path) -> None:
    (state / TRUST_STATE_NAME).chmod(0o666)
    assert both(trial) == ({"NU-6131"}, {"NU-6131"})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody")
def test_trust_state_of_another_owner_is_reported(trial: Trial, state: Path) -> None:
    os.chown(state / TRUST_STATE_NAME, 65534, 65534)
    assert both(trial) == ({"NU-6131"}, {"NU-6131"})


def test_trust_state_newer_than_the_metadata_is_reported(trial: Trial, state: Path) -> None:
    TrustStateStore(state).update(lambda _: TrustState(roles={"ncen": VerifiedRole(9)}))
    assert both(trial) == ({"NU-6132"}, {"NU-6132"})
