"""Errors in a command line, in the language of the run.

Errors found by our commands are :class:`CommandUsageError`. click translates its own errors with
gettext; ``click.po``, beside our catalogue, has the translations.
"""

from __future__ import annotations

import contextlib
import gettext
import os
import re
from collections.abc import Iterator
from typing import Final

import click
from packaging.version import InvalidVersion, Version

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import (
    N_,
    LazyText,
    LocalizedFigure,
    find_locale_directory,
    translate,
)
from ncen_updater.common.messages import BAD_VERSION, COMMAND_INTERRUPTED, UNEXPECTED

#: Metavars in help and usage, in lower case; names of commands and options are never translated.
METAVARS: Final = (
    N_("args"), N_("ceremony"), N_("change"), N_("channel"), N_("command"), N_("countries"),
    N_("country"), N_("directory"), N_("event"), N_("feed"), N_("file"), N_("files"), N_("hash"),
    N_("integer"), N_("job"), N_("key"), N_("label"), N_("language"), N_("name"),
    N_("number"), N_("part"), N_("path"), N_("percent"), N_("place"), N_("roles"),
    N_("size"), N_("text"), N_("time"), N_("wave"), N_("words"),
)  # fmt: skip
_METAVAR: Final = re.compile(
    rf"(?<![A-Za-z_-])(?:{'|'.join(sorted(METAVARS, reverse=True)).upper()})(?![A-Za-z_-])"
)
#: gettext domain of click's texts, and the variable with which gettext selects the language.
DOMAIN: Final = "click"
LANGUAGE: Final = "LANGUAGE"
VALUE_WITH_HELP: Final = N_("{what} {help}.")
INVALID_VALUE: Final = N_("Invalid value for {name}: {what}")
#: Mistakes that several commands find.
GIVE_ONE: Final = N_("give {option} or {other}")
OPTION_NEEDED: Final = N_("{option} requires {other}")
OPTION_EXCLUDED: Final = N_("{option} is not allowed with {other}")


@contextlib.contextmanager
def use_click_language(language: str) -> Iterator[None]:
    """Show click's errors in a language during the block."""
    gettext.bindtextdomain(DOMAIN, str(find_locale_directory(language, DOMAIN)))
    domain, before = gettext.textdomain(), os.environ.get(LANGUAGE)
    gettext.textdomain(DOMAIN)
    os.environ[LANGUAGE] = language
    try:
        yield
    finally:
        gettext.textdomain(domain)
        if before is None:
            os.environ.pop(LANGUAGE, None)
        else:
            os.environ[LANGUAGE] = before


class CommandUsageError(click.UsageError):
    """A mistake in the command line, found by a command.

    Args:
        template: The message.
        hint: The option or argument with the invalid value.
        **values: Values of the template's placeholders.
    """

    def __init__(
        self,
        template: str,
        /,
        *,
        hint: str | None = None,
        **values: object,
    ) -> None:
        self.text, self.hint = LazyText(template, values), hint
        super().__init__(self.render("en"))

    def render(self, language: str) -> str:
        """Return the message."""
        if self.hint is None:
            return translate_metavars(self.text.render(language), language)
        name = translate_metavars(self.hint, language)
        return LazyText(INVALID_VALUE, {"name": name, "what": self.text}).render(language)


def translate_metavars(text: str, language: str) -> str:
    """Translate the metavars in a usage line, such as ``[OPTIONS] FILE``. Pure."""
    return _METAVAR.sub(lambda found: translate(found[0].lower(), language).upper(), text)


def format_usage_error(error: click.ClickException, language: str) -> str:
    """Return the message of a usage error; translated within :func:`use_click_language`."""
    if isinstance(error, CommandUsageError):
        return error.render(language)
    text = " ".join(error.format_message().split())  # click puts choices on separate lines
    if not isinstance(error, click.BadParameter) or error.param is None:
        return text
    parameter, hint = error.param, error.param.get_error_hint(error.ctx)
    text = text.replace(hint, translate_metavars(hint, language), 1)
    help_of = parameter.help if isinstance(parameter, click.Option) else None
    if isinstance(error, click.MissingParameter) and help_of:
        # Add the option's help, so that the operator need not look it up.
        values = {"what": text, "help": LazyText(help_of)}
        return LazyText(VALUE_WITH_HELP, values).render(language)
    return text


SITE_STATE_UNKNOWN = N_("State of the site unknown: {why}")


NOTHING_CHANGED = LazyText(N_("Nothing was changed."))


class CommandInterruptedError(UpdaterError):
    """A command without changes to undo that a signal ended."""

    message = COMMAND_INTERRUPTED


class UnexpectedError(UpdaterError):
    """A defect of this program; the traceback is in ``detail`` or in a file that it names."""

    message = UNEXPECTED


def parse_version(text: str | None) -> Version | None:
    """Parse a version that the operator typed.

    Raises:
        BAD_VERSION: If it is invalid.
    """
    if text is None:
        return None
    try:
        return Version(text)
    except InvalidVersion as error:
        raise UpdaterError(BAD_VERSION, text=LocalizedFigure(text)) from error
