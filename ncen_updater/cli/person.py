"""Who gives an order, as the operating system knows them."""

from __future__ import annotations

import os

from ncen_updater.cli.program import user_name
from ncen_updater.upgrade.consent import Person

__all__ = ["person"]


def person() -> Person:
    """Return who gives the order: the person behind sudo, where there is one.

    Whoever is root may say anything of themselves here; where two people must approve, let them do
    it through the service, which asks the kernel.
    """
    behind = os.environ.get("SUDO_UID", "") if os.getuid() == 0 else ""
    return Person(user_name(), int(behind) if behind.isdigit() else os.getuid())
