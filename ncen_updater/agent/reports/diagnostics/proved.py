"""Check of the trust state: present, complete, and writable by root alone. Reads only.

``proved.json`` keeps revoked keys and withdrawn releases from coming back: anyone who can remove or
write it can undo that.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ncen_updater.agent.engine.site import Site
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.feed.feed_summary import get_view_path
from ncen_updater.feed.offers import load_view
from ncen_updater.feed.trust_state import (
    TRUST_STATE_LOCK_NAME,
    TRUST_STATE_NAME,
    TrustState,
    TrustStateStore,
)
from ncen_updater.formats.target_names import AGENT_PRODUCT

EXAMINE_SERVER = LazyText(N_("Have this server examined, and inform the Secretariat."))


@dataclass(frozen=True)
class FilePermissions:
    """How a file or directory lies there.

    Attributes:
        path: Where.
        owner: The number of its owner.
        mode: Kind and permissions, as ``stat`` has them.
        links: How many names it has.
    """

    path: Path
    owner: int
    mode: int
    links: int = 1

    def describe_problem(self, ours: frozenset[int]) -> LazyText | None:
        """Why somebody else may write what is read here; None if nobody may. Pure.

        Args:
            ours: The numbers of users who may: root's, and that of who runs the agent.
        """
        values: dict[str, object] = {"path": self.path}
        if not (stat.S_ISREG(self.mode) or stat.S_ISDIR(self.mode)):
            return LazyText(N_("{path} is not a regular file"), values)
        if stat.S_ISREG(self.mode) and self.links != 1:
            return LazyText(N_("{path} has a hard link"), values)
        if self.owner not in ours:
            return LazyText(N_("{path} belongs to user {owner}"), {**values, "owner": self.owner})
        if self.mode & 0o022:
            mode = f"{stat.S_IMODE(self.mode):04o}"
            return LazyText(
                N_("{path} is writable by other users (mode {mode})"), {**values, "mode": mode}
            )
        return None


def read_permissions(path: Path) -> FilePermissions | None:
    """Look at an entry itself; None where there is none."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return FilePermissions(path, found.st_uid, found.st_mode, found.st_nlink)


def list_trust_state_findings(
    file: FilePermissions | None,
    directory: FilePermissions,
    trusted_uids: frozenset[int],
    trust_state: TrustState | None,
    received_versions: Mapping[str, int],
    *,
    was_present: bool,
) -> Iterator[Finding]:
    """Say what is wrong with what is remembered. Pure.

    Args:
        file: The file; None where there is none.
        directory: The state directory.
        trusted_uids: Who may write them.
        trust_state: What is remembered; None where that could not be read.
        received_versions: Number of the list that the reader left, by product.
        was_present: Whether something was remembered here once.
    """
    if file is None:
        if was_present:
            yield Finding(
                "NU-6130",
                Severity.WARNING,
                LazyText(
                    N_("Trust state {path} missing: older metadata would be accepted"),
                    {"path": directory.path / TRUST_STATE_NAME},
                ),
                LazyText(N_("Run: ncen-updater check")),
                {"path": str(directory.path / TRUST_STATE_NAME)},
            )
        return
    for retained in (file, directory):
        if (reason := retained.describe_problem(trusted_uids)) is not None:
            yield Finding(
                "NU-6131",
                Severity.CRITICAL,
                LazyText(
                    N_("Trust state is writable by others: {reason}"),
                    {"reason": reason},
                ),
                EXAMINE_SERVER,
                {"path": str(retained.path), "reason": str(reason)},
            )
    for product, version in sorted(received_versions.items()) if trust_state else ():
        seen = trust_state.roles.get(product) if trust_state else None
        if seen is not None and version < seen.version:
            yield Finding(
                "NU-6132",
                Severity.WARNING,
                LazyText(
                    N_(
                        "'{role}' metadata version {version} is older than verified version {known}"
                    ),
                    {"role": product, "version": version, "known": seen.version},
                ),
                LazyText(
                    N_(
                        "Run ncen-updater check; if it remains and no backup was restored,"
                        " have this server examined."
                    )
                ),
                {"role": product, "version": version, "known": seen.version},
            )


def check_trust_state(site: Site) -> Iterator[Finding]:
    """Look at what a site remembers.

    Raises:
        TrustError: If it is damaged (NU-2045).
    """
    paths = site.config.paths
    state = paths.resolve(paths.state)
    directory, file = read_permissions(state), read_permissions(state / TRUST_STATE_NAME)
    if directory is None:
        return
    left = {}
    for product in (site.config.site.product, AGENT_PRODUCT):
        view = load_view(get_view_path(paths.feed_state_directory, product))
        if view is not None:
            left[product] = view.version
    ours = frozenset({0, os.geteuid(), directory.owner if os.geteuid() else 0})
    once = read_permissions(state / TRUST_STATE_LOCK_NAME) is not None
    yield from list_trust_state_findings(file, directory, ours, None, left, was_present=once)
    if file is not None and stat.S_ISREG(file.mode):
        proved = TrustStateStore(state).load()
        found = list_trust_state_findings(file, directory, ours, proved, left, was_present=once)
        yield from (one for one in found if one.code == "NU-6132")
