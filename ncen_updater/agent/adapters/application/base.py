"""Interface between the upgrade engine and an application."""

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
    """Expected report of a healthy application.

    Attributes:
        version: Version string that it must report; the site configures the name of the field. Two
            releases may report the same string: ``reported`` of a manifest.
        probes: Further requests of the manifest.
    """

    version: str
    probes: Sequence[HealthProbe] = ()


#: Names of the agent's own probes; all others come from the site or the publisher.
OWN_PROBES = frozenset({"answer", "disk", "health", "process"})


@dataclass(frozen=True)
class ProbeResult:
    """Result of one request; ``problem`` is None if it was as expected."""

    name: str
    problem: LazyText | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class HealthResult:
    """Result of one uncached health check. Truthy if everything was as expected.

    Attributes:
        results: Result of each request, and each part that does not run.
        reported: Fields of the main end point.
        answered: Whether the main end point answered at all.
        missing_parts: Parts that should run and do not; checked only if every request succeeded.
        credentials_refused: Whether the main end point refused the site's token or headers, or the
            token cannot be used, so that the health is unknown.
        status: HTTP status of the main end point; None without an answer.
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
        """Return the problems, one line each."""
        return tuple(
            result.problem
            if result.name in OWN_PROBES
            else LazyText("'{name}': {value}", {"name": result.name, "value": result.problem})
            for result in self.results
            if result.problem is not None
        )

    @property
    def problem(self) -> LazyText | None:
        """Return all problems as one text; None if there are none."""
        return join_texts(self.problems) if self.problems else None

    @property
    def answer_json(self) -> str:
        """Return the fields of the answer, shown only to people at the site."""
        return json.dumps(dict(self.reported), ensure_ascii=False)[:500]


class Application(abc.ABC):
    """The application of the site. Every operation is idempotent and raises if it fails.

    The *maintenance page* locks users out. The web server in front shows it while a file exists, so
    it survives crashes and restarts. The application also knows the file's path: while the file
    exists, it must not send mail or run jobs.
    """

    @abc.abstractmethod
    def stop(self) -> None:
        """Stop every part; return when no process and no queued start is left.

        Raises:
            ApplicationError: If it does not stop in time.
        """

    @abc.abstractmethod
    def start(self) -> None:
        """Start the release of ``current``; return once this is requested, before it is healthy.

        Running parts and deferred parts are left alone.
        """

    @abc.abstractmethod
    def start_deferred_parts(self) -> None:
        """Start the deferred parts, which wait until users have access, unless they run."""

    def describe_outage(self) -> LazyText | None:
        """Describe why it does not run, as far as known; None if it runs or is about to start."""
        return None if self.is_running() else LazyText(N_("not running"))

    def find_outside_installations(self) -> Mapping[str, str]:
        """Return the directory, by unit, of an application that does not start from ``current``."""
        return {}

    @abc.abstractmethod
    def is_running(self) -> bool:
        """Tell whether any process of any part runs."""

    @abc.abstractmethod
    def observe_state(self) -> ProcessState:
        """Return the state of the main part, whose health is checked, and why it does not run.

        Raises:
            STATE_UNKNOWN: If the state cannot be determined.
        """

    def was_stopped_on_request(self) -> bool:
        """Tell whether somebody else stopped a part on purpose; False if unknown.

        Raises:
            STATE_UNKNOWN: If the system does not answer.
        """
        return False

    @abc.abstractmethod
    def find_missing_parts(self, *, include_deferred: bool) -> tuple[str, ...]:
        """Return the names of parts that do not run as they should, without the main part.

        Args:
            include_deferred: Whether the deferred parts should run, too.
        """

    @abc.abstractmethod
    def enable_maintenance(self) -> None:
        """Show the maintenance page to users."""

    @abc.abstractmethod
    def disable_maintenance(self) -> None:
        """Remove the maintenance page."""

    def check_maintenance_page(self, *, rolling_back: bool) -> LazyText | None:
        """Return why the web server in front does not show the maintenance page; None if it does.

        Called only while the maintenance page is on.

        Args:
            rolling_back: Whether an unreachable web server is accepted, because it locks users out
                as well.
        """
        del rolling_back
        return None

    def check_health_token(self) -> UpdaterError | None:
        """Return why the token for the health check cannot be used; None if it can."""
        return None

    @abc.abstractmethod
    def is_in_maintenance(self) -> bool:
        """Tell whether the maintenance page is on."""

    @abc.abstractmethod
    def read_maintenance_change(self) -> str:
        """Return the id of the change that switched maintenance on.

        Empty if maintenance is off, or an operator switched it on.
        """

    @abc.abstractmethod
    def check_health(
        self, expectation: HealthExpectation, *, include_deferred: bool = False
    ) -> HealthResult:
        """Check the health once, uncached, from outside, with a deadline for each request.

        Args:
            expectation: The expected report.
            include_deferred: Whether the deferred parts should run, too.
        """
