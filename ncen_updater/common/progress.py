"""Progress of long work: one small protocol, so that the engine knows nothing of terminals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ncen_updater.common.i18n import N_, LazyText

MAX_VALUE_CHARS = 200
#: What is said of a step that is reverted, in an upgrade and in a rollback: one before it failed.
REVERTING = N_("reverting: {step}")
REVERTING_ROLLBACK = N_("reverting the rollback: {step}")


class ProgressListener(Protocol):
    """A listener for work that may take more than two seconds."""

    def report(self, text: LazyText, done: int | None = None, total: int | None = None) -> None:
        """Say what is being done now; ``done`` and ``total`` in the unit of the sentence.

        Called often and from any thread; must not block and must not raise.
        """


class SilentProgress:
    """A listener that says nothing."""

    def report(self, text: LazyText, done: int | None = None, total: int | None = None) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class ProgressUpdate:
    """One thing that was said of work, as it travels between processes.

    Attributes:
        template: The sentence, to be translated where it is shown; empty for a sign of life.
        values: What its places hold.
        done: How much is done, in the unit of the sentence.
        total: Of how much.
    """

    template: str
    values: Mapping[str, str] = field(default_factory=dict)
    done: int | None = None
    total: int | None = None

    @property
    def text(self) -> LazyText:
        """Return the sentence."""
        return LazyText(self.template, self.values)

    def to_json_line(self) -> bytes:
        """Return it as one line."""
        document = {
            "template": self.template, "values": dict(self.values),
            "done": self.done, "total": self.total,
        }  # fmt: skip
        return json.dumps(document).encode() + b"\n"

    @classmethod
    def from_json(cls, document: object) -> ProgressUpdate | None:
        """Read it; None for what is no such thing."""
        if not isinstance(document, dict):
            return None
        template, values = document.get("template"), document.get("values", {})
        if not isinstance(template, str) or not isinstance(values, dict):
            return None
        figures = [
            figure if type(figure) is int else None
            for figure in (document.get("done"), document.get("total"))
        ]
        words = {str(key): str(value)[:MAX_VALUE_CHARS] for key, value in values.items()}
        return cls(template[:1000], words, *figures)


#: Where this process is a worker: who asked for its work, to be told of it.
CALLER_PROGRESS: list[ProgressListener] = []
