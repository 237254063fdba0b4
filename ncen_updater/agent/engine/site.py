"""Site on which a change acts, the context of a step, and the definition of a step.

The runner records the intent with the facts of :meth:`Step.prepare`, calls :meth:`Step.do`,
verifies :meth:`Step.is_done`, and records the end. A step found half-done after a crash is undone
(before the commit) or done again (after it), so ``do`` and ``undo`` can be repeated.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from packaging.version import Version

from ncen_updater.agent.model.change import Change, StepName
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts
from ncen_updater.agent.model.errors import InterventionRequiredError
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.progress import ProgressListener
from ncen_updater.formats.release_document import Offer, ReleaseDocument
from ncen_updater.formats.reported_version import matches_reported_version

if TYPE_CHECKING:
    from ncen_updater.agent.adapters.application.base import Application
    from ncen_updater.agent.adapters.databases.base import (
        ChangeRef,
        CopyPlan,
        DatabaseEngine,
        MigrationSet,
    )
    from ncen_updater.agent.config.agent_config import AgentConfig
    from ncen_updater.agent.storage.overlay.layer import LocalOverlay
    from ncen_updater.agent.storage.slots.store import SlotStore
    from ncen_updater.feed.tuf_source import TufReleaseSource


BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _read_boot_id() -> str:
    return BOOT_ID_PATH.read_text("ascii").strip()


@dataclass(frozen=True)
class SystemClock:
    """Clocks, passed in: wall clock for records, monotonic clock for deadlines, and waiting.

    The monotonic clock is that of the machine, comparable between processes within one boot.
    """

    now: Callable[[], datetime] = _utc_now
    monotonic: Callable[[], float] = time.monotonic
    boot_id: Callable[[], str] = _read_boot_id
    wait: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Site:
    """One installation of the application, with everything that a change may touch.

    The database engine is created when it is first used, because reading the feed needs none.
    """

    config: AgentConfig
    make_database_engine: Callable[[], DatabaseEngine]
    slots: SlotStore
    application: Application
    release_source: TufReleaseSource
    state_directory: Path
    agent_version: Version
    clock: SystemClock = field(default_factory=SystemClock)
    overlay: LocalOverlay | None = None

    @functools.cached_property
    def database_engine(self) -> DatabaseEngine:
        """Return the engine of the databases."""
        return self.make_database_engine()

    def load_migrations(self, version: Version) -> MigrationSet:
        """Load the migrations of a release from its slot."""
        from ncen_updater.agent.adapters.databases.migrations.planner import load_migrations

        document = self.slots.read_document(version)
        return load_migrations(
            document.manifest,
            self.slots.get_slot_directory(version),
            self.database_engine.engine_name,
            document.migrations,
        )


def make_change_ref(change: Change) -> ChangeRef:
    """Return the reference by which the databases identify a change."""
    from ncen_updater.agent.adapters.databases.base import ChangeRef

    return ChangeRef(
        id=change.id,
        generation=change.generation,
        release=change.to_version,
        retained_from=change.restore_source,
    )


@dataclass
class StepContext:
    """Everything that a step may use: the site, the journal, and its change.

    Attributes:
        at_boot: Whether the system starts the application after the agent has ended. Then a step
            must not start it: the system would wait for the agent, and the agent for the system.
    """

    site: Site
    journal: Journal
    change: Change
    progress: ProgressListener
    at_boot: bool = False

    @property
    def target_version(self) -> Version:
        """Return the version to which this change leads."""
        return Version(self.change.to_version)

    @property
    def origin_version(self) -> Version:
        """Return the version that was installed when the change began."""
        return Version(self.change.from_version)

    @property
    def site_history(self) -> SiteHistory:
        """Return the site's history beyond this change."""
        return SiteHistory(self.journal)

    @property
    def change_ref(self) -> ChangeRef:
        """Return the reference by which the databases identify this change."""
        return replace(make_change_ref(self.change), no_copy=bool(self.read_facts().no_copy))

    def read_facts(self) -> ChangeFacts:
        """Return the facts of this change, read from the journal."""
        return self.journal.read_facts(self.change.id)

    def read_copy_plan(self) -> CopyPlan:
        """Return the copy plan that was journaled before the copy began.

        Raises:
            InterventionRequiredError: If the journal does not hold it.
        """
        from ncen_updater.agent.adapters.databases.base import CopyPlan

        data = self.read_facts().copy_plan
        if data is None:
            raise InterventionRequiredError(
                reason=LazyText(N_("the copy plan is missing in the journal"))
            )
        return CopyPlan(data)

    def read_offer(self) -> Offer | None:
        """Return the offer of the target release in the last verified metadata, or None."""
        view = self.site.release_source.load_last_view()
        for offer in view.offers if view else ():
            if offer.version == self.change.to_version:
                return offer
        return None

    def read_target(self) -> ReleaseDocument:
        """Return the document of the target release; its slot must exist."""
        return self.site.slots.read_document(self.target_version)

    def read_origin(self) -> ReleaseDocument:
        """Return the document of the release that was installed when the change began."""
        return self.site.slots.read_document(self.origin_version)

    def read_newer_release(self) -> ReleaseDocument:
        """Return the newer of the two releases; its checks and down migrations apply."""
        return self.read_target() if self.leads_to_newer else self.read_origin()

    @property
    def are_releases_distinguishable(self) -> bool:
        """Return whether the two releases report different versions."""
        reported = self.site.slots.read_reported_version
        return not matches_reported_version(
            reported(self.origin_version), reported(self.target_version)
        )

    @property
    def leads_to_newer(self) -> bool:
        """Return whether the change leads to a newer release."""
        return self.target_version > self.origin_version


class Step(abc.ABC):
    """One step of a change.

    Attributes:
        name: Name in the journal.
        title: Title shown while the step runs.
    """

    name: ClassVar[StepName]
    title: ClassVar[LazyText]

    def describe_do(self, context: StepContext) -> LazyText | None:
        """Return the title of :meth:`do` for this change; None if it does nothing."""
        return self.title

    def prepare(self, context: StepContext) -> ChangeFacts:
        """Return the facts that the journal needs before the effect; has no effect itself."""
        return NO_FACTS

    def record_intent(self, context: StepContext) -> None:  # noqa: B027 - few have more to record
        """Write further records in the transaction of the intent."""

    @abc.abstractmethod
    def do(self, context: StepContext) -> ChangeFacts:
        """Perform the effect and return the facts to record. Raises on failure."""

    def hold(self, context: StepContext) -> contextlib.AbstractContextManager[None]:
        """Return a context manager for resources that :meth:`do` and :meth:`is_done` share."""
        del context
        return contextlib.nullcontext()

    def is_done(self, context: StepContext) -> bool:
        """Tell whether the effect is complete; True for a step without a lasting effect."""
        return True

    def describe_undo(self, context: StepContext) -> LazyText | None:
        """Return the title of :meth:`undo`; None if it does nothing."""
        return None

    def undo(self, context: StepContext) -> None:  # noqa: B027 - some have nothing to undo
        """Restore the exact previous state, from any part of the effect."""

    def is_undone(self, context: StepContext) -> bool:
        """Tell whether the effect is completely undone."""
        return True
