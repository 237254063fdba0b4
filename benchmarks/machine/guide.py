"""The commands of a guide, read from the document itself, so that running them tests it."""

from __future__ import annotations

import re
from pathlib import Path

INSTALLATION = Path(__file__).parents[2] / "docs/how-to/install-agent.md"
#: Beginnings of lines that a person types; other indented lines go into files.
TYPED = ("sudo ", "ssh-keygen ", "sha256sum ", "ncen-updater ", "for ")


def commands(guide: str, section: int) -> list[str]:
    """Return the commands of a section of a guide in their order, "sudo editor" included.

    Commands below a heading of the section are left out, because they are for some sites only.

    Args:
        guide: The text.
        section: Number of the section's heading.

    Raises:
        LookupError: If there is no such section, or it has no command.
    """
    parts = re.split(rf"^## {section}\. .*$", guide, maxsplit=1, flags=re.MULTILINE)
    if len(parts) == 1:
        raise LookupError(f"the guide has no section {section}")
    body = re.split(r"^#{1,3} ", parts[1], maxsplit=1, flags=re.MULTILINE)[0]
    found = [
        line.strip()
        for line in body.splitlines()
        if line.startswith("    ") and line.strip().startswith(TYPED)
    ]
    if not found:
        raise LookupError(f"section {section} of the guide tells nothing to type")
    return found
