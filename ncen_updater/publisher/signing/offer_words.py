"""What an event changes about a release on offer, in words: who may have it, and what it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ncen_updater.common.i18n import N_, Text
from ncen_updater.formats.manifest import Urgency
from ncen_updater.publisher.signing.value_words import joined, range_words, time_words

#: Fields of an offer that :func:`steering_words` speaks of.
STEERED = ("waves", "halted", "channel", "countries")
_URGENCIES = {urgency.value: urgency for urgency in Urgency}


def steering_words(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Text]:
    """Say what becomes of waves, halt, channel and countries; nothing where they stay.

    Args:
        old: The offer that is published; empty for a new release.
        new: The offer that is drafted.
    """
    name = {"product": new.get("product"), "version": new.get("version")}
    if old.get("halted") != new.get("halted"):
        halt = new.get("halted")
        yield (
            Text(N_("HALTED: {product} {version}: {reason}"), {**name, **halt})
            if halt
            else Text(N_("{product} {version} is no longer halted"), name)
        )
    if old and old.get("channel") != new.get("channel"):
        values = {**name, "channel": new.get("channel"), "old": old.get("channel")}
        yield Text(N_("{product} {version}: channel '{channel}' (until now: '{old}')"), values)
    elif not old:
        yield Text(
            N_("{product} {version}: channel '{channel}'"), {**name, "channel": new.get("channel")}
        )
    yield from _countries(name, old, new)
    yield from _waves(name, old.get("waves") or [], new.get("waves") or [])


def _countries(
    name: Mapping[str, object], old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[Text]:
    before, after = old.get("countries") or [], new.get("countries") or []
    if before == after:
        return
    values = {**name, "countries": ", ".join(after), "old": ", ".join(before)}
    if not after:
        yield Text(N_("{product} {version}: for all countries (until now: {old})"), values)
    elif not before and old:
        yield Text(N_("{product} {version}: only for {countries} (until now: for all)"), values)
    elif not before:
        yield Text(N_("{product} {version}: only for {countries}"), values)
    else:
        yield Text(N_("{product} {version}: only for {countries} (until now: {old})"), values)


def _waves(
    name: Mapping[str, object], old: list[dict[str, Any]], new: list[dict[str, Any]]
) -> Iterator[Text]:
    if old == new:
        return
    if not new:
        yield Text(N_("{product} {version} is open to every site at once, without waves"), name)
    for wave in new:
        values = {
            **name,
            "opens": wave.get("opens"),
            "at": time_words(wave.get("opens")),
            "percent": wave.get("percent"),
            "countries": ", ".join(wave.get("countries") or []),
        }
        if values["countries"]:
            template = N_("{product} {version} opens {at} to {percent} % in {countries}")
        else:
            template = N_("{product} {version} opens {at} to {percent} % of all sites")
        yield Text(template, values)
    for wave in [wave for wave in old if wave not in new]:
        opens = wave.get("opens")
        values = {**name, "opens": opens, "at": time_words(opens), "percent": wave.get("percent")}
        template = N_("WARNING: {product} {version}: the wave of {at}, {percent} %, is gone")
        yield Text(template, values)


def field_words(offer: Mapping[str, Any], key: str) -> Text | None:
    """Say what an offer says of its release; None for what has no words, or another form.

    Args:
        offer: The offer that is drafted.
        key: The field.
    """
    name = {"product": offer.get("product"), "version": offer.get("version")}
    match key, offer.get(key):
        case "agent", str(wanted):
            words = N_("{product} {version} needs this version of the agent: {range}")
            return Text(words, {**name, "agent": wanted, "range": range_words(wanted)})
        case "deltas", dict(packs) if all(type(size) is int for size in packs.values()):
            words = N_("{product} {version} has delta packs from: {origins}")
            one = N_("{origin} ({size_bytes})")
            said = [Text(one, {"origin": o, "size_bytes": size}) for o, size in packs.items()]
            return Text(words, {**name, "deltas": packs, "origins": joined(said)})
        case "required", True:
            return Text(N_("{product} {version}: no site may skip it"), name)
        case "required", False:
            return Text(N_("{product} {version}: a site may skip it for a later one"), name)
        case "unpacked_bytes", int(size) if type(size) is int:
            words = N_("{product} {version} takes {unpacked_bytes} at a site, unpacked")
            return Text(words, {**name, "unpacked_bytes": size})
        case "upgrade_from", str(admitted) if not admitted.strip():
            words = N_("{product} {version} is installed over no release: a site begins with it")
            return Text(words, {**name, "upgrade_from": admitted})
        case "upgrade_from", str(admitted):
            words = N_("{product} {version} can be installed where this runs: {range}")
            return Text(words, {**name, "upgrade_from": admitted, "range": range_words(admitted)})
        case "urgency", str(urgency) if urgency in _URGENCIES:
            words = N_("{product} {version}: urgency: {urgency}")
            return Text(words, {**name, "urgency": _URGENCIES[urgency]})
    return None
