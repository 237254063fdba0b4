"""Session shown in README.md, extracted from the output of the demonstration.

    script/demo --quick --lang en > output && python -m demo.session output

This writes it to README.md; a test compares both whenever it runs the demonstration.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"(?ms)^(<!-- session -->\n```text\n).*?^(```\n<!-- end -->)$")
#: Commands to show, up to the verdict of the demonstration.
COMMANDS = ("ncen-updater upgrade 3.3.0 --yes", "ncen-updater upgrade 3.3.1 --yes --quiet")
VERDICT = "  [ok]"
#: Lines that depend on threads or timing, and messages of the server.
SKIPPED = re.compile(r"(?:seizures|companies|suspects): |unpacking \S+\.tar|Detail:")


def extract_session(output: str) -> str:
    """Return the selected commands with their output; pure."""
    return "\n".join(_extract_lines(output.splitlines())) + "\n"


def _extract_lines(lines: list[str]) -> Iterator[str]:
    for number, command in enumerate(COMMANDS):
        if number:
            yield ""
        yield f"$ {command.removesuffix(' --quiet')}"
        place = re.compile(r"/\S*/ncen-demo-\w+/site")
        begin = lines.index(f"  $ {command}") + 1
        before = ""
        for line in lines[begin:]:
            if line.startswith(VERDICT):
                break
            text = place.sub("", line).removeprefix("    ").rstrip()
            if SKIPPED.match(text) or (before and text.startswith(before)):
                continue
            before = text
            yield text


def normalize(session: str) -> list[str]:
    """Return the words of a session without numbers, ids and line breaks; pure."""
    text = re.sub(r"\b((?i:change)|failures/?) ?[a-z2-7]{8}\b", r"\1 ID", session)
    text = re.sub(r"\d+(?:\.\d+)*", "0", text)
    return text.split()


def main(arguments: list[str]) -> None:
    """Write the session into README.md."""
    session = extract_session(Path(arguments[0]).read_text("utf-8"))
    text = README.read_text("utf-8")
    README.write_text(BLOCK.sub(lambda found: found[1] + session + found[2], text), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
