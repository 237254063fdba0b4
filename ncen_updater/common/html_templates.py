"""Pages for people to read in a browser: templates, and values of which none can become markup.

A page is a template below ``templates/`` of the package that makes it. Its values are escaped where
they are shown, and control characters are taken out of them. A name that is not there, and a value
that is None, stop the page: nobody may sign a page with an empty place in it.

Sentences stand in the template as ``say("...", place=value)``, where ``script/messages`` finds
them; a :class:`LazyText` is said the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from ncen_updater.common.cli.characters import prepare_for_terminal, strip_control_characters
from ncen_updater.common.cli.render import (
    format_bytes,
    format_count,
    format_duration,
    format_time,
    group_digest,
)
from ncen_updater.common.i18n import (
    LazyText,
    LocalizedFigure,
    choose_translation,
    is_right_to_left,
    make_language_tag,
)

if TYPE_CHECKING:
    from jinja2 import Environment
    from jinja2.runtime import Context


def render_page(package: str, name: str, language: str, **values: object) -> bytes:
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

    def say(words: str | LazyText, **places: object) -> _OwnText:
        return _OwnText(
            (words if isinstance(words, LazyText) else LazyText(words, places)).render(language)
        )

    page = _make_environment(package).get_template(name)
    turned = is_right_to_left(language)
    return page.render(
        values,
        say=say,
        language=language,
        of_language=choose_translation,
        tag=make_language_tag(language),
        direction="rtl" if turned else "ltr",
    ).encode("utf-8", "replace")


class _OwnText(str):
    """A sentence of ours: its isolates are round values that were cleaned of theirs."""

    __slots__ = ()


@cache
def _make_environment(package: str) -> Environment:
    # Imported by who makes a page, and by nobody else: start-up stays light.
    from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context

    def value(form: Callable[..., LocalizedFigure]) -> Callable[..., str]:
        """Return a filter that writes a figure in the language of the page."""

        @pass_context
        def write(context: Context, *values: object) -> str:
            return form(*values).render(context["language"])

        return write

    made = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=pass_context(_finalize_value),
        loader=PackageLoader(package),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    made.filters.update(
        count=value(format_count), duration=value(format_duration), grouped=group_digest,
        paragraphs=_split_paragraphs, size=value(format_bytes), time=value(format_time),
    )  # fmt: skip
    return made


def _finalize_value(context: Context, value: object) -> object:
    if hasattr(value, "__html__"):
        return value  # a piece that a template made; no value of a site is one
    if value is None:
        raise TypeError("a page has an empty place")
    turned = context["direction"] == "rtl"
    return prepare_for_terminal(
        value if isinstance(value, _OwnText) else strip_control_characters(str(value)),
        right_to_left=turned,
    )


def _split_paragraphs(text: str) -> list[str]:
    """Return the blocks of a text; the lines within one stay."""
    return [
        block.strip() for block in strip_control_characters(text).split("\n\n") if block.strip()
    ]
