"""What an event changes about signed languages, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ncen_updater.common.i18n import N_, Text

KNOWN = ("product", "version", "language", "revision", "translated", "total", "withdrawn")


def _values(offer: Mapping[str, Any]) -> dict[str, object]:
    withdrawn = offer.get("withdrawn") or {}
    return {
        **{name: offer.get(name) for name in KNOWN},
        "reason": str(withdrawn.get("reason")).rstrip("."),
        "advice": (withdrawn.get("advice") or "-").rstrip("."),
    }


def language_lines(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Text]:
    """Say everything that an offer of a language says and did not before.

    Args:
        old: The offer that is published; empty for a new one.
        new: The offer that is drafted; empty where it is taken away.
    """
    values = _values(new)
    named = {name: new.get(name) for name in KNOWN if name != "withdrawn"}
    if named != {name: old.get(name) for name in named}:
        words = N_(
            "{product} {version} in '{language}', revision {revision}: {translated} of {total}"
            " translated"
        )
        if old:
            words = N_(
                "WARNING: {product} {version} in '{language}', revision {revision}: {translated} of"
                " {total} translated; it was another"
            )
        yield Text(words, values)
    if new.get("withdrawn") != old.get("withdrawn"):
        words = N_(
            "WITHDRAWN: {product} {version} in '{language}', revision {revision}: {reason}. Advice:"
            " {advice}."
        )
        if not new.get("withdrawn"):
            words = N_(
                "WARNING: {product} {version} in '{language}', revision {revision}, is no longer"
                " withdrawn"
            )
        yield Text(words, values)
    for name in sorted((set(old) | set(new)) - set(KNOWN)):
        if old.get(name) != new.get(name):
            yield Text(
                N_("WARNING: it also says {name}: {value}"), {"name": name, "value": new.get(name)}
            )


def language_sentence(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> Text | None:
    """Say to whom it happens; nothing where nothing does."""
    if old == new:
        return None
    values = _values(new)
    if new.get("withdrawn"):
        return Text(
            N_(
                "{product} {version} in '{language}' (revision {revision}) is taken back: no site"
                " takes it any more, and those that have it are told."
            ),
            values,
        )
    return Text(
        N_(
            "{product} {version} in '{language}' (revision {revision}) is offered to every site"
            " that asks for it: {translated} of {total} translated."
        ),
        values,
    )
