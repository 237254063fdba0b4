"""An operator's refusal to upgrade."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Hold:
    """One refusal.

    Attributes:
        reason: In the operator's words.
        by: Who.
        since: From when on.
        until: When it ends by itself; None for without end.
    """

    reason: str
    by: str
    since: datetime
    until: datetime | None = None

    def active_at(self, time: datetime) -> bool:
        """Whether it forbids an upgrade that begins at this time.

        A time before ``since`` counts too: a clock that was set back must not open what a person
        closed.
        """
        return self.until is None or time < self.until
