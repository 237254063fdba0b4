"""Show the review page: as lines on a terminal, and as one HTML file to print and sign."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ncen_updater.common.cli.render import SEVERITY_LABELS, encode_as_words, format_findings
from ncen_updater.common.html_templates import render_page
from ncen_updater.common.i18n import (
    DEFAULT_LANGUAGE,
    N_,
    LazyText,
    LocalizedFigure,
    choose_translation,
    translate,
)
from ncen_updater.publisher.review.event_review import EventReview, ReleaseReview, SqlReview
from ncen_updater.publisher.review.mark_grouping import NOTHING

MARKED_LINE_SIGN, PLAIN_LINE_SIGN = ">", "|"

#: Titles that our programs write into events, in English, as catalogue sentences.
EVENT_TITLES = (
    N_("New feed"),
    N_("Change of keys, thresholds or expiry periods"),
    N_("Release of {what}"),
    N_("Renewal of {what}"),
    N_("Withdrawal of {what}"),
    N_("Retirement of releases older than {what}"),
    N_("Staged rollout of {what}"),
    N_("Halt of {what}"),
    N_("End of the halt of {what}"),
    N_("Channel of {what}"),
    N_("Countries of {what}"),
)


def translate_title(title: str) -> LazyText | str:
    """Translate a title; a title of another origin is returned unchanged."""
    for known in EVENT_TITLES:
        begin, place, _end = known.partition("{what}")
        if title == known or (place and title.startswith(begin)):
            return LazyText(known, {"what": title.removeprefix(begin)})
    return title


def format_summary(page: EventReview) -> Iterator[LazyText | str]:
    """Yield the summary that is repeated before signing: the sentences and the warnings."""
    yield translate_title(page.title)
    for sentence in page.sentences:
        yield _indent(sentence)
    for heading, lines in group_marked_lines(page):
        yield heading
        for line in lines:
            yield _indent(line)


def group_marked_lines(page: EventReview) -> Iterator[tuple[LazyText, tuple[LazyText, ...]]]:
    """Yield the warnings in groups with a heading, the critical ones first."""
    if page.critical:
        yield LazyText(N_("Critical")), page.critical
    usual = page.warnings
    if page.info_count:
        words = N_(
            "{count} statements affect only objects of this release (marked in the SQL below)"
        )
        usual = (*usual, LazyText(words, {"count": page.info_count}))
    if usual:
        yield LazyText(N_("Other")), usual


def describe_unshown(page: EventReview, event: Path, language: str) -> LazyText:
    """Return how many lines of the page are neither in the summary nor in the warnings."""
    words = N_("{count} more lines, {annexed} of them in annexes. Run: ncen-publisher show {event}")
    count = sum(1 for _ in (*format_details(page, language), *format_annex(page)))
    annexed = sum(len(one.lines) for one in page.annexes)
    return LazyText(words, {"count": count, "annexed": annexed, "event": str(event)})


def format_details(page: EventReview, language: str) -> Iterator[LazyText | str]:
    """Yield the details, from the warnings to the annexes."""
    for release in page.releases:
        yield from _format_release(release, language)
    for line in page.lines[1:]:
        yield line.text if line.heading else _indent(line.text)


def format_annex(page: EventReview) -> Iterator[LazyText | str]:
    """Yield the annexes: the long lists and the digests."""
    for section in page.annexes:
        yield ""
        yield LazyText(N_("Annex: {of}"), {"of": section.of})
        yield from _section(section.title, section.lines)
    yield ""
    yield LazyText(N_("Annex: digests"))
    for line in page.annex:
        yield _indent(line.text)
    yield _indent(
        LazyText(N_("Event digest in words: {spoken}"), {"spoken": encode_as_words(page.digest)})
    )


def _indent(text: LazyText | str) -> LazyText:
    """Indent a line below a heading; only a LazyText is translated."""
    return LazyText(
        "  {line}", {"line": text if isinstance(text, LazyText) else LocalizedFigure(text)}
    )


def _format_release(page: ReleaseReview, language: str) -> Iterator[LazyText | str]:
    name = {"product": page.product, "version": page.version, "before": page.before}
    yield ""
    yield LazyText(
        N_("{product} {version} (previous: {before})")
        if page.before
        else N_("{product} {version} (first release)"),
        name,
    )
    title, text = choose_translation(page.notes, language) or ("", "")
    for line in (title, *text.strip().split("\n")) if title else ():
        yield _indent(line) if line.strip() else ""
    yield LazyText(N_("Rollback"))
    for sentence in page.rollback:
        yield _indent(sentence)
    for section in page.sections:
        yield from _section(section.title, section.shown)
    yield LazyText(N_("Findings of lint"))
    if page.missing:
        yield _indent(LazyText(N_("not run: files are missing")))
    for line in format_findings(page.findings, language):
        yield _indent(line)
    if not page.findings and not page.missing:
        yield _indent(translate(NOTHING, language))
    yield LazyText(
        N_("New SQL ({count} files; earlier migrations: {known})"),
        {"count": len(page.sql), "known": page.known_migration_count},
    )
    if page.sql:
        words = N_("Not checked: a function called as table.name, where a column has that name")
        yield _indent(LazyText(words))
    for sql in page.sql:
        yield from _format_sql(sql)


def _section(title: str, lines: Iterable[LazyText]) -> Iterator[LazyText]:
    yield LazyText(title)
    yield from map(_indent, lines)


def _format_sql(page: SqlReview) -> Iterator[LazyText | str]:
    yield ""
    values = {"path": page.path, "migration": page.migration, "database": page.database}
    yield LazyText(SQL_HEADINGS[page.direction], values)
    for number, line in enumerate(page.lines, 1):
        mark = page.find_mark(number)
        if mark is not None:
            for text in mark.descriptions:
                yield LazyText("      >> {kind}", {"kind": text})
        sign = MARKED_LINE_SIGN if page.is_marked(number) else PLAIN_LINE_SIGN
        yield f"{number:5} {sign} {line}"


SQL_HEADINGS = {
    "up": N_("{path} (upgrade: {migration} of {database})"),
    "down": N_("{path} (rollback: {migration} of {database})"),
    "verify": N_("{path} (verification: {migration} of {database})"),
}


def render_html(
    page: EventReview,
    remarks: Sequence[LazyText] = (),
    language: str = DEFAULT_LANGUAGE,
    *,
    compared: Sequence[tuple[LazyText, Sequence[LazyText]]] = (),
    signed: Sequence[LazyText] = (),
) -> bytes:
    """Render the page as HTML.

    Args:
        page: The review page.
        remarks: Further remarks, for example that no files were compared.
        language: Language of the sentences.
        compared: Per release the compared files, and a summary of its attachments.
        signed: Who had signed when the page was rendered.
    """
    title = translate_title(page.title)
    return render_page(
        "ncen_updater.publisher.review",
        "review.html",
        language,
        page=page,
        title=title.render(language) if isinstance(title, LazyText) else title,
        remarks=remarks,
        compared=compared,
        signed=signed,
        groups=list(group_marked_lines(page)),
        words=encode_as_words(page.digest),
        severities=SEVERITY_LABELS,
        heads=SQL_HEADINGS,
    )
