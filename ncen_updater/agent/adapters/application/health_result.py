"""Expected and reported health of an application."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ncen_updater.common.i18n import LazyText, join_texts
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
