"""Upgrades of an application run by other people: one whole version after any failure."""

from pathlib import Path

# Names that units and other versions of the agent know; the modules lie elsewhere today.
__path__.append(str(Path(__file__).parent / "agent" / "self_update" / "entry_points"))
