"""Pages for people to read in a browser: templates, and values of which none can become markup.

A page is a template below ``templates/`` of the package that makes it. Its values are escaped where
they are shown, and control characters are taken out of them. A name that is not there, and a value
that is None, stop the page: nobody may sign a page with an empty place in it.

Sentences stand in the template as ``say("...", place=value)``, where ``script/messages`` finds
them; a :class:`Text` is said the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from ncen_updater.common.cli.characters import clean, shown
from ncen_updater.common.cli.render import (
    format_bytes,
    format_count,
    format_duration,
    format_time,
    grouped,
)
from ncen_updater.common.i18n import Figure, Text, of_language, right_to_left, tag_of_page

if TYPE_CHECKING:
    from jinja2 import Environment
    from jinja2.runtime import Context


def fill(package: str, name: str, language: str, **values: object) -> bytes:
    """Return a page in UTF-8. What no encoding can hold is shown as a question mark.

    Args:
        package: The package with the directory ``templates``.
        name: The template in it.
        language: Of the sentences.
        values: What the template shows, by name.

    Raises:
        jinja2.TemplateError: If the template names what it was not given, or is none.
        TypeError: If a value that it shows is None.
    """

    def say(words: str | Text, **places: object) -> _Said:
        return _Said((words if isinstance(words, Text) else Text(words, places)).render(language))

    page = _environment(package).get_template(name)
    turned = right_to_left(language)
    return page.render(
        values, say=say, language=language, of_language=of_language, tag=tag_of_page(language),
        direction="rtl" if turned else "ltr",
    ).encode("utf-8", "replace")  # fmt: skip


class _Said(str):
    """A sentence of ours: its isolates are round values that were cleaned of theirs."""

    __slots__ = ()


@cache
def _environment(package: str) -> Environment:
    # Imported by who makes a page, and by nobody else: start-up stays light.
    from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context

    def said(form: Callable[..., Figure]) -> Callable[..., str]:
        """A filter that writes a figure in the language of the page."""

        @pass_context
        def write(context: Context, *values: object) -> str:
            return form(*values).render(context["language"])

        return write

    made = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=pass_context(_shown),
        loader=PackageLoader(package),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    made.filters.update(
        count=said(format_count), duration=said(format_duration), grouped=grouped,
        paragraphs=_paragraphs, size=said(format_bytes), time=said(format_time),
    )  # fmt: skip
    return made


def _shown(context: Context, value: object) -> object:
    if hasattr(value, "__html__"):
        return value  # a piece that a template made; no value of a site is one
    if value is None:
        raise TypeError("a page has an empty place")
    turned = context["direction"] == "rtl"
    return shown(value if isinstance(value, _Said) else clean(str(value)), turned=turned)


def _paragraphs(text: str) -> list[str]:
    """The blocks of a text; the lines within one stay."""
    return [block.strip() for block in clean(text).split("\n\n") if block.strip()]
