"""What help and manual pages say beside options: groups of commands, examples, exit codes.

Data alone; every word is translated where it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import ExitCode

#: What each exit code means, in a few words.
EXIT_CODE_MEANINGS: Mapping[ExitCode, str] = {
    ExitCode.OK: N_("success, or nothing to do"),
    ExitCode.ERROR: N_("error"),
    ExitCode.USAGE: N_("usage error, or no terminal for a prompt"),
    ExitCode.BLOCKED: N_("blocked by a preflight check, or release not available for this site"),
    ExitCode.APPROVAL_MISSING: N_("approval missing or declined"),
    ExitCode.OUTSIDE_WINDOW_OR_HELD: N_("upgrades on hold, or maintenance window closed"),
    ExitCode.TRUST: N_("verification failed (signature, digest or clock)"),
    ExitCode.NETWORK: N_("network error"),
    ExitCode.SPACE: N_("not enough disk space"),
    ExitCode.BUSY: N_("another operation is in progress"),
    ExitCode.UPDATE_AVAILABLE: N_("upgrade available (--exit-code)"),
    ExitCode.ROLLED_BACK: N_("change failed and was reverted or rolled back"),
    ExitCode.INTERVENTION_NEEDED: N_(
        "manual intervention required, or verification found differences"
    ),
    ExitCode.REHEARSAL_STALE: N_("rehearsal missing or outdated"),
    ExitCode.FEED_STALE: N_("metadata expired"),
}
#: What every command may end with.
COMMON_EXIT_CODES = (0, 1, 2)


@dataclass(frozen=True)
class CommandHelp:
    """What the help of a program says.

    Attributes:
        groups: Heading to the commands below it; every command once.
        examples: Command to lines that can be typed, without the program's name, and what they do.
        meanings: What exit codes mean here.
        exit_codes: Command to the exit codes that it may end with, beside 0, 1 and 2.
    """

    groups: Mapping[str, tuple[str, ...]]
    examples: Mapping[str, Mapping[str, str]]
    meanings: Mapping[ExitCode, str]
    exit_codes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def list_exit_codes(self, command: str | None) -> Mapping[ExitCode, str]:
        """Return the exit codes of a command, or of the whole program for None."""
        if command is None:
            return self.meanings
        if command not in self.exit_codes:
            return {}
        codes = sorted({*COMMON_EXIT_CODES, *self.exit_codes[command]})
        return {ExitCode(code): self.meanings[ExitCode(code)] for code in codes}
