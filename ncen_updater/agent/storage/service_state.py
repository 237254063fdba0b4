"""State of the service between two feed checks and across restarts.

All of it can be determined again: a damaged file is discarded, and the feed is checked again. Data
that must never be lost (changes, approvals, holds, bad releases) is in the journal.
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

#: Path of the file, below the state directory.
SERVICE_STATE_PATH = "service/state.json"


@dataclass(frozen=True)
class WithheldRelease(JsonRecord):
    """A newer release in the signed metadata that this site cannot install now.

    Attributes:
        version: The version.
        reason: The reason, a value of ``RejectionReason``.
        explanation: The Secretariat's explanation.
        opens: When it opens to this site, if that is set.
    """

    version: str
    reason: str
    explanation: str = ""
    opens: datetime | None = None


@dataclass(frozen=True)
class Assessment(JsonRecord):
    """Conditions of the next upgrade, as determined by a child process.

    Attributes:
        last_event: Number of the journal's last event at that time; a later one outdates it.
        current: The installed release.
        target: The next release, if any.
        slot_built: Whether the target's slot exists.
        before_target: Releases to install on the path to the target.
        agent_version: A newer agent that is on offer and not marked bad.
        rehearsal_status: Status of its rehearsal.
        plan: Digest of the plan; empty while a slot of it is still to be built.
        binding: Binding that an approval must have.
        basis: The document whose digest is the binding.
        retry_at: Time until which the target is not retried automatically.
        void_reasons: Why an earlier approval is outdated.
        prune_at: When the retention of the next item ends.
        was_rolled_back: Whether operators rolled back a release on the path to the target.
        newest: The newest release for this site; another one may have been approved as the target.
        alternatives: Assessments of further rehearsed releases that can be approved.
        approved: Releases with enough approvals; the target is the first of them.
        unavailable: Releases with enough approvals that can no longer be installed.
        disks: Directories of the databases, as far as they are on this machine.
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
        """Return the releases on the path, the target last."""
        return () if self.target is None else (*self.before_target, self.target)

    def find_release(self, version: str) -> Assessment | None:
        """Return the assessment of a release that can be approved, None for any other."""
        everything = (self, *self.alternatives)
        return next((one for one in everything if _is_same_version(one.target, version)), None)


def _is_same_version(one: str | None, other: str) -> bool:
    from packaging.version import Version

    return one is not None and Version(one) == Version(other)


@dataclass(frozen=True)
class ServiceState(JsonRecord):
    """Complete state of the service.

    Attributes:
        assessment: The last one; None if it must be made again.
        checked_at: When the feed last answered.
        next_check: Time of the next check; None for at once.
        failures: Actions whose last attempt failed.
        last_running_boot: Boot id under which the application was last seen running.
    """

    assessment: Assessment | None = None
    checked_at: datetime | None = None
    next_check: datetime | None = None
    failures: Mapping[ServiceAction, ActionFailure] = field(default_factory=dict)
    last_running_boot: str | None = None

    def with_failure(self, action: ServiceAction, now: datetime, code: str = "") -> ServiceState:
        """Return the state with one more failure of an action."""
        times = self.failures[action].failures + 1 if action in self.failures else 1
        return replace(self, failures={**self.failures, action: ActionFailure(now, times, code)})

    def without_failures(self, action: ServiceAction) -> ServiceState:
        """Return the state without failures of an action.

        A successful check of the feed also clears network failures of other actions.
        """

        def is_cleared(failure: ActionFailure) -> bool:
            message = find_message(failure.code)
            network = message is not None and message.exit_code is ExitCode.NETWORK
            return network and action is ServiceAction.CHECK_FEED

        remaining = {
            failed: f
            for failed, f in self.failures.items()
            if failed is not action and not is_cleared(f)
        }
        return replace(self, failures=remaining)


class ServiceStateFile:
    """File of the service's state.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> ServiceState:
        """Read the state; an empty one if the file is missing or damaged."""
        try:
            return ServiceState.from_json(json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return ServiceState()
        except (ValueError, RecursionError) as error:
            logger.warning("%s is damaged; checking the feed again: %s", self._path, error)
            return ServiceState()

    def save(self, service_state: ServiceState) -> None:
        """Replace the file in one step."""
        content = json.dumps(service_state.to_json(), sort_keys=True, indent=1).encode()
        durable.write_file(self._path, content, 0o640)
