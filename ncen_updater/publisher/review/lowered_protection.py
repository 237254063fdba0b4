"""What an event changes that lowers what protects sites: said as warnings. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from tuf.api.metadata import Root, Targets  # type: ignore[attr-defined]

from ncen_updater.common.i18n import N_, Figure, Text
from ncen_updater.feed.brake_statements import brake_keys
from ncen_updater.formats.manifest import Manifest
from ncen_updater.formats.tuf_names import OFFER_FIELD, RELEASES_PREFIX
from ncen_updater.publisher.signing.draft import impossible
from ncen_updater.publisher.signing.event import SigningEvent
from ncen_updater.publisher.signing.keys import fingerprint, owner_of
from ncen_updater.publisher.signing.roles import (
    OFFLINE_DAYS,
    ONLINE_DAYS,
    ONLINE_ROLES,
    POLICY,
    issued_at,
)
from ncen_updater.publisher.signing.value_format import moment_of, time_words

#: Longer than until now by this factor is much.
MUCH: Final = 1.5
#: What a first ceremony may agree on without a word, as a multiple of the usual period.
FIRST: Final = 2
#: A wave that opened so long before it was drafted is a slip of the pen.
PAST: Final = timedelta(days=1)
WHOLE: Final = 100


def lowered(event: SigningEvent) -> list[Text]:
    """Every warning about keys, thresholds, periods, waves and countries."""
    found: list[Text] = []
    for role, draft in event.drafts.items():
        base = event.base.get(role)
        old, new = base.signed if base else None, draft.signed
        if isinstance(new, Root):
            found += _holders(_of_root(old), _of_root(new))
            found += _periods(old, new)
        elif isinstance(new, Targets):
            found += _holders(_of_targets(old), _of_targets(new))
            found += _offers(old, new)
    signed = (draft.signed for draft in event.drafts.values())
    found += _two_keys(each for each in signed if isinstance(each, Root | Targets))
    return found


def _two_keys(lists: Iterable[Root | Targets]) -> Iterator[Text]:
    """Two keys under one name: the fingerprint that was read out is that of one of them."""
    held: dict[str, set[str]] = {}
    for signed in lists:
        named: list[tuple[str, str]] = []
        if isinstance(signed, Root):
            named = [(owner_of(key), fingerprint(key)) for key in brake_keys(signed).values()]
        roles = _of_root(signed) if isinstance(signed, Root) else _of_targets(signed)
        for _threshold, keys in roles.values():
            named += [(owner, mark) for mark, owner in keys.items()]
        for owner, mark in named:
            held.setdefault(owner, set()).add(mark)
    for owner, marks in sorted(held.items()):
        if len(marks) > 1:
            words = N_("WARNING: {owner} has more than one key: {keys}; let {owner} read each.")
            said = ", ".join(f"{mark[:8]}..." for mark in sorted(marks))
            yield Text(words, {"owner": owner, "keys": said})


def _of_root(root: Root | None) -> dict[str, tuple[int, dict[str, str]]]:
    """Threshold and keys (fingerprint to owner) of each role."""
    if root is None:
        return {}
    return {
        name: (
            role.threshold,
            {fingerprint(root.keys[i]): owner_of(root.keys[i]) for i in role.keyids},
        )
        for name, role in root.roles.items()
    }


def _of_targets(targets: Targets | None) -> dict[str, tuple[int, dict[str, str]]]:
    if targets is None or targets.delegations is None:
        return {}
    keys = targets.delegations.keys
    return {
        name: (role.threshold, {fingerprint(keys[i]): owner_of(keys[i]) for i in role.keyids})
        for name, role in (targets.delegations.roles or {}).items()
    }


def _holders(
    old: Mapping[str, tuple[int, Mapping[str, str]]],
    new: Mapping[str, tuple[int, Mapping[str, str]]],
) -> Iterator[Text]:
    for name, (threshold, keys) in new.items():
        was, held = old.get(name, (0, {}))
        if threshold < was:
            words = N_("WARNING: {name}: {threshold} must sign, and until now it was {old}.")
            yield Text(words, {"name": name, "threshold": threshold, "old": was})
        if threshold == 1 and was != 1 and name not in ONLINE_ROLES:
            words = N_("WARNING: {name}: one person alone could sign.")
            if name == "root":
                words = N_("WARNING: root: one person alone could replace all keys.")
            yield Text(words, {"name": name})
        gone = {owner: mark for mark, owner in held.items() if mark not in keys}
        for mark, owner in keys.items():
            if mark not in held and owner in gone:
                words = N_(
                    "WARNING: {name}: {owner} gets another key, {new}... in place of {old}...;"
                    " let {owner} read it to you."
                )
                marks = {"new": mark[:8], "old": gone[owner][:8]}
                yield Text(words, {"name": name, "owner": owner, **marks})


def _days(root: Root | None) -> Mapping[str, Any]:
    policy = root.unrecognized_fields.get(POLICY) if root is not None else None
    days = policy.get("expiry_days") if isinstance(policy, dict) else None
    return days if isinstance(days, dict) else {}


def _periods(old: Root | None, new: Root) -> Iterator[Text]:
    before = _days(old)
    for name, days in sorted(_days(new).items()):
        usual = ONLINE_DAYS.get(name, OFFLINE_DAYS)
        was = before.get(name)
        limit = was * MUCH if isinstance(was, int) else usual * FIRST
        if isinstance(days, int) and days > limit:
            words = N_(
                "WARNING: {name}: a list lasts {days} days (until now: {old}). For so long a site"
                " can be shown an old one."
            )
            if was is None:
                words = N_(
                    "WARNING: {name}: a list lasts {days} days. For so long a site can be shown an"
                    " old one."
                )
            yield Text(words, {"name": name, "days": days, "old": was})


def _offers(old: Targets | None, new: Targets) -> Iterator[Text]:
    issued = issued_at(new)
    drafted = moment_of(issued)
    for path, target in sorted(new.targets.items()):
        offer = (target.custom or {}).get(OFFER_FIELD)
        if not path.startswith(RELEASES_PREFIX) or not isinstance(offer, dict):
            continue
        known = old.targets.get(path) if old else None
        before = ((known.custom or {}) if known else {}).get(OFFER_FIELD) or {}
        name = f"{offer.get('product')} {offer.get('version')}"
        waves, was = offer.get("waves") or [], before.get("waves") or []
        if waves != was:
            yield from wave_warnings(name, waves, drafted)
        countries = [*(offer.get("countries") or [])]
        for wave in waves:
            countries += wave.get("countries") or []
        for code in impossible(countries):
            yield Text(
                N_("WARNING: {name}: there is no country {country}."),
                {"name": name, "country": code},
            )


def wave_warnings(
    name: str, waves: Sequence[Mapping[str, Any]], drafted: datetime | None
) -> Iterator[Text]:
    """What is odd in a schedule.

    Args:
        name: The release, for the sentences.
        waves: As they are signed.
        drafted: When; None where nobody knows.
    """
    highest: dict[tuple[str, ...], int] = {}
    everybody = 0
    for wave in sorted(waves, key=lambda wave: str(wave.get("opens"))):
        opens = moment_of(str(wave.get("opens")))
        percent = int(wave.get("percent") or 0)
        values = {"name": name, "opens": time_words(wave.get("opens")), "percent": percent}
        if drafted is not None and opens is not None and opens < drafted - PAST:
            words = N_(
                "WARNING: {name}: the wave of {opens} lies in the past: {percent} % of its sites"
                " may begin at once."
            )
            yield Text(words, values)
        where = tuple(sorted(wave.get("countries") or []))
        before = max(highest.get(where, 0), everybody)
        if percent < before:
            words = N_(
                "WARNING: {name}: the wave of {opens} has {percent} %, and one before it has"
                " {before} %: it changes nothing."
            )
            yield Text(words, {**values, "before": before})
        highest[where] = max(highest.get(where, 0), percent)
        if not where:
            everybody = max(everybody, percent)
    stuck = [where for where, top in highest.items() if max(top, everybody) < WHOLE]
    if waves and stuck:
        top = max(max(highest[where], everybody) for where in stuck)
        words = N_(
            "WARNING: {name}: the waves end at {percent} %: the other sites never get it, unless a"
            " further wave is signed."
        )
        yield Text(words, {"name": name, "percent": top})


def goes_back_as_is(manifest: Manifest, before: Manifest | None) -> bool:
    """Whether both releases say that the one before runs on the databases of this one."""
    new, old = manifest.compatibility, before.compatibility if before else None
    return new is not None and old is not None and old.schema_number >= new.back_to


def lowered_by(manifest: Manifest, before: Manifest | None) -> Iterator[Text]:
    """What of a release itself an officer must have decided.

    Args:
        manifest: The release.
        before: The release before; None if there is none.
    """
    name = f"{manifest.product} {manifest.version}"
    migrator, was = manifest.migrator, before.migrator if before else None
    if migrator is not None:
        values: dict[str, object] = {"name": name, "command": Figure(" ".join(migrator.argv))}
        words = N_(
            "WARNING: {name} brings a program of its own that changes the databases of every site:"
            " {command}"
        )
        if was == migrator:
            words = N_(
                "WARNING: {name} runs a program of its own on the databases of every site, as"
                " before: {command}"
            )
        elif was is not None:
            words = N_(
                "WARNING: {name} runs another program than before on the databases of every site:"
                " {command}"
            )
        yield Text(words, values)
        if migrator.contract is not None:
            later = Figure(" ".join(migrator.contract.argv))
            words = N_(
                "WARNING: once {name} was watched, another program works on the live databases of"
                " sites while officers do, and nothing undoes it: {command}"
            )
            yield Text(words, {"name": name, "command": later})
        if not goes_back_as_is(manifest, before):
            lost = {"name": name, "reason": migrator.no_way_back}
            yield Text(N_("WARNING: {name} has no way back that keeps records: {reason}"), lost)
    vouched = manifest.compatibility
    if vouched is not None and (before is None or before.compatibility != vouched):
        words = N_(
            "WARNING: {name} vouches that releases from schema number {back_to} on run on what it"
            " writes. Where the number stays {number}, sites copy no database for it, and have"
            " none to go back to."
        )
        values = {"name": name, "back_to": vouched.back_to, "number": vouched.schema_number}
        yield Text(words, values)
    if vouched is not None and vouched.expand and migrator is not None:
        words = N_(
            "WARNING: the program of {name} works on the live databases of sites while releases"
            " from schema number {back_to} on serve: no copy is made for it, and nothing undoes it."
        )
        yield Text(words, {"name": name, "back_to": vouched.back_to})
