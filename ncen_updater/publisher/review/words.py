"""The page of an event: lines on a terminal in the order of reading, and one HTML file to sign."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ncen_updater.common.cli.render import SEVERITIES, finding_lines
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, N_, Figure, Text, of_language, translate
from ncen_updater.common.pages import fill
from ncen_updater.publisher.review.grouping import NOTHING
from ncen_updater.publisher.review.review import ReleasePage, Review, SqlPage
from ncen_updater.publisher.signing.value_format import spoken

MARK, PLAIN = ">", "|"

#: How drafts call themselves (in an event's file, in English), as sentences of the catalogue.
TITLES = (
    N_("A new feed"),
    N_("Other keys, thresholds or periods"),
    N_("Release of {what}"),
    N_("Renewal of {what}"),
    N_("Withdrawal of {what}"),
    N_("Waves of {what}"),
    N_("Halt of {what}"),
    N_("End of the halt of {what}"),
    N_("Channel of {what}"),
    N_("Countries of {what}"),
)


def title_words(title: str) -> Text | str:
    """A title in the reader's language; one that no program of ours wrote stays as it is."""
    for known in TITLES:
        begin, place, _end = known.partition("{what}")
        if title == known or (place and title.startswith(begin)):
            return Text(known, {"what": title.removeprefix(begin)})
    return title


def short_lines(page: Review) -> Iterator[Text | str]:
    """What is said again before anybody signs: the sentences and the marks."""
    yield title_words(page.title)
    for sentence in page.sentences:
        yield _in(sentence)
    for heading, lines in marked(page):
        yield heading
        for line in lines:
            yield _in(line)


def marked(page: Review) -> Iterator[tuple[Text, tuple[Text, ...]]]:
    """What is marked: the grave first and apart, each group with its heading."""
    if page.grave:
        yield Text(N_("To be decided before all:")), page.grave
    usual = page.warnings
    if page.harmless:
        words = N_(
            "{count} further statements touch only what the release itself adds, or undo exactly"
            " that; they are marked in the SQL below."
        )
        usual = (*usual, Text(words, {"count": page.harmless}))
    if usual:
        yield Text(N_("To be known as well; most releases have such lines:")), usual


def unshown(page: Review, language: str) -> Text:
    """Say how much of the page stands in neither the sentences nor the marks."""
    words = N_("{count} further lines of this page, {annexed} of them in annexes: 'show' has all.")
    count = sum(1 for _ in (*further_lines(page, language), *annex_lines(page)))
    return Text(words, {"count": count, "annexed": sum(len(one.lines) for one in page.annexes)})


def words_of(page: Review, language: str) -> Iterator[Text | str]:
    """The whole page but its annex."""
    yield from short_lines(page)
    yield from further_lines(page, language)


def further_lines(page: Review, language: str) -> Iterator[Text | str]:
    """What stands below the sentences and the marks, to the annex."""
    for release in page.releases:
        yield from _release(release, language)
    for line in page.lines[1:]:
        yield line.text if line.heading else _in(line.text)


def annex_lines(page: Review) -> Iterator[Text | str]:
    """The long lists, whole, and the digests."""
    for section in page.annexes:
        yield ""
        yield Text(N_("Annex: {of}"), {"of": section.of})
        yield from _section(section.title, section.lines)
    yield ""
    yield Text(N_("Annex: digests"))
    for line in page.annex:
        yield _in(line.text)
    yield _in(Text(N_("The same of the event in words: {spoken}"), {"spoken": spoken(page.digest)}))


def _in(text: Text | str) -> Text:
    """Below a heading; what is no sentence of ours stays as somebody wrote it."""
    return Text("  {line}", {"line": text if isinstance(text, Text) else Figure(text)})


def _release(page: ReleasePage, language: str) -> Iterator[Text | str]:
    name = {"product": page.product, "version": page.version, "before": page.before}
    yield ""
    yield Text(
        N_("{product} {version}, after {before}")
        if page.before
        else N_("{product} {version}, the first release"),
        name,
    )
    title, text = of_language(page.notes, language) or ("", "")
    for line in (title, *text.strip().split("\n")) if title else ():
        yield _in(line) if line.strip() else ""
    yield Text(N_("The way back:"))
    for sentence in page.way_back:
        yield _in(sentence)
    for section in page.sections:
        yield from _section(section.title, section.shown)
    yield Text(N_("What lint says of it here and now:"))
    if page.missing:
        yield _in(Text(N_("it was not asked, since files are missing")))
    for line in finding_lines(page.findings, language):
        yield _in(line)
    if not page.findings and not page.missing:
        yield _in(translate(NOTHING, language))
    yield Text(
        N_("New SQL ({count} files; migrations from before: {known}):"),
        {"count": len(page.sql), "known": page.known},
    )
    for sql in page.sql:
        yield from _sql(sql)


def _section(title: str, lines: Iterable[Text]) -> Iterator[Text]:
    yield Text(title)
    yield from map(_in, lines)


def _sql(page: SqlPage) -> Iterator[Text | str]:
    yield ""
    values = {"path": page.path, "migration": page.migration, "database": page.database}
    yield Text(HEADS[page.direction], values)
    for number, line in enumerate(page.lines, 1):
        mark = page.mark_at(number)
        if mark is not None:
            for said in mark.said:
                yield Text("      >> {kind}", {"kind": said})
        sign = MARK if page.marked(number) else PLAIN
        yield f"{number:5} {sign} {line}"


HEADS = {
    "up": N_("{path} (going to it: {migration} of {database})"),
    "down": N_("{path} (going back: {migration} of {database})"),
    "verify": N_("{path} (only asks: {migration} of {database})"),
}


def page_of(
    page: Review,
    remarks: Sequence[Text] = (),
    language: str = DEFAULT_LANGUAGE,
    *,
    compared: Sequence[tuple[Text, Sequence[Text]]] = (),
    signed: Sequence[Text] = (),
) -> bytes:
    """Write the page.

    Args:
        page: What it shows.
        remarks: What else the program has to say, such as that nothing was compared.
        language: Of the sentences.
        compared: What was compared of each release, and what its papers say.
        signed: Who has signed when it was written.
    """
    title = title_words(page.title)
    return fill(
        "ncen_updater.publisher.review",
        "review.html",
        language,
        page=page,
        title=title.render(language) if isinstance(title, Text) else title,
        remarks=remarks,
        compared=compared,
        signed=signed,
        groups=list(marked(page)),
        words=spoken(page.digest),
        severities=SEVERITIES,
        heads=HEADS,
    )
