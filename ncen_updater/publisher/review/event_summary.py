"""Summary of an event: one sentence for each of its decisions. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tuf.api.metadata import Root, Targets  # type: ignore[attr-defined]

from ncen_updater.common.cli.render import format_date
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.formats.receipt import RECEIPT_ADDRESSES_FIELD
from ncen_updater.formats.target_names import OFFER_FIELD, RELEASES_PREFIX
from ncen_updater.publisher.signing.event_diff import format_publish_condition
from ncen_updater.publisher.signing.role_policy import POLICY_FIELD, read_publish_condition
from ncen_updater.publisher.signing.signing_event import SigningEvent
from ncen_updater.publisher.signing.value_format import format_signed_time


def summarize_event(event: SigningEvent) -> list[LazyText]:
    """Say it, who may sign first; never nothing."""
    found: list[LazyText] = []
    for role, draft in sorted(event.drafts.items(), key=lambda item: item[0] != "root"):
        base = event.base.get(role)
        old, new = base.signed if base else None, draft.signed
        value: list[LazyText] = []
        if isinstance(new, Root):
            value = list(_summarize_root(old, new))
        elif isinstance(new, Targets):
            value = list(_summarize_targets(old, new))
        lasts = {"role": role, "expires": format_date(new.expires)}
        words = N_("Renews {role} unchanged until {expires}.")
        if old is None:
            words = N_("Creates {role}, empty, valid until {expires}.")
        found += value or [LazyText(words, lasts)]
    return found


def _summarize_root(old: Root | None, new: Root) -> Iterator[LazyText]:
    if old is None:
        yield LazyText(N_("Creates a new feed and decides who can sign for every site."))
    elif (old.roles, old.keys) != (new.roles, new.keys):
        yield LazyText(N_("Changes whose signatures every site trusts."))
    elif old.unrecognized_fields.get(POLICY_FIELD) != new.unrecognized_fields.get(POLICY_FIELD):
        yield LazyText(N_("Changes how long signatures stay valid."))
    addresses = new.unrecognized_fields.get(RECEIPT_ADDRESSES_FIELD)
    if addresses != (old.unrecognized_fields.get(RECEIPT_ADDRESSES_FIELD) if old else None):
        yield LazyText(N_("Changes where sites may send receipts."))


def _summarize_targets(old: Targets | None, new: Targets) -> Iterator[LazyText]:
    before = old.delegations if old else None
    if new.delegations is not None and new.delegations != before:
        products = ", ".join(sorted(new.delegations.roles or {}))
        words = N_("Decides who can sign releases of {products}.")
        yield LazyText(words, {"products": products})
    for path, target in sorted(new.targets.items()):
        offer = (target.custom or {}).get(OFFER_FIELD)
        if path.startswith(RELEASES_PREFIX) and isinstance(offer, dict):
            known = old.targets.get(path) if old else None
            was = ((known.custom or {}) if known else {}).get(OFFER_FIELD)
            yield from _summarize_offer(was, offer)
    condition = read_publish_condition(new)
    if condition is not None:
        yield format_publish_condition(condition)
    gone = sorted(path for path in (old.targets if old else {}) if path not in new.targets)
    if gone:
        words = N_("Removes {count} files from the metadata.")
        yield LazyText(words, {"count": len(gone)})


def _summarize_offer(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> Iterator[LazyText]:
    values: dict[str, object] = {
        "product": new.get("product"),
        "version": new.get("version"),
        "whom": _format_audience(new),
        "when": _format_schedule(new.get("waves") or []),
    }
    if old == new:
        return
    was = old or {}
    if new.get("withdrawn") != was.get("withdrawn") and new.get("withdrawn"):
        words = N_(
            "Withdraws {product} {version}: no further site installs it; sites that installed"
            " it are notified."
        )
        yield LazyText(words, values)
    elif new.get("halted") != was.get("halted") and new.get("halted"):
        words = N_("Halts {product} {version}: no further site starts the upgrade.")
        yield LazyText(words, values)
    elif new.get("withdrawn"):
        words = N_("{product} {version} stays withdrawn.")
        yield LazyText(words, values)
    elif new.get("halted"):
        words = N_(
            "{product} {version} stays halted; after the halt, it is offered to {whom}, {when}."
        )
        yield LazyText(words, values)
    elif old is None:
        words = N_("Offers {product} {version} to {whom}, {when}.")
        if new.get("required"):
            words = N_("Offers {product} {version} (required release) to {whom}, {when}.")
        yield LazyText(words, values)
    else:
        yield LazyText(N_("Offers {product} {version} to {whom}, {when} (changed)."), values)


def _format_audience(offer: Mapping[str, Any]) -> LazyText:
    countries = sorted(offer.get("countries") or [])
    waves = offer.get("waves") or []
    if not countries and waves and all(wave.get("countries") for wave in waves):
        countries = sorted({code for wave in waves for code in wave["countries"]})
    preview = offer.get("channel") == "preview"
    values = {"countries": ", ".join(countries)}
    if countries and preview:
        return LazyText(N_("sites in {countries} (preview channel)"), values)
    if countries:
        return LazyText(N_("sites in {countries}"), values)
    if preview:
        return LazyText(N_("sites in all countries (preview channel)"))
    return LazyText(N_("sites in all countries"))


def _format_schedule(waves: list[dict[str, Any]]) -> LazyText:
    """Every step of a schedule, and its countries: what is left out makes a wrong sentence."""
    if not waves:
        return LazyText(N_("all sites at once"))
    steps = [_format_wave(wave) for wave in sorted(waves, key=_make_wave_key)]
    message = steps[0]
    for number, step in enumerate(steps[1:], 2):
        words = N_("{first}, and {last}") if number == len(steps) else N_("{first}, {second}")
        message = LazyText(words, {"first": message, "second": step, "last": step})
    return message


def _make_wave_key(wave: Mapping[str, Any]) -> tuple[str, int]:
    return str(wave.get("opens")), int(wave.get("percent") or 0)


def _format_wave(wave: Mapping[str, Any]) -> LazyText:
    values = {
        "percent": wave.get("percent"),
        "opens": format_signed_time(wave.get("opens")),
        "countries": ", ".join(sorted(wave.get("countries") or [])),
    }
    if values["countries"]:
        words = N_("{percent} % in {countries} from {opens}")
        return LazyText(words, values)
    return LazyText(N_("{percent} % from {opens}"), values)
