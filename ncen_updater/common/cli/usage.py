"""What is wrong with a command line, in the language of the run.

Mistakes that a command finds are :class:`Misuse`. Those that click finds it says in English; each
of its sentences is known here by its form, and one that is not is passed on as it is.
"""

from __future__ import annotations

import re
from typing import Final

import click

from ncen_updater.common.i18n import N_, Text, translate

#: What stands for a value in help and usage; names of commands and options are never translated.
METAVARS: Final = (
    N_("ARGS"), N_("CEREMONY"), N_("CHANGE"), N_("CHANNEL"), N_("COMMAND"), N_("COUNTRIES"),
    N_("COUNTRY"), N_("DIRECTORY"), N_("EVENT"), N_("FEED"), N_("FILE"), N_("FILES"), N_("HASH"),
    N_("INTEGER"), N_("INTEGER RANGE"), N_("KEY"), N_("LABEL"), N_("LANGUAGE"), N_("NAME"),
    N_("NUMBER"), N_("ORDER"), N_("PART"), N_("PATH"), N_("PERCENT"), N_("PLACE"), N_("ROLES"),
    N_("SIZE"), N_("TEXT"), N_("TIME"), N_("WAVE"),
)  # fmt: skip
_METAVAR: Final = re.compile(
    r"(?<![A-Za-z_-])(?:" + "|".join(sorted(METAVARS, reverse=True)) + r")(?![A-Za-z_-])"
)
ANY: Final = "(?:File|Directory|Path)"
FOR: Final = N_("{what} {help}")
INVALID: Final = N_("Invalid value for {name}: {what}")
#: A sentence of click to ours; what its groups hold are the values, by name.
FORMS: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(form, re.DOTALL), template)
    for form, template in (
        (r"Missing argument (?P<name>.+?)\. Choose from:\s*(?P<choices>.+)",
         N_("Missing argument {name}. Choose from: {choices}")),
        (r"Missing option (?P<name>.+?)\. Choose from:\s*(?P<choices>.+)",
         N_("Missing option {name}. Choose from: {choices}")),
        (r"Missing argument (?P<name>.+)\.", N_("Missing argument {name}.")),
        (r"Missing option (?P<name>.+)\.", N_("Missing option {name}.")),
        (r"Missing command\.", N_("Missing command.")),
        (r"No such option (?P<name>.+)\. \(?Did you mean (?:one of: )?(?P<close>.+)\?\)?",
         N_("No such option {name}. Did you mean {close}?")),
        (r"No such option (?P<name>.+)\.", N_("No such option {name}.")),
        (r"No such command (?P<name>.+)\. \(?Did you mean (?:one of: )?(?P<close>.+)\?\)?",
         N_("No such command {name}. Did you mean {close}?")),
        (r"No such command (?P<name>.+)\.", N_("No such command {name}.")),
        (r"Got unexpected extra arguments? \((?P<words>.+)\)",
         N_("Got unexpected extra arguments ({words})")),
        (r"Option (?P<name>.+) requires an argument\.",
         N_("Option {name} requires an argument.")),
        (r"Option (?P<name>.+) does not take a value\.",
         N_("Option {name} does not take a value.")),
        (r"Invalid value for (?P<name>.+?): (?P<what>.+)", INVALID),
        (r"(?P<value>.+) is not (?:one of )?(?P<choices>'.+')\.",
         N_("{value} is not one of {choices}.")),
        (r"(?P<value>.+) is not a valid integer(?: range)?\.",
         N_("{value} is not a whole number.")),
        (r"(?P<value>.+) is not a valid float(?: range)?\.", N_("{value} is not a number.")),
        (r"(?P<value>.+) is not in the range (?P<range>.+)\.",
         N_("{value} is not in the range {range}.")),
        (r"File (?P<path>'.+') does not exist\.", N_("File {path} does not exist.")),
        (r"Directory (?P<path>'.+') does not exist\.", N_("Directory {path} does not exist.")),
        (r"Path (?P<path>'.+') does not exist\.", N_("Path {path} does not exist.")),
        (r"Directory (?P<path>'.+') is a file\.", N_("{path} is a file.")),
        (r"File (?P<path>'.+') is a directory\.", N_("{path} is a directory.")),
        (rf"{ANY} (?P<path>'.+') is not readable\.", N_("{path} is not readable.")),
        (rf"{ANY} (?P<path>'.+') is not writable\.", N_("{path} is not writable.")),
    )
)  # fmt: skip


class Misuse(click.UsageError):
    """A mistake in the command line that a command found itself.

    Args:
        template: What is wrong.
        context: Of the command.
        hint: The option or argument whose value it is about.
        **values: Of the places of the template.
    """

    def __init__(
        self,
        template: str,
        context: click.Context | None = None,
        /,
        *,
        hint: str | None = None,
        **values: object,
    ) -> None:
        self.text, self.hint = Text(template, values), hint
        super().__init__(self.words("en"), context)

    def words(self, language: str) -> str:
        """Return what is wrong."""
        if self.hint is None:
            return self.text.render(language)
        name = placeholders(self.hint, language)
        return Text(INVALID, {"name": name, "what": self.text}).render(language)


def placeholders(text: str, language: str) -> str:
    """Say what stands for a value, such as ``[OPTIONS] FILE``, in a language; pure."""
    return _METAVAR.sub(lambda found: translate(found[0], language), text)


def usage_words(error: click.ClickException, language: str) -> str:
    """Return what a mistake in the command line is; pure."""
    if isinstance(error, Misuse):
        return error.words(language)
    said = _words(error.format_message(), language)
    parameter = error.param if isinstance(error, click.MissingParameter) else None
    help_of = parameter.help if isinstance(parameter, click.Option) else None
    if not help_of:
        return said
    # What it is for: nobody has to look it up to write it.
    return Text(FOR, {"what": said, "help": Text(help_of)}).render(language)


def _words(said: str, language: str) -> str:
    for form, template in FORMS:
        found = form.fullmatch(said)
        if found is not None:
            # Choices stand below each other there.
            values = {key: " ".join(value.split()) for key, value in found.groupdict().items()}
            if "name" in values:
                values["name"] = placeholders(values["name"], language)
            if template is INVALID:  # what a type of click says of the value
                values["what"] = _words(found["what"], language)
            return Text(template, values).render(language)
    return said
