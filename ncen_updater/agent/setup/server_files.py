"""What is added to the files of PostgreSQL; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAP = "ncen_updater"
MARK = "# Added by 'ncen-updater setup'; removed by 'ncen-updater setup --undo'."


@dataclass(frozen=True)
class LoginLines:
    """Lines by which root comes in as the agent's role and as the application's.

    Attributes:
        ident: For ``pg_ident.conf``.
        hba: For ``pg_hba.conf``, before all others.
    """

    ident: tuple[str, ...]
    hba: tuple[str, ...]


def make_login_lines(
    agent: str, owner: str, method: str, options: Sequence[str], *, user: str = "root"
) -> LoginLines:
    """Decide which lines are needed, so that nobody else's way in changes.

    Without a map ``peer`` lets a system user in as the role of the same name: for the application's
    role our map says the same once more.

    Args:
        agent: The agent's role.
        owner: The application's role.
        method: By which the application's role comes through the socket now; empty where it does
            not.
        options: Of that rule.
        user: The system user that the agent runs as.
    """
    found = [option.removeprefix("map=") for option in options if option.startswith("map=")]
    name = found[0] if found else MAP
    ident = [f"{name} {user} {quote_name(agent)}"]
    hba = [f"local all {quote_name(agent)} peer map={name}"]
    if method in ("peer", ""):
        ident.append(f"{name} {user} {quote_name(owner)}")
        if method == "peer" and not found:
            ident.append(f"{name} {quote_name(owner)} {quote_name(owner)}")
        if not found:
            hba.append(f"local all {quote_name(owner)} peer map={name}")
    return LoginLines(tuple(ident), tuple(hba))


def quote_name(name: str) -> str:
    """Return a name as both files take it: keywords and signs in double quotes."""
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name) and name.lower() not in (
        "all", "sameuser", "samerole", "replication",
    )  # fmt: skip
    return name if plain else '"' + name.replace('"', '""') + '"'


def insert_before_rules(text: str, lines: Sequence[str]) -> str:
    """Add lines before the first one that is no comment."""
    present = text.splitlines(keepends=True)
    place = next(
        (i for i, line in enumerate(present) if line.strip() and not line.lstrip().startswith("#")),
        len(present),
    )
    if present and not present[-1].endswith("\n"):
        present[-1] += "\n"
    return "".join([*present[:place], *(f"{line}\n" for line in (MARK, *lines)), *present[place:]])
