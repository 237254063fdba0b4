"""Render HTML pages from templates, so that no value can become markup.

The templates are in ``templates/`` of each package. Values are HTML-escaped, and control characters
are removed. An undefined name or a value of None raises an error, because nobody may sign a page
with a gap.

Sentences are written in the template as ``say("...", name=value)``, where ``script/messages``
finds them; ``say`` also accepts a :class:`LazyText`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from ncen_updater.common.cli.characters import (
    prepare_for_terminal,
    protect_spacing,
    strip_control_characters,
)
from ncen_updater.common.cli.render import (
    format_bytes,
    format_count,
    format_date,
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
    """Render a page as UTF-8; characters that cannot be encoded become question marks.

    Args:
        package: Package with the directory ``templates``.
        name: Name of the template.
        language: Language of the sentences.
        values: Values for the template, by name.

    Raises:
        jinja2.TemplateError: If the template uses an undefined name or is invalid.
        TypeError: If a value that it shows is None.
    """

    def say(text: str | LazyText, /, **values: object) -> _OwnText:
        sentence = text if isinstance(text, LazyText) else LazyText(text, values)
        return _OwnText(sentence.render(language))

    page = _make_environment(package).get_template(name)
    right_to_left = is_right_to_left(language)
    return page.render(
        values,
        say=say,
        language=language,
        of_language=choose_translation,
        tag=make_language_tag(language),
        direction="rtl" if right_to_left else "ltr",
    ).encode("utf-8", "replace")


class _OwnText(str):
    """A sentence of this program: it may contain isolates, and its values were already stripped."""

    __slots__ = ()


@cache
def _make_environment(package: str) -> Environment:
    # Imported here: only processes that render pages need jinja2.
    from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context

    def make_filter(format_value: Callable[..., LocalizedFigure]) -> Callable[..., str]:
        """Return a filter that formats a figure in the language of the page."""

        @pass_context
        def write(context: Context, *values: object) -> str:
            return format_value(*values).render(context["language"])

        return write

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=pass_context(_finalize_value),
        loader=PackageLoader(package),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    environment.filters.update(
        count=make_filter(format_count), date=make_filter(format_date),
        duration=make_filter(format_duration), grouped=group_digest, paragraphs=_split_paragraphs,
        size=make_filter(format_bytes), spaced=protect_spacing, time=make_filter(format_time),
        upper_first=lambda text: _OwnText(text[:1].upper() + text[1:]),
    )  # fmt: skip
    return environment


def _finalize_value(context: Context, value: object) -> object:
    if hasattr(value, "__html__"):
        return value  # markup that a template made; values of a site never have __html__
    if value is None:
        raise TypeError("a value of the page is None")
    right_to_left = context["direction"] == "rtl"
    text = strip_control_characters(str(value))
    if isinstance(value, _OwnText):
        text = protect_spacing(value)  # not in values, which may be commands or SQL to copy
    return prepare_for_terminal(text, right_to_left=right_to_left)


def _split_paragraphs(text: str) -> list[str]:
    """Split a text into paragraphs; line breaks within one are retained."""
    return [
        block.strip() for block in strip_control_characters(text).split("\n\n") if block.strip()
    ]
