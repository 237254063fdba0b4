"""State that the service keeps between two checks and for its next start.

All of it can be determined again: a damaged file is discarded, and the feed is checked again. What
must never be lost (changes, approvals, holds, bad releases) is in the journal.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from ncen_updater.agent.policy.automation import ActionFailure, RehearsalStatus, ServiceAction
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_records import JsonRecord
from ncen_updater.common.messages import ExitCode, find_message

logger = logging.getLogger(__name__)

#: Where the service keeps it, below the state directory.
SERVICE_STATE_PATH = "service/known.json"


@dataclass(frozen=True)
class WithheldRelease(JsonRecord):
    """A newer release on the signed list that this site cannot take now.

    Attributes:
        version: Which.
        reason: Why, as a word of ``RejectionReason``.
        explanation: What the Secretariat wrote of it.
        opens: When it opens to this site, if that is set.
    """

    version: str
    reason: str
    explanation: str = ""
    opens: datetime | None = None


@dataclass(frozen=True)
class Assessment(JsonRecord):
    """What stands between the site and its next release, as a child found it.

    Attributes:
        last_event: Number of the journal's last event when it was made; a later one outdates it.
        current: The release in use.
        target: The release that comes next, if any.
        before_target: The releases that are installed on the way to the target.
        agent_version: A newer agent that is on offer and has not failed here.
        slot_built: Whether the target's slot stands.
        rehearsal_status: What is known of its rehearsal.
        plan: Digest of the plan; empty while a slot of it is still to be built.
        binding: What an approval would have to carry.
        basis: The document whose digest the binding is.
        retry_at: Until when the target is not tried by itself.
        void_reasons: Why an earlier approval is outdated.
        prune_at: When the days of something that is kept are over.
        was_rolled_back: Whether people went back from a release on the way to the target.
        newest: The newest release for this site; people may have chosen another as the target.
        alternatives: The same of further releases that were rehearsed here, and can be approved.
        approved: Releases that enough people approved; the target is the first of them.
        gone: Those that enough people approved, and that can no longer be taken.
        disks: Where the databases lie, as far as that is on this machine.
        withheld: Newer releases that were halted, withdrawn, or are not open here yet.
    """

    last_event: int
    current: str | None = None
    target: str | None = None
    agent_version: str | None = None
    slot_built: bool = False
    rehearsal_status: RehearsalStatus = RehearsalStatus.MISSING
    plan: str = ""
    binding: str = ""
    basis: Mapping[str, object] | None = None
    retry_at: datetime | None = None
    void_reasons: tuple[LazyText, ...] = ()
    prune_at: datetime | None = None
    was_rolled_back: bool = False
    newest: str | None = None
    alternatives: tuple[Assessment, ...] = ()
    approved: tuple[str, ...] = ()
    unavailable: tuple[str, ...] = ()
    withheld: tuple[WithheldRelease, ...] = ()
    before_target: tuple[str, ...] = ()
    disks: tuple[str, ...] = ()

    @property
    def hops(self) -> tuple[str, ...]:
        """Return the releases on the path to the target, which is the last of them."""
        return () if self.target is None else (*self.before_target, self.target)

    def find_release(self, version: str) -> Assessment | None:
        """Return the assessment of a release that can be approved; None where it cannot."""
        everything = (self, *self.alternatives)
        return next((one for one in everything if _is_same_version(one.target, version)), None)


def _is_same_version(one: str | None, other: str) -> bool:
    from packaging.version import Version

    return one is not None and Version(one) == Version(other)


@dataclass(frozen=True)
class ServiceState(JsonRecord):
    """Everything that the service keeps.

    Attributes:
        assessment: The last one; None when it has to be made again.
        checked_at: When the feed last answered.
        next_check: When it is asked again; None for at once.
        failures: Actions that failed when they were last tried.
        last_running_boot: In which start of the machine the application was last seen running.
    """

    assessment: Assessment | None = None
    checked_at: datetime | None = None
    next_check: datetime | None = None
    failures: Mapping[ServiceAction, ActionFailure] = field(default_factory=dict)
    last_running_boot: str | None = None

    def with_failure(self, action: ServiceAction, now: datetime, code: str = "") -> ServiceState:
        """Return it with one more failure of an action."""
        times = self.failures[action].failures + 1 if action in self.failures else 1
        return replace(self, failures={**self.failures, action: ActionFailure(now, times, code)})

    def without_failures(self, action: ServiceAction) -> ServiceState:
        """Return it without failures of an action; a feed that answers mends what it had failed."""

        def mended(failure: ActionFailure) -> bool:
            message = find_message(failure.code)
            network = message is not None and message.exit_code is ExitCode.NETWORK
            return network and action is ServiceAction.CHECK_FEED

        left = {d: f for d, f in self.failures.items() if d is not action and not mended(f)}
        return replace(self, failures=left)


class ServiceStateFile:
    """The file that keeps it.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> ServiceState:
        """Read it; nothing is known where it is missing or damaged."""
        try:
            return ServiceState.from_json(json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return ServiceState()
        except (ValueError, RecursionError) as error:
            logger.warning("%s is damaged, the feed is checked again: %s", self._path, error)
            return ServiceState()

    def save(self, service_state: ServiceState) -> None:
        """Replace it in one step."""
        content = json.dumps(service_state.to_json(), sort_keys=True, indent=1).encode()
        durable.write_file(self._path, content, 0o640)
