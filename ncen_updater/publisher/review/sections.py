"""Lists of the page: all of a list is on it, a long one in an annex of its own. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ncen_updater.common.i18n import N_, Text

NOTHING = N_("nothing")
#: A list of more lines stands in the annexes.
MOST = 200


@dataclass(frozen=True)
class Section:
    """One list under its heading, whole.

    Attributes:
        title: Its heading.
        lines: Its lines.
        of: What it is about, for the heading in the annex.
    """

    title: str
    lines: tuple[Text, ...]
    of: str

    @property
    def annexed(self) -> bool:
        """Whether it stands in the annexes."""
        return len(self.lines) > MOST

    @property
    def shown(self) -> tuple[Text, ...]:
        """What stands under the heading on the page itself."""
        if self.annexed:
            words = N_("{count} lines: all of them stand in the annexes below")
            return (Text(words, {"count": len(self.lines)}),)
        return self.lines or (Text(NOTHING),)
