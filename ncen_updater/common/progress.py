"""Progress of long work: a small interface, so that the engine needs no terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Protocol

from ncen_updater.common.i18n import N_, LazyText

MAX_VALUE_CHARS = 200
#: Texts for a step that is reverted, in an upgrade and in a rollback: a previous step failed.
REVERTING = N_("reverting: {step}")
REVERTING_ROLLBACK = N_("reverting the rollback: {step}")


class Unit(StrEnum):
    """The unit of an amount of work."""

    COUNT = "count"
    BYTES = "bytes"


@dataclass(frozen=True)
class Amount:
    """An amount of work done, and the total if it is known."""

    done: int
    total: int | None = None
    unit: Unit = Unit.COUNT

    @classmethod
    def from_json(cls, document: object) -> Amount | None:
        """Parse an amount; return None if it is not one."""
        if not isinstance(document, dict) or type(document.get("done")) is not int:
            return None
        total = document.get("total")
        unit = Unit.BYTES if document.get("unit") == Unit.BYTES else Unit.COUNT
        return cls(document["done"], total if type(total) is int else None, unit)


class ProgressListener(Protocol):
    """A listener for work that may take more than two seconds."""

    def report(self, text: LazyText, amount: Amount | None = None) -> None:
        """Show the current activity, with the amount of work done if it can be counted.

        Called often and from any thread; must not block and must not raise.
        """


class SilentProgress:
    """A listener that ignores progress."""

    def report(self, text: LazyText, amount: Amount | None = None) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class ProgressUpdate:
    """A progress message, as it is sent between processes.

    Attributes:
        template: The template, translated where it is shown; empty for a heartbeat.
        values: Values of its placeholders.
        amount: Amount of work done, if it can be counted.
    """

    template: str
    values: Mapping[str, str] = field(default_factory=dict)
    amount: Amount | None = None

    @property
    def text(self) -> LazyText:
        """Return the text."""
        return LazyText(self.template, self.values)

    def to_json_line(self) -> bytes:
        """Return the message as one line of JSON."""
        document = {
            "template": self.template, "values": dict(self.values),
            "amount": None if self.amount is None else asdict(self.amount),
        }  # fmt: skip
        return json.dumps(document).encode() + b"\n"

    @classmethod
    def from_json(cls, document: object) -> ProgressUpdate | None:
        """Parse a message; return None if it is not one."""
        if not isinstance(document, dict):
            return None
        template, values = document.get("template"), document.get("values", {})
        if not isinstance(template, str) or not isinstance(values, dict):
            return None
        texts = {str(key): str(value)[:MAX_VALUE_CHARS] for key, value in values.items()}
        return cls(template[:1000], texts, Amount.from_json(document.get("amount")))


#: In a worker process: the listener that sends progress to the caller.
CALLER_PROGRESS: list[ProgressListener] = []
