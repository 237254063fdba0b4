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
    ExitCode.OK: N_("Done, or nothing to do."),
    ExitCode.ERROR: N_("An error without a code of its own here."),
    ExitCode.USAGE: N_("The command line, or a question that nobody could answer."),
    ExitCode.BLOCKED: N_("Something blocks, or the release is not for this site."),
    ExitCode.APPROVAL_MISSING: N_("An approval is missing, or the answer was no."),
    ExitCode.OUTSIDE_WINDOW_OR_HELD: N_("On hold, or the window has closed."),
    ExitCode.TRUST: N_("Signatures, digests or the clock: not believed."),
    ExitCode.NETWORK: N_("The network."),
    ExitCode.SPACE: N_("Too little space."),
    ExitCode.BUSY: N_("Another change is at work or open."),
    ExitCode.UPDATE_AVAILABLE: N_("An upgrade is available (--exit-code)."),
    ExitCode.ROLLED_BACK: N_("The change failed and was undone."),
    ExitCode.INTERVENTION_NEEDED: N_("A person is needed, or something differs."),
    ExitCode.REHEARSAL_STALE: N_("Not rehearsed, or no longer what was rehearsed or approved."),
    ExitCode.FEED_STALE: N_("A signed list of the feed lapsed."),
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
        exits: Command to the exit codes that it may end with, beside 0, 1 and 2.
    """

    groups: Mapping[str, tuple[str, ...]]
    examples: Mapping[str, Mapping[str, str]]
    meanings: Mapping[ExitCode, str]
    exit_codes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def list_exit_codes(self, command: str | None) -> Mapping[ExitCode, str]:
        """The exit codes of a command, of the program where None is asked for."""
        if command is None:
            return self.meanings
        if command not in self.exit_codes:
            return {}
        codes = sorted({*COMMON_EXIT_CODES, *self.exit_codes[command]})
        return {ExitCode(code): self.meanings[ExitCode(code)] for code in codes}
