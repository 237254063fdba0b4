"""Progress of a child process: the child writes lines into a pipe that its parent named.

The pipe never blocks: what its reader does not take is lost, and the work goes on. One line is
shorter than PIPE_BUF, so lines of several threads do not mix.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ncen_updater.common.i18n import Text

__all__ = ["VARIABLE", "Relay", "Told", "relay_from_environment"]

#: Names the descriptor of the pipe.
VARIABLE = "NCEN_UPDATER_PROGRESS"
MAX_VALUE = 200
REPEAT_S = 0.5


@dataclass(frozen=True)
class Told:
    """One thing that a child said of its work.

    Attributes:
        template: The sentence, to be translated where it is shown.
        values: What its places hold.
        done: How much is done, in the unit of the sentence.
        total: Of how much.
    """

    template: str
    values: Mapping[str, str] = field(default_factory=dict)
    done: int | None = None
    total: int | None = None

    @property
    def text(self) -> Text:
        """The sentence."""
        return Text(self.template, self.values)

    def line(self) -> bytes:
        """Return it as one line."""
        document = {
            "tell": self.template, "values": dict(self.values),
            "done": self.done, "total": self.total,
        }  # fmt: skip
        return json.dumps(document).encode() + b"\n"

    @classmethod
    def from_json(cls, document: object) -> Told | None:
        """Read it; None for what is no such thing, since progress is only to look at."""
        if not isinstance(document, dict):
            return None
        template, values = document.get("tell"), document.get("values")
        if not isinstance(template, str) or not isinstance(values, dict):
            return None
        figures = [
            figure if type(figure) is int else None
            for figure in (document.get("done"), document.get("total"))
        ]
        words = {str(key): str(value)[:MAX_VALUE] for key, value in values.items()}
        return cls(template[:1000], words, *figures)

    @classmethod
    def from_line(cls, line: bytes) -> Told | None:
        """Read a line."""
        try:
            return cls.from_json(json.loads(line))
        except (ValueError, RecursionError):
            return None


class Relay:
    """A listener for progress that writes into a pipe.

    Args:
        descriptor: The end to write to; not blocking.
        monotonic: The clock.
    """

    def __init__(self, descriptor: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._descriptor, self._clock = descriptor, monotonic
        self._said: tuple[str, str] = ("", "")
        self._at = 0.0

    def tell(self, what: Text, done: int | None = None, total: int | None = None) -> None:
        """Send a sentence that is new at once, figures of the same one twice a second."""
        values = {key: str(value)[:MAX_VALUE] for key, value in what.values.items()}
        said, now = (what.template, str(values)), self._clock()
        if said == self._said and now - self._at < REPEAT_S:
            return
        self._said, self._at = said, now
        line = Told(what.template, values, done, total).line()
        if len(line) > select.PIPE_BUF:
            line = Told(what.template[:500], {}, done, total).line()
        try:
            os.write(self._descriptor, line)
        except OSError:  # full, or nobody reads it any more: work must not end by that
            return


def relay_from_environment(environment: Mapping[str, str] = os.environ) -> Relay | None:
    """Return the relay that the parent asked for, None where it asked for none."""
    number = environment.get(VARIABLE, "")
    return Relay(int(number)) if number.isdigit() else None
