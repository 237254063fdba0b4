"""What the upgrade engine asks of an application."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ncen_updater.release.manifest import HealthProbe

__all__ = ["Application", "Expectation", "Health", "ProbeResult"]


@dataclass(frozen=True)
class Expectation:
    """What a healthy application says of itself.

    Attributes:
        version: The version it must report; the field's name is in the site's configuration.
        probes: Further requests of the manifest.
    """

    version: str
    probes: Sequence[HealthProbe] = ()


@dataclass(frozen=True)
class ProbeResult:
    """One request and what came of it; ``problem`` is empty when all was as expected."""

    name: str
    problem: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Health:
    """One uncached look. Truthy when every probe was as expected."""

    results: tuple[ProbeResult, ...]
    reported: Mapping[str, object] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return all(not result.problem for result in self.results)

    @property
    def problems(self) -> tuple[str, ...]:
        """What was wrong, a line each."""
        return tuple(f"{r.name}: {r.problem}" for r in self.results if r.problem)


class Application(abc.ABC):
    """The application of the site. Every act is idempotent and raises when it fails.

    The *door* is what lets officers in. It is closed and opened by a file that the web server in
    front looks at, so that it stays as it is through crashes and restarts, and the application is
    told of it too: with a closed door it must not send mail or run jobs.
    """

    @abc.abstractmethod
    def stop(self) -> None:
        """Stop it; returns when no process of it remains.

        Raises:
            ApplicationError: If it does not stop in time.
        """

    @abc.abstractmethod
    def start(self) -> None:
        """Start what ``current`` points at; returns once ordered, not when healthy."""

    @abc.abstractmethod
    def running(self) -> bool:
        """Whether any process of it runs."""

    @abc.abstractmethod
    def close_door(self) -> None:
        """Keep officers out and show them the maintenance page."""

    @abc.abstractmethod
    def open_door(self) -> None:
        """Let officers in."""

    @abc.abstractmethod
    def door_closed(self) -> bool:
        """Whether officers are kept out."""

    @abc.abstractmethod
    def closed_by(self) -> str:
        """The change whose agent closed the door; empty where it is open or people closed it."""

    @abc.abstractmethod
    def health(self, expectation: Expectation) -> Health:
        """Look once, uncached, from outside the process, with a deadline on each request."""
