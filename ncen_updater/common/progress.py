"""How long work reports: one small protocol, so that the engine knows nothing of terminals."""

from __future__ import annotations

from typing import Protocol

from ncen_updater.common.i18n import Text

__all__ = ["Progress", "Silent"]


class Progress(Protocol):
    """A listener for work that may take more than two seconds."""

    def tell(self, what: Text, done: int | None = None, total: int | None = None) -> None:
        """Say what is being done now; ``done`` and ``total`` in the unit of the sentence.

        Called often and from any thread; must not block and must not raise.
        """


class Silent:
    """A listener that says nothing."""

    def tell(self, what: Text, done: int | None = None, total: int | None = None) -> None:
        """Say nothing."""
