"""Errors in a command line, in the language of the run.

Errors that a command finds are :class:`CommandUsageError`. click words its own errors through
gettext: ``click.po`` beside the catalogue of ncen-updater has the translations.
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
from ncen_updater.common.i18n import N_, LazyText, LocalizedFigure, locale_directory, translate
from ncen_updater.common.messages import BAD_VERSION, COMMAND_INTERRUPTED, UNEXPECTED

#: What stands for a value in help and usage; names of commands and options are never translated.
METAVARS: Final = (
    N_("ARGS"), N_("CEREMONY"), N_("CHANGE"), N_("CHANNEL"), N_("COMMAND"), N_("COUNTRIES"),
    N_("COUNTRY"), N_("DIRECTORY"), N_("EVENT"), N_("FEED"), N_("FILE"), N_("FILES"), N_("HASH"),
    N_("INTEGER"), N_("JOB"), N_("KEY"), N_("LABEL"), N_("LANGUAGE"), N_("NAME"),
    N_("NUMBER"), N_("PART"), N_("PATH"), N_("PERCENT"), N_("PLACE"), N_("ROLES"),
    N_("SIZE"), N_("TEXT"), N_("TIME"), N_("WAVE"),
)  # fmt: skip
_METAVAR: Final = re.compile(
    r"(?<![A-Za-z_-])(?:" + "|".join(sorted(METAVARS, reverse=True)) + r")(?![A-Za-z_-])"
)
#: The domain of what click says, and where gettext finds which language is wanted.
DOMAIN: Final = "click"
LANGUAGE: Final = "LANGUAGE"
VALUE_WITH_HELP: Final = N_("{what} {help}.")
INVALID_VALUE: Final = N_("Invalid value for {name}: {what}")


@contextlib.contextmanager
def click_in(language: str) -> Iterator[None]:
    """Let click say in a language what is wrong."""
    gettext.bindtextdomain(DOMAIN, str(locale_directory(language, DOMAIN)))
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
        self.text, self.hint = LazyText(template, values), hint
        super().__init__(self.render("en"), context)

    def render(self, language: str) -> str:
        """Return what is wrong."""
        if self.hint is None:
            return self.text.render(language)
        name = translate_metavars(self.hint, language)
        return LazyText(INVALID_VALUE, {"name": name, "what": self.text}).render(language)


def translate_metavars(text: str, language: str) -> str:
    """Say what stands for a value, such as ``[OPTIONS] FILE``, in a language; pure."""
    return _METAVAR.sub(lambda found: translate(found[0], language), text)


def format_usage_error(error: click.ClickException, language: str) -> str:
    """Return what a mistake in the command line is, of click's where :func:`click_in` is held."""
    if isinstance(error, CommandUsageError):
        return error.render(language)
    text = " ".join(error.format_message().split())  # choices stand below each other there
    if not isinstance(error, click.BadParameter) or error.param is None:
        return text
    parameter, hint = error.param, error.param.get_error_hint(error.ctx)
    text = text.replace(hint, translate_metavars(hint, language), 1)
    help_of = parameter.help if isinstance(parameter, click.Option) else None
    if isinstance(error, click.MissingParameter) and help_of:
        # What it is for: nobody has to look it up to write it.
        values = {"what": text, "help": LazyText(help_of)}
        return LazyText(VALUE_WITH_HELP, values).render(language)
    return text


SITE_STATE_UNKNOWN = N_("State of the site unknown: {why}")


NOTHING_CHANGED = LazyText(N_("Nothing was changed."))


class CommandInterruptedError(UpdaterError):
    """A signal ended a command that had nothing to undo."""

    message = COMMAND_INTERRUPTED


class UnexpectedError(UpdaterError):
    """A mistake in this program; the trace is in ``detail`` or in a file that it names."""

    message = UNEXPECTED


def parse_version(text: str | None) -> Version | None:
    """Read a version that a person typed.

    Raises:
        BAD_VERSION: If it is none.
    """
    if text is None:
        return None
    try:
        return Version(text)
    except InvalidVersion as error:
        raise UpdaterError(BAD_VERSION, text=LocalizedFigure(text)) from error
