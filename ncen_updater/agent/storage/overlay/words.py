"""What becomes of the country's texts and settings, in sentences. Pure; no value of a setting."""

from __future__ import annotations

from collections.abc import Iterator

from ncen_updater.agent.storage.overlay.coverage import Coverage
from ncen_updater.agent.storage.overlay.layer import FileReport, LayerReport
from ncen_updater.agent.storage.overlay.merge import KeyOutcome, Told
from ncen_updater.common.i18n import N_, Text

#: So many keys are listed; the rest is counted, and in ``translations report --csv``.
SHOWN = 20

#: What a key's outcome is called where keys are listed.
OUTCOMES: dict[KeyOutcome, str] = {
    KeyOutcome.KEPT: N_("yours"),
    KeyOutcome.BOTH: N_("yours; the release words it anew too"),
    KeyOutcome.OUTDATED: N_("yours, of a text that has changed"),
    KeyOutcome.REFUSED: N_("cannot be used; the release's is shown"),
    KeyOutcome.GONE: N_("the release has no such text any more"),
    KeyOutcome.NEW: N_("new, not translated yet"),
    KeyOutcome.COLLISION: N_(
        "the release has another text under this name now; the release's is shown"
    ),
    KeyOutcome.ADDED: N_("yours alone"),
    KeyOutcome.DEFAULT_CHANGED: N_("yours; the release's own value has changed"),
    KeyOutcome.MISSING: N_("must have a value"),
    KeyOutcome.INVALID: N_("the release does not take this value"),
}


def outcome_words(told: Told) -> Text:
    """Say what became of one key."""
    if told.missing:
        return Text(
            N_("cannot be used, since {places} is missing; the release's is shown"),
            {"places": ", ".join(told.missing)},
        )
    if told.unknown:
        return Text(
            N_("cannot be used, since nothing fills {places}; the release's is shown"),
            {"places": ", ".join(told.unknown)},
        )
    if told.outcome is KeyOutcome.INVALID:
        return Text(N_("the release takes only: {rule}"), {"rule": told.why})
    return Text(OUTCOMES[told.outcome])


def coverage_words(found: Coverage) -> Text:
    """Say how much of the application speaks a language, and what it was before."""
    values: dict[str, object] = {
        "language": found.language,
        "translated": found.translated,
        "total": found.total,
        "percent": found.percent,
        "before": found.percent_before,
    }
    if found.percent == found.percent_before:
        return Text(N_("{language}: {percent} % translated ({translated} of {total})"), values)
    return Text(
        N_("{language}: {percent} % translated ({translated} of {total}), was {before} %"),
        values,
    )


def _new_words(found: Coverage, source: str) -> Iterator[Text]:
    if not found.new or found.language == source:
        return
    values: dict[str, object] = {"count": found.new, "source": source}
    yield Text(N_("{count} new texts will be in the language '{source}'"), values)
    for area in found.areas:
        yield Text(N_("{count} of them {place}"), {"count": area.count, "place": area.words})


_COUNTED: tuple[tuple[KeyOutcome, str], ...] = (
    (KeyOutcome.OUTDATED, N_("{count} wordings of yours are of a text that changed")),
    (KeyOutcome.BOTH, N_("{count} wordings of yours stay; the release words them anew too")),
    (KeyOutcome.REFUSED, N_("{count} wordings of yours cannot be used")),
    (KeyOutcome.COLLISION, N_("{count} wordings of yours give way to new texts of the same name")),
    (KeyOutcome.GONE, N_("{count} wordings of yours are of texts that are no longer there")),
)  # fmt: skip
_SETTINGS: tuple[tuple[KeyOutcome, str], ...] = (
    (KeyOutcome.DEFAULT_CHANGED, N_("{count} settings of yours stay; the release's value changed")),
    (KeyOutcome.GONE, N_("{count} settings of yours are no longer known")),
    (KeyOutcome.COLLISION, N_("{count} settings of yours have a name that the release uses now")),
    (KeyOutcome.MISSING, N_("{count} settings must have a value")),
    (KeyOutcome.INVALID, N_("{count} settings have a value that the release does not take")),
)  # fmt: skip


def _file_words(report: FileReport) -> Iterator[Text]:
    problem = report.problem
    if problem is not None:
        place = problem.path if problem.line is None else f"{problem.path}:{problem.line}"
        yield Text(
            N_("{path} cannot be read ({why}); the release's is used as it is"),
            {"path": place, "why": problem.why},
        )
    if report.coverage is not None:
        yield coverage_words(report.coverage)
        for words in _new_words(report.coverage, report.declared.source):
            yield Text(N_("  {words}"), {"words": words})
    else:
        kept = len(report.of(KeyOutcome.KEPT, KeyOutcome.DEFAULT_CHANGED, KeyOutcome.ADDED))
        yield Text(N_("{path}: {count} settings of yours"), {"path": report.own, "count": kept})
    for outcome, sentence in _SETTINGS if report.settings else _COUNTED:
        count = len(report.of(outcome))
        if count:
            words = Text(sentence, {"count": count})
            yield Text(N_("  {words}"), {"words": words})


def sentences(report: LayerReport) -> tuple[Text, ...]:
    """Say everything in a few lines: a file or a language each, and what is to be looked at."""
    return tuple(words for item in report.files for words in _file_words(item))


def listed(report: LayerReport) -> tuple[tuple[FileReport, Told], ...]:
    """The keys that somebody should look at, the gravest first; at most :data:`SHOWN`."""
    order = (
        KeyOutcome.MISSING, KeyOutcome.INVALID, KeyOutcome.REFUSED, KeyOutcome.COLLISION,
        KeyOutcome.OUTDATED, KeyOutcome.GONE, KeyOutcome.DEFAULT_CHANGED,
    )  # fmt: skip
    found = [
        (file, told) for outcome in order for file in report.files for told in file.of(outcome)
    ]
    return tuple(found[:SHOWN])


def layer_json(report: LayerReport) -> list[dict[str, object]]:
    """The same for programs; the keys to look at, and every count."""
    return [
        {
            "path": item.path,
            "own": item.own,
            "language": item.language,
            "kind": item.declared.kind.value,
            "coverage": _coverage_json(item.coverage),
            "counts": {o.value: len(item.of(o)) for o in KeyOutcome if item.of(o)},
            "problem": None if item.problem is None else vars(item.problem),
            "keys": [
                {"key": told.name, "outcome": told.outcome.value, "words": str(outcome_words(told))}
                for told in item.told
                if told.outcome not in (KeyOutcome.KEPT, KeyOutcome.ADDED)
            ][:SHOWN],
        }
        for item in report.files
    ]


def _coverage_json(found: Coverage | None) -> dict[str, object] | None:
    if found is None:
        return None
    return {
        "translated": found.translated,
        "total": found.total,
        "percent": found.percent,
        "translated_before": found.translated_before,
        "total_before": found.total_before,
        "percent_before": found.percent_before,
        "new": found.new,
        "areas": [{"words": area.words, "count": area.count} for area in found.areas],
    }
