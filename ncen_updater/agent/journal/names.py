"""Names of files in the state directory, and of events. Imports nothing: ``status`` needs them."""

from __future__ import annotations

from typing import Final

__all__ = [
    "AGENT_CHOSEN",
    "AGENT_CONFIRMED",
    "IMPORTED",
    "IMPORT_REFUSED",
    "JOURNAL",
    "LOCK",
    "ROLLBACK_EMERGENCY",
    "SERVICE_LOCK",
]

JOURNAL: Final = "journal.sqlite"
LOCK: Final = "change.lock"
#: Below the state directory, beside what the service keeps.
SERVICE_LOCK: Final = "service/service.lock"
IMPORTED: Final = "imported"
IMPORT_REFUSED: Final = "import-refused"
AGENT_CHOSEN: Final = "agent-chosen"
ROLLBACK_EMERGENCY: Final = "rollback-emergency"
AGENT_CONFIRMED: Final = "agent-confirmed"
