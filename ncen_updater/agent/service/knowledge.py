"""What the service knows between two looks, and keeps for its next start.

All of it can be found out again: a file that is damaged is forgotten, and the feed asked anew. What
must never be forgotten (changes, approvals, holds, bad releases) is in the journal.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from ncen_updater.agent.journal.rows import optional_time
from ncen_updater.agent.policy.automation import Deed, Failure, Rehearsed
from ncen_updater.common import atomic_files as durable

__all__ = ["Assessment", "Knowledge", "KnowledgeFile"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Assessment:
    """What stands between the site and its next release, as a child found it.

    Attributes:
        event: Number of the journal's last event when it was made; a later one outdates it.
        current: The release in use.
        target: The release that comes next, if any.
        agent: A newer agent that is on offer and has not failed here.
        prepared: Whether the target's slot stands.
        rehearsed: What is known of its rehearsal.
        plan: Digest of the plan; empty while a slot of it is still to be built.
        binding: What an approval would have to carry.
        basis: The document whose digest the binding is.
        bad_until: Until when the target is not tried by itself.
        voids: Why an earlier approval no longer holds, in words.
        collect_at: When the days of something that is kept are over.
        left: Whether people went back from a release on the way to the target.
    """

    event: int
    current: str | None = None
    target: str | None = None
    agent: str | None = None
    prepared: bool = False
    rehearsed: Rehearsed = Rehearsed.MISSING
    plan: str = ""
    binding: str = ""
    basis: Mapping[str, object] | None = None
    bad_until: datetime | None = None
    voids: tuple[str, ...] = ()
    collect_at: datetime | None = None
    left: bool = False

    def to_json(self) -> dict[str, object]:
        """Return it as the child writes it."""
        return {
            "event": self.event,
            "current": self.current,
            "target": self.target,
            "agent": self.agent,
            "prepared": self.prepared,
            "rehearsed": self.rehearsed.value,
            "plan": self.plan,
            "binding": self.binding,
            "basis": dict(self.basis) if self.basis is not None else None,
            "bad_until": self.bad_until.isoformat() if self.bad_until else None,
            "voids": list(self.voids),
            "collect_at": self.collect_at.isoformat() if self.collect_at else None,
            "left": self.left,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Assessment:
        """Read what the child wrote.

        Raises:
            ValueError, KeyError, TypeError: If it is none.
        """
        voids, event, basis = data["voids"], data["event"], data.get("basis")
        if not (isinstance(voids, list) and type(event) is int and isinstance(basis, dict | None)):
            raise TypeError("not an assessment")
        return cls(
            event=event,
            current=_text(data["current"]),
            target=_text(data["target"]),
            agent=_text(data["agent"]),
            prepared=data["prepared"] is True,
            rehearsed=Rehearsed(str(data["rehearsed"])),
            plan=str(data.get("plan", "")),
            binding=str(data["binding"]),
            basis=basis,
            bad_until=optional_time(_text(data["bad_until"])),
            voids=tuple(str(void) for void in voids),
            collect_at=optional_time(_text(data.get("collect_at"))),
            left=data.get("left") is True,
        )


def _text(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"not a text: {value!r}"[:100])
    return value


@dataclass(frozen=True)
class Knowledge:
    """Everything that the service keeps.

    Attributes:
        assessment: The last one; None when it has to be made anew.
        checked_at: When the feed last answered.
        next_check: When it is asked again; None for at once.
        failures: Deeds that failed when they were last tried.
    """

    assessment: Assessment | None = None
    checked_at: datetime | None = None
    next_check: datetime | None = None
    failures: Mapping[Deed, Failure] = field(default_factory=dict)

    def failed(self, deed: Deed, now: datetime) -> Knowledge:
        """Return it with one more failure of a deed."""
        times = self.failures[deed].times + 1 if deed in self.failures else 1
        return replace(self, failures={**self.failures, deed: Failure(now, times)})

    def succeeded(self, deed: Deed) -> Knowledge:
        """Return it without failures of a deed."""
        return replace(self, failures={d: f for d, f in self.failures.items() if d is not deed})

    def to_json(self) -> dict[str, object]:
        """Return it as the file holds it."""
        return {
            "assessment": self.assessment.to_json() if self.assessment else None,
            "checked_at": self.checked_at.isoformat() if self.checked_at else None,
            "next_check": self.next_check.isoformat() if self.next_check else None,
            "failures": {
                deed.value: {"at": failure.at.isoformat(), "times": failure.times}
                for deed, failure in self.failures.items()
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Knowledge:
        """Read what the file holds.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: If it is something else.
        """
        assessment, failures = data["assessment"], data["failures"]
        if not isinstance(failures, dict) or not isinstance(assessment, dict | None):
            raise TypeError("not what the service keeps")
        return cls(
            Assessment.from_json(assessment) if assessment else None,
            optional_time(_text(data["checked_at"])),
            optional_time(_text(data["next_check"])),
            {
                Deed(deed): Failure(datetime.fromisoformat(row["at"]), max(1, int(row["times"])))
                for deed, row in failures.items()
            },
        )


class KnowledgeFile:
    """The file that keeps it.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Knowledge:
        """Read it; nothing is known where it is missing or damaged."""
        try:
            data = json.loads(self._path.read_bytes())
            return Knowledge.from_json(data)
        except FileNotFoundError:
            return Knowledge()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            logger.warning("%s is damaged, the feed is asked anew: %s", self._path, error)
            return Knowledge()

    def save(self, knowledge: Knowledge) -> None:
        """Replace it in one step."""
        content = json.dumps(knowledge.to_json(), sort_keys=True, indent=1).encode()
        durable.write(self._path, content, 0o640)
