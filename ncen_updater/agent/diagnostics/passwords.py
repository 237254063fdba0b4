"""Whether the console behind a password is whole, where a site has switched it on. Reads only."""

from __future__ import annotations

import grp
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, Text

#: As the package has them.
SOCKET, RULES = Path("/run/ncen-updater/login.sock"), Path("/etc/pam.d/ncen-updater")
CONSOLE = "ncen-updater-console"


@dataclass(frozen=True)
class PasswordParts:
    """What there is of it.

    Attributes:
        on: Whether passwords are looked at here.
        rules: Whether the system has rules for that.
        open_to_others: Whether more than the console's user may have passwords looked at.
        groups: In which groups the console's user is, besides its own.
    """

    on: bool
    rules: bool = True
    open_to_others: bool = False
    groups: tuple[str, ...] = ()

    @classmethod
    def here(cls, socket: Path = SOCKET, rules: Path = RULES, console: str = CONSOLE) -> Self:
        """Look at this machine."""
        try:
            found = socket.lstat()
        except OSError:  # it is off, as with the package
            return cls(on=False)
        try:
            number = pwd.getpwnam(console).pw_uid
        except KeyError:
            number = -1
        others = found.st_uid != number or bool(stat.S_IMODE(found.st_mode) & 0o077)
        groups = tuple(sorted(group.gr_name for group in grp.getgrall() if console in group.gr_mem))
        return cls(True, rules.is_file(), others, groups)


def password_findings(parts: PasswordParts) -> Iterator[Finding]:
    """Yield what is missing, or more open than the package has it; pure."""
    if not parts.on:
        return
    if not parts.rules:
        yield Finding(
            "NU-6135",
            Severity.ADVISORY,
            Text(N_("People cannot come to the console by a password: {path} is missing.")
                 , {"path": RULES}),
            Text(N_("Put the file of the package there again.")),
            {"path": str(RULES)},
        )  # fmt: skip
    if parts.open_to_others or parts.groups:
        groups = ", ".join(parts.groups) or "-"
        yield Finding(
            "NU-6136",
            Severity.ADVISORY,
            Text(
                N_("The console behind a password is more than the package makes it: others than "
                   "{user} may use {path}, or that user is in groups ({groups})."),
                {"user": CONSOLE, "path": SOCKET, "groups": groups},
            ),
            Text(
                N_("Let the socket be as the package has it ('systemctl revert "
                   "ncen-updater-login.socket'), and take the user out of the groups.")
            ),
            {"path": str(SOCKET), "groups": groups},
        )  # fmt: skip
