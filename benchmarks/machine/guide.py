"""The commands of a guide, taken from the document itself: a wrong line is found by running it."""

from __future__ import annotations

import re
from pathlib import Path

INSTALLATION = Path(__file__).parents[2] / "docs/how-to/install-agent.md"
#: The beginnings of lines that a person types; other indented lines go into files.
TYPED = ("sudo ", "ssh-keygen ", "sha256sum ", "ncen-updater ", "for ")


def commands(guide: str, section: int) -> list[str]:
    """Return what a section of a guide tells to type, in its order, "sudo editor" among it.

    Not what is below a heading of the section: that is for some sites only.

    Args:
        guide: The text.
        section: The number of its heading.

    Raises:
        LookupError: If there is no such section, or nothing to type in it.
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
