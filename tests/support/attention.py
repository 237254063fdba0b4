"""Count of the user actions of an operation, with an estimate by one stated rule."""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds of the keystroke-level model: a key of an average typist, pointing, a press
#: and a release of the button, the hand to mouse or keyboard, and thinking of what to do. Card,
#: Moran, Newell: The keystroke-level model for user performance time with interactive systems,
#: Communications of the ACM 23 (1980) 7, pages 396 to 410.
KEY_S, POINT_S, CLICK_S, HAND_S, MIND_S = 0.28, 1.1, 0.2, 0.4, 1.35


@dataclass
class Attention:
    """Actions of one user.

    Attributes:
        pages: Pages opened by a click in the navigation.
        clicks: Clicks on a page: buttons, boxes, sections.
        fields: Filled fields.
        commands: Lines typed at a prompt.
        answers: Answered questions.
        keys: Pressed keys, including the one that ends a line.
    """

    pages: int = 0
    clicks: int = 0
    fields: int = 0
    commands: int = 0
    answers: int = 0
    keys: int = 0

    def clicked(self) -> None:
        """Count a click."""
        self.clicks += 1

    def filled(self, text: str) -> None:
        """Count a filled field."""
        self.fields += 1
        self.keys += len(text)

    def typed(self, line: str) -> None:
        """Count a command."""
        self.commands += 1
        self.keys += len(line) + 1

    def answered(self, text: str) -> None:
        """Count an answer to a question."""
        self.answers += 1
        self.keys += len(text) + 1

    @property
    def estimate_s(self) -> float:
        """Return seconds by the model, without reading and waiting, which every approver needs."""
        pointed = (self.pages + self.clicks + self.fields) * (MIND_S + POINT_S + CLICK_S)
        typed = (self.commands + self.answers) * MIND_S + self.keys * KEY_S
        return pointed + typed + self.fields * 2 * HAND_S

    def __add__(self, other: Attention) -> Attention:
        """Return the sum of both."""
        return Attention(
            self.pages + other.pages, self.clicks + other.clicks, self.fields + other.fields,
            self.commands + other.commands, self.answers + other.answers, self.keys + other.keys,
        )  # fmt: skip


def row(name: str, one: Attention) -> str:
    """Return the row of the table in tests/console/attention.md."""
    cells = (
        name, one.pages, one.clicks, one.fields, one.commands, one.answers, one.keys,
        round(one.estimate_s),
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"
