"""Lines that setup adds to the files of PostgreSQL; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAP = "ncen_updater"
MARK = "# Added by 'ncen-updater setup'; removed by 'ncen-updater setup --undo'."


@dataclass(frozen=True)
class LoginLines:
    """Lines that let root log in as the agent's role and as the application's.

    Attributes:
        ident: Lines for ``pg_ident.conf``.
        hba: Lines for ``pg_hba.conf``, inserted before all others.
    """

    ident: tuple[str, ...]
    hba: tuple[str, ...]


def make_login_lines(
    agent: str, owner: str, method: str, options: Sequence[str], *, user: str = "root"
) -> LoginLines:
    """Return the lines that are needed; all existing logins still work.

    Without a map, ``peer`` admits a system user as the role of the same name. The new map replaces
    this rule for the application's role, so it repeats that entry.

    Args:
        agent: Role of the agent.
        owner: Role of the application.
        method: Current method of the application role's socket logins; empty without a rule.
        options: Options of that rule.
        user: System user of the agent.
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
    """Quote keywords and names with special characters, as both files require."""
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name) and name.lower() not in (
        "all", "sameuser", "samerole", "replication",
    )  # fmt: skip
    return name if plain else '"' + name.replace('"', '""') + '"'


def put_first(text: str, lines: Sequence[str]) -> str:
    """Put lines before all others: the first rule that matches decides."""
    return "".join(f"{line}\n" for line in (MARK, *lines)) + text
