"""Check the public feed as a site sees it: now, in some days, and after weeks without renewal.

The agent's own client reads the public addresses, each time from an empty directory and the first
root. So whatever would stop a site also fails this check: expired metadata, a missing root, a
proxy's page in place of a file. The three checks are:

* now: everything must be valid;
* in 3 days: everything must still be valid, even if nothing is signed until then;
* in 60 days: the offline roles must still be valid. Online roles are excluded, since
  a machine renews them, while signers need weeks to come together.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tuf.api.metadata import Metadata, TargetFile  # type: ignore[attr-defined]

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity, report_finding
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    FEED_CONNECTION_LOST,
    FEED_PROXY,
    FEED_TOO_SLOW,
    FEED_UNREACHABLE,
    MONITOR_FEED_FAILED,
    MONITOR_FEED_OUTDATED,
    MONITOR_FEED_WILL_FAIL,
    MONITOR_NOT_CHECKED,
    MONITOR_RENEWAL_DUE,
    SERVER_UNREACHABLE,
    TRUSTED_ROOT_MISSING,
    ErrorMessage,
    ExitCode,
)
from ncen_updater.common.progress import Amount, ProgressListener
from ncen_updater.feed.clock import TrustClock
from ncen_updater.feed.emergency_halt_statements import verify_emergency_halts
from ncen_updater.feed.http_fetcher import HttpFetcher
from ncen_updater.feed.tuf_client import TrustClient
from ncen_updater.formats.target_names import METADATA_PREFIX, TARGETS_PREFIX
from ncen_updater.publisher.distribute.emergency_halts import EmergencyHaltStatus, list_active_halts
from ncen_updater.publisher.distribute.metadata_history import ObservedMetadata, observe_metadata
from ncen_updater.publisher.distribute.server_probe import ServerProbe, merge_range_findings
from ncen_updater.publisher.feed.feed_directory import (
    FeedState,
    get_target_file_name,
    list_delegated_roles,
)
from ncen_updater.publisher.feed.role_policy import ONLINE_ROLES, TOP_ROLES, read_policy
from ncen_updater.publisher.signing.signing_event import compute_signed_digest

#: Days after which all metadata, and that of the offline roles, must still be valid.
AHEAD_DAYS: Final = 3
OFFLINE_AHEAD_DAYS: Final = 60
EXPIRY_CODES: Final = frozenset(
    message.code for message in (MONITOR_FEED_FAILED, MONITOR_FEED_WILL_FAIL, MONITOR_FEED_OUTDATED)
)
#: Errors that say nothing about the feed, because no complete response arrived.
NETWORK_CODES: Final = frozenset(
    message.code for message in (FEED_CONNECTION_LOST, FEED_PROXY, FEED_TOO_SLOW, FEED_UNREACHABLE)
)


@dataclass(frozen=True)
class ObservedRole:
    """One role of the public feed."""

    role: str
    version: int
    expires: str
    days_left: int


@dataclass(frozen=True)
class FeedReport:
    """Result of a check.

    Attributes:
        roles: All roles; empty if the feed cannot be read.
        targets: Number of targets.
        bytes: Their total size.
        findings: Present and expected problems.
        emergency_halts: Active emergency halts.
        observed_metadata: All verified metadata, for comparison with other mirrors.
    """

    roles: tuple[ObservedRole, ...]
    targets: int
    bytes: int
    findings: tuple[Finding, ...]
    emergency_halts: tuple[EmergencyHaltStatus, ...] = ()
    observed_metadata: tuple[ObservedMetadata, ...] = ()


def choose_exit_code(findings: Sequence[Finding]) -> ExitCode:
    """Return 0 without critical findings, else the most specific exit code.

    14 if sites cannot use the metadata, now or soon, or it is outdated; 7 if the only problem is
    that a mirror or file could not be reached; else 1.
    """
    critical = {finding.code for finding in findings if finding.severity is Severity.CRITICAL}
    if not critical:
        return ExitCode.OK
    if critical <= {MONITOR_NOT_CHECKED.code, SERVER_UNREACHABLE.code}:
        return ExitCode.NETWORK
    return ExitCode.FEED_STALE if critical & EXPIRY_CODES else ExitCode.ERROR


class FeedMonitor:
    """Checks public addresses of one feed.

    Args:
        root: A trusted root.
        make_fetcher: Creates a fetcher for an address as the agent does.
        clock: Returns the time (UTC).
        progress: Receives the progress.
    """

    def __init__(
        self,
        root: Path,
        make_fetcher: Callable[[str], HttpFetcher],
        clock: Callable[[], datetime],
        progress: ProgressListener,
    ) -> None:
        self._root = root
        self._make_fetcher = make_fetcher
        self._clock = clock
        self._progress = progress

    def check_feed(
        self,
        place: str,
        probe: ServerProbe,
        published: FeedState | None,
        deep: bool,
    ) -> FeedReport:
        """Run all checks.

        Args:
            place: Address of the feed.
            probe: Checks single files.
            published: The Secretariat's feed, for comparison.
            deep: Whether to download and hash every file, instead of checking its length.

        Returns:
            The report; failures are findings.

        Raises:
            TRUSTED_ROOT_MISSING: If the root cannot be used.
        """
        now = self._clock()
        findings: list[Finding] = []
        self._progress.report(LazyText(N_("checking the feed")))
        try:
            seen = self._verify_feed(place, now)
        except UpdaterError as error:
            if error.code == TRUSTED_ROOT_MISSING.code:
                raise  # the monitor's own file
            return FeedReport((), 0, 0, (report_failure(MONITOR_FEED_FAILED, place, error),))
        for days, grace_days in ((AHEAD_DAYS, 0), (OFFLINE_AHEAD_DAYS, OFFLINE_AHEAD_DAYS)):
            self._progress.report(
                LazyText(N_("checking the feed for the time in {days} days"), {"days": days})
            )
            try:
                self._verify_feed(place, now, days, grace_days)
            except UpdaterError as error:
                findings.append(report_failure(MONITOR_FEED_WILL_FAIL, place, error, days=days))
        findings += _find_due_roles(seen, now)
        if published is not None:
            findings += _compare_with_published(seen, published)
        findings += probe.check_metadata(
            METADATA_PREFIX, seen["root"].signed.version, _list_names(seen)
        )
        targets = _list_targets(seen)
        for number, target in enumerate(targets):
            self._progress.report(LazyText(N_("checking files")), Amount(number + 1, len(targets)))
            name = TARGETS_PREFIX + get_target_file_name(target)
            findings += probe.check_target(name, target.length, target.hashes["sha256"], deep)
        findings = merge_range_findings(findings)
        return FeedReport(
            tuple(_observe_role(role, metadata, now) for role, metadata in seen.items()),
            len(targets),
            sum(target.length for target in targets),
            tuple(findings),
            list_active_halts(
                verify_emergency_halts(seen["root"].signed, seen["timestamp"].signed), now
            ),
            observe_metadata(place, seen),
        )

    def observe_metadata(self, place: str) -> tuple[ObservedMetadata, ...]:
        """Return the metadata that a mirror serves, verified as a site does.

        Raises:
            UpdaterError: If sites could not use it.
        """
        self._progress.report(LazyText(N_("reading the metadata of {place}"), {"place": place}))
        return observe_metadata(place, self._verify_feed(place, self._clock()))

    def _verify_feed(
        self, place: str, now: datetime, days: int = 0, grace_days: int = 0
    ) -> dict[str, Metadata[Any]]:
        """Verify the whole feed with the agent's client in some days, from the root on."""
        with tempfile.TemporaryDirectory(prefix="nu-monitor-") as folder:
            directory = Path(folder) / "metadata"
            moment, fetcher = now + timedelta(days=days), self._make_fetcher(place)
            # The server's date would contradict a simulated future time.
            fetcher.records_date = days == 0
            clock = TrustClock(Path(folder) / "clock.json", lambda: moment)

            def client(product: str) -> TrustClient:
                return TrustClient(
                    product,
                    metadata_directory=directory,
                    trusted_root=self._root,
                    fetcher=fetcher,
                    clock=clock,
                    grace=timedelta(days=grace_days),
                )

            try:
                client("").refresh()
                seen = {role: _load_stored(directory, role) for role in TOP_ROLES}
                for product in list_delegated_roles(seen["targets"].signed):
                    client(product).load_product_role()
                    seen[product] = _load_stored(directory, product)
            finally:
                fetcher.close()
            return seen


def _load_stored(directory: Path, role: str) -> Metadata[Any]:
    """Load metadata that the client verified and stored."""
    return Metadata.from_bytes((directory / f"{role}.json").read_bytes())


def _list_names(seen: dict[str, Metadata[Any]]) -> list[str]:
    return [
        "timestamp.json" if role == "timestamp" else f"{metadata.signed.version}.{role}.json"
        for role, metadata in seen.items()
    ]


def _list_targets(seen: dict[str, Metadata[Any]]) -> list[TargetFile]:
    """Return all targets, each once."""
    named = {
        get_target_file_name(target): target
        for role, metadata in seen.items()
        if role == "targets" or role not in TOP_ROLES
        for target in metadata.signed.targets.values()
    }
    return [named[name] for name in sorted(named)]


def _observe_role(role: str, metadata: Metadata[Any], now: datetime) -> ObservedRole:
    expires: datetime = metadata.signed.expires
    return ObservedRole(
        role, metadata.signed.version, f"{expires:%Y-%m-%dT%H:%M:%SZ}", (expires - now).days
    )


def report_failure(
    message: ErrorMessage, place: str, error: UpdaterError, **values: object
) -> Finding:
    """Return the finding for a feed that failed; one that was not reached may be without fault."""
    if error.code in NETWORK_CODES:
        message = MONITOR_NOT_CHECKED
    found = report_finding(message, place=place, what=error.title_text, **values)
    figures = {"place": place, **values, "code": error.code, "detail": error.detail}
    return replace(found, figures=figures)


def _find_due_roles(seen: dict[str, Metadata[Any]], now: datetime) -> list[Finding]:
    """Return findings for the offline roles whose renewal is due by the signed policy."""
    try:
        policy = read_policy(seen["root"].signed)
    except ValueError:
        return []  # the feed of another publisher has no policy
    found = []
    for role, metadata in seen.items():
        left = metadata.signed.expires - now
        if (
            role in ONLINE_ROLES
            or role not in policy.expiry_days
            or left >= policy.get_renewal_window(role)
        ):
            continue
        found.append(report_finding(MONITOR_RENEWAL_DUE, role=role, days=left.days))
    return found


def _compare_with_published(
    seen: dict[str, Metadata[Any]], secretariat: FeedState
) -> list[Finding]:
    """Compare the metadata that is served with what the publisher published."""
    found = []
    for role in (*secretariat.list_offline_roles(), *ONLINE_ROLES):
        ours, theirs = secretariat.get_role(role), seen.get(role)
        if ours is None:
            continue
        same = theirs is not None and compute_signed_digest(theirs) == compute_signed_digest(ours)
        if not same:
            values = {
                "role": role,
                "ours": ours.signed.version,
                "theirs": theirs.signed.version if theirs else 0,
            }
            found.append(report_finding(MONITOR_FEED_OUTDATED, **values))
    return found
