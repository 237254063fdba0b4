"""What an event changes about who may have a release, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ncen_updater.common.i18n import N_, Text

__all__ = ["STEERED", "steering_words"]

#: Fields of an offer that :func:`steering_words` speaks of.
STEERED = ("waves", "halted", "channel", "countries")


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
            "percent": wave.get("percent"),
            "countries": ", ".join(wave.get("countries") or []),
        }
        if values["countries"]:
            template = N_("{product} {version} opens {opens} to {percent} % in {countries}")
        else:
            template = N_("{product} {version} opens {opens} to {percent} % of all sites")
        yield Text(template, values)
    for wave in [wave for wave in old if wave not in new]:
        values = {**name, "opens": wave.get("opens"), "percent": wave.get("percent")}
        template = N_("WARNING: {product} {version}: the wave of {opens}, {percent} %, is gone")
        yield Text(template, values)
