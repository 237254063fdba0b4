"""Messages on the effect of a release on the local overlay. Pure; no value of a setting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from ncen_updater.agent.storage.overlay.layer import FileReport, OverlayReport, TranslationCoverage
from ncen_updater.agent.storage.overlay.three_way_merge import KeyOutcome, KeyReport
from ncen_updater.common.i18n import N_, LazyText

#: Maximum number of listed keys; the others are counted, and in ``translations export``.
MAX_KEYS_SHOWN = 20

#: Text for each outcome in a list of keys.
OUTCOME_TEXTS: dict[KeyOutcome, str] = {
    KeyOutcome.UNCHANGED: N_("local text used"),
    KeyOutcome.BOTH_CHANGED: N_("local text used; the release changed its text too"),
    KeyOutcome.OUTDATED: N_("local text used; the source text changed"),
    KeyOutcome.REJECTED: N_("unusable; the text of the release is shown"),
    KeyOutcome.REMOVED: N_("no longer in the release"),
    KeyOutcome.NEW: N_("new, not translated"),
    KeyOutcome.COLLISION: N_("name reused by the release"),
    KeyOutcome.ADDED: N_("local only"),
    KeyOutcome.DEFAULT_CHANGED: N_("local value used; the release changed its value"),
    KeyOutcome.MISSING: N_("value required"),
    KeyOutcome.INVALID: N_("value rejected by the release"),
}


def describe_key(key: KeyReport) -> LazyText:
    """Describe the outcome of one key."""
    if key.missing_placeholders:
        return LazyText(
            N_("placeholder {names} missing; the text of the release is shown"),
            {"names": ", ".join(key.missing_placeholders)},
        )
    if key.unknown_placeholders:
        return LazyText(
            N_("placeholder {names} unknown; the text of the release is shown"),
            {"names": ", ".join(key.unknown_placeholders)},
        )
    if key.outcome is KeyOutcome.INVALID:
        return LazyText(N_("allowed values: {rule}"), {"rule": key.problem})
    return LazyText(OUTCOME_TEXTS[key.outcome])


def _describe_coverage(language: str | None, coverage: TranslationCoverage) -> LazyText:
    """Describe the translation coverage of a language, now and before."""
    values: dict[str, object] = {
        **vars(coverage),
        "language": language,
        "percent": coverage.percent,
        "before": coverage.percent_before,
    }
    if coverage.percent == coverage.percent_before:
        return LazyText(N_("{language}: {percent} % translated ({translated} of {total})"), values)
    return LazyText(
        N_("{language}: {percent} % translated ({translated} of {total}), previously {before} %"),
        values,
    )


def _describe_new_texts(found: TranslationCoverage, source: str) -> Iterator[LazyText]:
    values: dict[str, object] = {"count": found.new, "source": source}
    yield LazyText(N_("new texts shown in '{source}': {count}"), values)
    for area in found.areas:
        yield LazyText(N_("{count} of them in '{area}'"), {"count": area.count, "area": area.label})


#: Outcomes to review, the most severe first.
_TO_REVIEW = (
    KeyOutcome.MISSING, KeyOutcome.INVALID, KeyOutcome.REJECTED, KeyOutcome.COLLISION,
    KeyOutcome.OUTDATED, KeyOutcome.REMOVED, KeyOutcome.DEFAULT_CHANGED, KeyOutcome.BOTH_CHANGED,
)  # fmt: skip


def _describe_file(report: FileReport) -> Iterator[LazyText]:
    problem = report.problem
    if problem is not None:
        location = problem.path if problem.line is None else f"{problem.path}:{problem.line}"
        yield LazyText(
            N_("cannot read {path} ({reason}); the file of the release is used"),
            {"path": location, "reason": problem.reason},
        )
    if report.coverage is not None:
        yield _describe_coverage(report.language, report.coverage)
        source = report.declared.source
        if report.coverage.new and report.language != source:
            for text in _describe_new_texts(report.coverage, source):
                yield LazyText(N_("  {text}"), {"text": text})
    elif report.is_settings:
        count = len(
            report.select(KeyOutcome.UNCHANGED, KeyOutcome.DEFAULT_CHANGED, KeyOutcome.ADDED)
        )
        yield LazyText(
            N_("{path}: local settings: {count}"), {"path": report.local_path, "count": count}
        )
    for outcome in _TO_REVIEW:
        if count := len(report.select(outcome)):
            text = LazyText(OUTCOME_TEXTS[outcome])
            yield LazyText(N_("  {text}: {count}"), {"text": text, "count": count})


def describe_overlay(report: OverlayReport) -> tuple[LazyText, ...]:
    """Describe the overlay in a few lines: each file or language, and counts to review."""
    return tuple(text for item in report.files for text in _describe_file(item))


def list_keys_to_review(report: OverlayReport) -> tuple[tuple[FileReport, KeyReport], ...]:
    """Return the keys to review, the most severe first, at most :data:`MAX_KEYS_SHOWN`."""
    found = [
        (file, reported)
        for outcome in _TO_REVIEW
        for file in report.files
        for reported in file.select(outcome)
    ]
    return tuple(found[:MAX_KEYS_SHOWN])


def serialize_overlay(report: OverlayReport) -> list[dict[str, object]]:
    """Return the report for JSON: the keys to review, and every count."""
    return [
        {
            "path": item.path,
            "local_path": item.local_path,
            "language": item.language,
            "kind": item.declared.kind.value,
            "coverage": _serialize_coverage(item.coverage),
            "counts": {o.value: len(item.select(o)) for o in KeyOutcome if item.select(o)},
            "problem": None
            if item.problem is None
            else {**vars(item.problem), "reason": str(item.problem.reason)},
            "keys": [
                {
                    "key": reported.name,
                    "outcome": reported.outcome.value,
                    "text": str(describe_key(reported)),
                }
                for reported in item.keys
                if reported.outcome not in (KeyOutcome.UNCHANGED, KeyOutcome.ADDED)
            ][:MAX_KEYS_SHOWN],
        }
        for item in report.files
    ]


def _serialize_coverage(found: TranslationCoverage | None) -> dict[str, object] | None:
    if found is None:
        return None
    percents = {"percent": found.percent, "percent_before": found.percent_before}
    return {**asdict(found), **percents}
