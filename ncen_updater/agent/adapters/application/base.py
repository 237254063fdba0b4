"""Interface that the upgrade engine needs of an application."""

from __future__ import annotations

import abc
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ncen_updater.agent.policy.restart_policy import ProcessState
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText, join_texts
from ncen_updater.formats.manifest import HealthProbe


@dataclass(frozen=True)
class HealthExpectation:
    """What a healthy application says of itself.

    Attributes:
        version: What it must report; the field's name is in the site's configuration. Two releases
            may report the same: ``reported`` of a manifest.
        probes: Further requests of the manifest.
    """

    version: str
    probes: Sequence[HealthProbe] = ()


#: Probes of our own; the names of all others are the site's or the publisher's words.
OWN_PROBES = frozenset({"answer", "disk", "health", "process"})


@dataclass(frozen=True)
class ProbeResult:
    """One request and what came of it; ``problem`` is None when all was as expected."""

    name: str
    problem: LazyText | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class HealthResult:
    """One uncached look. Truthy when everything was as expected.

    Attributes:
        results: Each request, and each part that does not run.
        reported: The fields of the main end point.
        answered: Whether the main end point answered anything at all.
        missing_parts: Parts that should run and do not; asked only where every request was well.
        credentials_refused: Whether the main end point refused the token or the headers that the
            site
            sends, or the token cannot be used, so that nothing is known of how the application is.
        status: Of the answer of the main end point; None where there was none.
    """

    results: tuple[ProbeResult, ...]
    reported: Mapping[str, object] = field(default_factory=dict)
    answered: bool = True
    missing_parts: tuple[str, ...] = ()
    credentials_refused: bool = False
    status: int | None = None

    def __bool__(self) -> bool:
        return not self.problems

    @property
    def problems(self) -> tuple[LazyText, ...]:
        """Return what was wrong, a line each."""
        return tuple(
            result.problem
            if result.name in OWN_PROBES
            else LazyText("'{name}': {value}", {"name": result.name, "value": result.problem})
            for result in self.results
            if result.problem is not None
        )

    @property
    def problem(self) -> LazyText | None:
        """Return all of that together; None when all was as expected."""
        return join_texts(self.problems) if self.problems else None

    @property
    def answer_json(self) -> str:
        """Return the answer's own fields, for people at the site alone."""
        return json.dumps(dict(self.reported), ensure_ascii=False)[:500]


class Application(abc.ABC):
    """The application of the site. Every act is idempotent and raises when it fails.

    The *maintenance page* keeps users out. The web server in front shows it while a file exists, so
    that it survives crashes and restarts. The application gets the file's path too: while the page
    is on, it must not send mail or run jobs.
    """

    @abc.abstractmethod
    def stop(self) -> None:
        """Stop every part; returns when no process of it remains, nor an order to start one.

        Raises:
            ApplicationError: If it does not stop in time.
        """

    @abc.abstractmethod
    def start(self) -> None:
        """Start what ``current`` points at; returns once ordered, not when healthy.

        Parts that run are left alone, and so are those that wait until users are in.
        """

    @abc.abstractmethod
    def start_deferred_parts(self) -> None:
        """Start the parts that wait until users are in; those that run are left alone."""

    def why_down(self) -> LazyText | None:
        """Say why it is down, as far as the system knows; None where it runs, or is about to."""
        return None if self.is_running() else LazyText(N_("not running"))

    def find_outside_installations(self) -> Mapping[str, str]:
        """Return the directory by unit from which it starts instead of ``current``."""
        return {}

    @abc.abstractmethod
    def is_running(self) -> bool:
        """Tell whether any process of any part runs."""

    @abc.abstractmethod
    def observe_state(self) -> ProcessState:
        """Look at the part that is asked for health, with why it does not run.

        Raises:
            STATE_UNKNOWN: If that cannot be told.
        """

    def stopped_in_order(self) -> bool:
        """Tell whether somebody else stopped a part on purpose; False where that cannot be told.

        Raises:
            STATE_UNKNOWN: If the system does not answer.
        """
        return False

    @abc.abstractmethod
    def find_missing_parts(self, *, include_deferred: bool) -> tuple[str, ...]:
        """Parts that do not run as they should, by name, without the one that is asked for health.

        Args:
            include_deferred: Whether those that wait until users are in should run too.
        """

    @abc.abstractmethod
    def enable_maintenance(self) -> None:
        """Keep users out and show them the maintenance page."""

    @abc.abstractmethod
    def disable_maintenance(self) -> None:
        """Let users in."""

    def check_maintenance_page(self, *, rolling_back: bool) -> LazyText | None:
        """Return why the front server lets users in although the maintenance page is on, else None.

        Called only while the maintenance page is on.

        Args:
            rolling_back: Whether a front that does not answer is none: it lets nobody in.
        """
        del rolling_back
        return None

    def check_health_token(self) -> UpdaterError | None:
        """Return why the token that goes along with each look at the health cannot be used."""
        return None

    @abc.abstractmethod
    def is_in_maintenance(self) -> bool:
        """Tell whether users are kept out."""

    @abc.abstractmethod
    def read_maintenance_change(self) -> str:
        """Return the id of the change that switched maintenance on.

        Empty where maintenance is off, or an operator switched it on.
        """

    @abc.abstractmethod
    def check_health(
        self, expectation: HealthExpectation, *, include_deferred: bool = False
    ) -> HealthResult:
        """Look once, uncached, from outside the process, with a deadline on each request.

        Args:
            expectation: What it must say of itself.
            include_deferred: Whether the parts that wait until users are in should run too.
        """
