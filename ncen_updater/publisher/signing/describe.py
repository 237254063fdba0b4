"""The difference between published metadata and a draft, in words that an officer can read.

An officer signs bytes. Whatever in them differs from what is published and has no sentence of its
own is listed raw, so that nothing can be signed unseen, not even a field that nobody thought of.

Everything that differs is said: what is known in its own words, what is not known by its name. A
key is shown with its owner and its fingerprint, because the owner's name is only what the key says
of itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root, Targets  # type: ignore[attr-defined]

from ncen_updater.common.cli.render import format_day, grouped
from ncen_updater.common.i18n import N_, Figure, Text
from ncen_updater.feed.brake_statements import brake_keys
from ncen_updater.formats.manifest import Urgency
from ncen_updater.formats.rollout import BRAKE_KEYS_FIELD
from ncen_updater.formats.tuf_names import DELTAS_PREFIX, ISSUED_FIELD, OFFER_FIELD, ROLE_FIELD
from ncen_updater.publisher.signing.event import SigningEvent, digest_of
from ncen_updater.publisher.signing.keys import KEY_OWNER, fingerprint, names_of, owner_of
from ncen_updater.publisher.signing.roles import POLICY, issued_at
from ncen_updater.publisher.signing.value_format import joined, range_words, time_words

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


ENVELOPE: Final = {"_type", "spec_version", "version", "expires", ISSUED_FIELD, ROLE_FIELD}
HOLDER: Final = {"name", "keyids", "threshold"}
DELEGATED: Final = HOLDER | {"terminating", "paths", "path_hash_prefixes"}
SCHEMES: Final = {
    ("ed25519", "ed25519"),
    ("ecdsa", "ecdsa-sha2-nistp256"),
    ("ecdsa", "ecdsa-sha2-nistp384"),
}
PERIODS: Final = {"expiry_days", "signing_days"}
GONE: Final = None

Place = tuple[str, ...]


def leftovers(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the place and the new value (None where it is gone) of what has no sentence.

    Args:
        old: The published version as a dictionary, empty if there is none.
        new: The draft as a dictionary.
    """
    was = dict(_leaves((), _by_name(old))) if old else {}
    now = dict(_leaves((), _by_name(new)))
    used = _used_keys(new) | _used_keys(old)
    for place in sorted(was.keys() | now.keys()):
        value = now.get(place, GONE)
        if place in was and place in now and _same(was[place], value):
            continue
        if not _spoken(place, value, new, used):
            yield "/".join(place), value


def _same(one: Any, other: Any) -> bool:  # noqa: ANN401 - JSON
    return type(one) is type(other) and bool(one == other)


def _leaves(place: Place, value: Any) -> Iterator[tuple[Place, Any]]:  # noqa: ANN401 - JSON
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves((*place, str(key)), inner)
    else:
        yield place, value


def _by_name(signed: Mapping[str, Any]) -> dict[str, Any]:
    """Delegations by their names instead of their numbers; their order has a sentence."""
    delegations = signed.get("delegations")
    if not isinstance(delegations, dict) or not isinstance(delegations.get("roles"), list):
        return dict(signed)
    roles = delegations["roles"]
    named = {str(role["name"]): role for role in roles}
    return {**signed, "delegations": {**delegations, "roles": named}}


def _used_keys(signed: Mapping[str, Any]) -> set[str]:
    delegations = _by_name(signed).get("delegations") or {}
    holders = [*(signed.get("roles") or {}).values(), *(delegations.get("roles") or {}).values()]
    return {keyid for holder in holders for keyid in holder.get("keyids", ())}


def _spoken(place: Place, value: Any, new: Mapping[str, Any], used: set[str]) -> bool:  # noqa: ANN401
    match place:
        case ("keys", keyid, *rest) | ("delegations", "keys", keyid, *rest):
            return keyid in used and _of_key(tuple(rest), value, place, new)
        case ("roles", _, fact):
            return fact in HOLDER
        case (name, _, *rest) if name == BRAKE_KEYS_FIELD:
            return _of_key(tuple(rest), value, place, new)
        case (name, fact, _) if name == POLICY:
            return fact in PERIODS
        case ("delegations", "roles", _, fact):
            return fact in DELEGATED
        case ("targets", path, *rest):
            return _of_target(tuple(rest), (new.get("targets") or {}).get(path))
        case ("delegations",) | ("targets",):
            return not value
        case (name,):
            return name in ENVELOPE or name == "consistent_snapshot"
    return False


def _of_key(rest: Place, value: Any, place: Place, new: Mapping[str, Any]) -> bool:  # noqa: ANN401
    if rest == ("scheme",) and value is not GONE:
        keys: Any = new
        for step in place[:-1]:
            keys = keys[step]
        return (keys.get("keytype"), value) in SCHEMES
    return rest in {("keytype",), ("scheme",), ("keyval", "public"), (KEY_OWNER,)}


def _of_target(rest: Place, target: Mapping[str, Any] | None) -> bool:
    if target is None or rest in {("length",), ("hashes", "sha256")}:
        return True
    if rest[:1] != ("custom",):
        return False
    # Custom fields without an offer are said whole; beside an offer, only the offer is.
    custom = target.get("custom")
    return not isinstance(custom, dict) or OFFER_FIELD not in custom or rest[1:2] == (OFFER_FIELD,)


BACK = N_("WARNING: {product} {version} is no longer withdrawn")
#: What an archive says to clients that are plain tufup, in these bytes alone.
PLAIN = {
    '{"tufup": {"required": false}, "user": {}}': N_(
        "{path}: a plain tufup client may skip it for a later one"
    ),
    '{"tufup": {"required": true}, "user": {}}': N_("{path}: no plain tufup client may skip it"),
}


@dataclass(frozen=True)
class Line:
    """One sentence, and the same for programs.

    Attributes:
        role: The role that it is about; empty for the whole event.
        text: The sentence.
        heading: Whether the lines after it belong below it.
        figures: The same for programs.
        annex: Whether it only names what was hashed: what a machine compares, and no person judges.
    """

    role: str
    text: Text
    heading: bool = False
    figures: Mapping[str, object] = field(default_factory=dict)
    annex: bool = False


def describe(event: SigningEvent) -> list[Line]:
    """Say everything that an event changes."""
    lines = [
        _line("", N_("{title}"), heading=True, title=event.title),
        _line("", N_("Digest of the event: {digest}"), annex=True, digest=grouped(event.digest)),
    ]
    if event.roots:
        lines.append(
            _line(
                "",
                N_("stands on root version {version}, digest {digest}"),
                annex=True,
                version=event.roots[-1].signed.version,
                digest=grouped(digest_of(event.roots[-1])),
            )
        )
    for role, draft in event.drafts.items():
        lines += _role(event, role, draft)
    return list(_named_once(lines))


#: A key that is told, and the same where its fingerprint stands above.
TOLD = N_("{name}: {owner} may sign ({kind} key {fingerprint})")
TOLD_BRAKE = N_("brakes: {owner} may halt a release for 72 hours alone, key {fingerprint}")
AGAIN = {
    TOLD: N_("{name}: {owner} may sign (the same key, {beginning}...)"),
    TOLD_BRAKE: N_(
        "brakes: {owner} may halt a release for 72 hours alone (the same key, {beginning}...)"
    ),
}


def _named_once(lines: Iterable[Line]) -> Iterator[Line]:
    """Tell the whole fingerprint of a key once: nobody compares the same one eight times."""
    seen: set[object] = set()
    for line in lines:
        mark = line.figures.get("fingerprint")
        if line.text.template in AGAIN and mark in seen:
            values = {**line.text.values, "beginning": str(mark).partition(" ")[0]}
            line = replace(line, text=Text(AGAIN[line.text.template], values))  # noqa: PLW2901
        elif line.text.template in AGAIN:
            seen.add(mark)
        yield line


def _line(
    role: str, template: str, *, heading: bool = False, annex: bool = False, **values: object
) -> Line:
    return _said(role, Text(template, values), heading=heading, annex=annex)


def _said(role: str, text: Text, *, heading: bool = False, annex: bool = False) -> Line:
    """A line whose figures are what stands in the lists, and not how it is told."""
    told = (Text, Figure)
    figures = {key: value for key, value in text.values.items() if not isinstance(value, told)}
    return Line(role, text, heading, figures, annex)


def _role(event: SigningEvent, role: str, draft: Metadata[Any]) -> Iterator[Line]:
    before = event.base.get(role)
    old = before.signed if before else None
    new = draft.signed
    yield _line(
        role,
        N_("{name}: version {old} becomes version {new}")
        if old
        else N_("{name}: first version, {new}"),
        heading=True,
        name=role,
        old=old.version if old else 0,
        new=new.version,
    )
    yield _line(
        role, N_("{name}: digest {digest}"), annex=True, name=role, digest=grouped(digest_of(draft))
    )
    yield _line(
        role,
        N_("drafted {at}, valid until {day} (until now: {day_before})")
        if old
        else N_("drafted {at}, valid until {day}"),
        issued=issued_at(new),
        at=time_words(issued_at(new)),
        expires=f"{new.expires:%Y-%m-%d}",
        day=format_day(new.expires),
        before=f"{old.expires:%Y-%m-%d}" if old else "-",
        day_before=format_day(old.expires) if old else "-",
    )
    names = names_of(event.signers_of(role).values())
    yield _line(role, N_("may be signed by: {names}"), names=", ".join(names))
    lines = list(
        _root(role, old, new) if isinstance(new, Root) else _targets(role, old, new)
    ) + list(_rest(role, old, new))
    nothing = N_("nothing else changes") if old else N_("nothing stands in it yet")
    yield from lines or [_line(role, nothing)]


def _root(role: str, old: Root | None, new: Root) -> Iterator[Line]:
    for name, holder in new.roles.items():
        yield from _holders(
            role,
            name,
            _keys(old.roles[name].keyids, old.keys) if old and name in old.roles else {},
            _keys(holder.keyids, new.keys),
            old.roles[name].threshold if old and name in old.roles else 0,
            holder.threshold,
        )
    yield from _brakes(role, old, new)
    yield from _periods(role, old, new)
    if not new.consistent_snapshot:
        yield _line(role, N_("WARNING: consistent snapshots are switched off"))


def _brakes(role: str, old: Root | None, new: Root) -> Iterator[Line]:
    before, after = (brake_keys(root) if root is not None else {} for root in (old, new))
    for keyid, key in before.items():
        if keyid not in after:
            words = N_("brakes: {owner} may no longer, key {fingerprint}")
            mark = grouped(fingerprint(key))
            yield _line(role, words, owner=owner_of(key), fingerprint=mark)
    for keyid, key in after.items():
        if keyid not in before:
            mark = grouped(fingerprint(key))
            yield _line(role, TOLD_BRAKE, owner=owner_of(key), fingerprint=mark)


def _periods(role: str, old: Root | None, new: Root) -> Iterator[Line]:
    before, after = _days_of(old), _days_of(new)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            days, signing = after.get(name, ("-", "-"))
            old_days, old_signing = before.get(name, ("-", "-"))
            yield _line(
                role,
                N_(
                    "{name}: valid for {days} days, to be signed anew in the last {signing} (until"
                    " now: {old_days}, {old_signing})"
                )
                if name in before
                else N_("{name}: valid for {days} days, to be signed anew in the last {signing}"),
                name=name,
                days=days,
                signing=signing,
                old_days=old_days,
                old_signing=old_signing,
            )


def _days_of(root: Root | None) -> dict[str, tuple[object, object]]:
    policy = root.unrecognized_fields.get(POLICY) if root is not None else None
    if not isinstance(policy, dict):
        return {}
    days, signing = (policy.get(key) for key in ("expiry_days", "signing_days"))
    if not isinstance(days, dict) or not isinstance(signing, dict):
        return {}
    return {
        name: (days.get(name, "-"), signing.get(name, "-"))
        for name in sorted(days.keys() | signing.keys())
    }


def _targets(role: str, old: Targets | None, new: Targets) -> Iterator[Line]:
    was, now = _delegations(old), _delegations(new)
    for name in was.keys() - now.keys():
        yield _line(role, N_("the product {name} is taken out of the feed"), name=name)
    for name, (holder, keys) in now.items():
        old_holder, old_keys = was.get(name, (None, {}))
        yield from _holders(
            role, name, old_keys, keys, old_holder.threshold if old_holder else 0, holder.threshold
        )
        facts = {
            "paths": N_("{name}: the names of its files: {value}"),
            "terminating": N_("{name}: no other product may use these names")
            if holder.terminating
            else N_("WARNING: {name}: other products may use these names too"),
            "path_hash_prefixes": N_("{name}: the digests of its names begin with: {value}"),
        }
        for fact, words in facts.items():
            value, before = getattr(holder, fact), getattr(old_holder, fact, None)
            if value != before:
                yield _line(role, words, name=name, value=", ".join(map(str, _list(value))))
    if was and list(was) != list(now):
        yield _line(role, N_("order of the products: {order}"), order=", ".join(now))
    yield from _files(role, old.targets if old else {}, new.targets)


def _list(value: object) -> list[object]:
    """A list of a fact that may be missing."""
    return value if isinstance(value, list) else []


def _delegations(targets: Targets | None) -> dict[str, tuple[Any, dict[str, Key]]]:
    if targets is None or targets.delegations is None:
        return {}
    delegations = targets.delegations
    return {
        name: (holder, _keys(holder.keyids, delegations.keys))
        for name, holder in (delegations.roles or {}).items()
    }


def _keys(keyids: list[str], keys: Mapping[str, Key]) -> dict[str, Key]:
    return {keyid: keys[keyid] for keyid in keyids if keyid in keys}


def _holders(
    role: str,
    name: str,
    old: Mapping[str, Key],
    new: Mapping[str, Key],
    old_threshold: int,
    threshold: int,
) -> Iterator[Line]:
    for keyid in old.keys() - new.keys():
        yield _line(
            role,
            N_("{name}: {owner} may no longer sign (key {fingerprint}...)"),
            name=name,
            owner=owner_of(old[keyid]),
            fingerprint=fingerprint(old[keyid])[:8],
        )
    for keyid, key in new.items():
        if keyid not in old:
            yield _line(
                role,
                TOLD,
                name=name,
                owner=owner_of(key),
                kind=key.keytype,
                fingerprint=grouped(fingerprint(key)),
            )
        elif old[keyid].to_dict() != key.to_dict():
            yield _line(role, N_("WARNING: {name}: the key {key} changes"), name=name, key=keyid)
    if (old_threshold, len(old)) != (threshold, len(new)):
        yield _line(
            role,
            N_("{name}: {threshold} of {count} must sign (until now: {old} of {old_count})")
            if old_threshold
            else N_("{name}: {threshold} of {count} must sign"),
            name=name,
            threshold=threshold,
            count=len(new),
            old=old_threshold,
            old_count=len(old),
        )


def _files(role: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Line]:
    for path in sorted(old.keys() - new.keys()):
        yield _line(role, N_("removed: {path}"), path=path)
    for path in sorted(new):
        target, before = new[path], old.get(path)
        pack = _pack(path)
        if before is None and pack is not None:
            yield _line(
                role,
                N_(
                    "added: delta pack from {origin} straight to {version}, {size_bytes}, "
                    "sha256 {digest}"
                ),
                annex=True,
                origin=pack[0],
                version=pack[1],
                size_bytes=target.length,
                digest=grouped(target.hashes["sha256"]),
            )
        elif before is None:
            yield _line(
                role,
                N_("added: {path}, {size_bytes}, sha256 {digest}"),
                annex=True,
                path=path,
                size_bytes=target.length,
                digest=grouped(target.hashes["sha256"]),
            )
        elif (before.length, before.hashes) != (target.length, target.hashes):
            yield _line(
                role,
                N_("WARNING: replaced: {path}, {size_bytes}, sha256 {digest}"),
                path=path,
                size_bytes=target.length,
                digest=grouped(target.hashes["sha256"]),
            )
        said = (before.custom if before else None) or {}
        if said != (target.custom or {}):
            yield from _custom(role, path, said, target.custom)


def _pack(path: str) -> tuple[str, str] | None:
    """The two versions of a delta pack's name."""
    if not path.startswith(DELTAS_PREFIX):
        return None
    origin, _, version = path.rpartition("/")[2].partition("--")
    return (origin, version) if origin and version else None


def _custom(role: str, path: str, old: Mapping[str, Any], new: Any) -> Iterator[Line]:  # noqa: ANN401 - JSON
    new = new or {}
    offer, before = new.get(OFFER_FIELD), old.get(OFFER_FIELD) or {}
    if offer is None:
        said = _json(new)
        yield _line(role, PLAIN.get(said, N_("{path} says {value}")), path=path, value=said)
        return
    for text in steering_words(before, offer):
        yield _said(role, text)
    for key, value in sorted(offer.items()):
        if key in STEERED:
            continue
        if key in ("archive", "product", "version") and key not in before:
            continue
        if before.get(key) == value or (key == "deltas" and not value and key not in before):
            continue
        if key == "withdrawn" and value is None:
            yield _line(role, BACK, product=offer.get("product"), version=offer.get("version"))
        elif key == "withdrawn":
            yield _line(
                role,
                N_("WITHDRAWN: {product} {version}: {reason}. Advice: {advice}."),
                product=offer.get("product"),
                version=offer.get("version"),
                reason=str(value.get("reason")).rstrip("."),
                advice=(value.get("advice") or "-").rstrip("."),
            )
        elif (worded := field_words(offer, key)) is not None:
            yield _said(role, worded)
        else:
            yield _line(
                role, N_("{path}: {key} is {value}"), path=path, key=key, value=_json(value)
            )
    for key in sorted(before.keys() - offer.keys() - set(STEERED)):
        if key == "withdrawn" and before[key] is not None:
            yield _line(role, BACK, product=offer.get("product"), version=offer.get("version"))
            continue
        yield _line(role, N_("{path}: {key} is taken away"), path=path, key=key)


def _rest(role: str, old: Any, new: Any) -> Iterator[Line]:  # noqa: ANN401 - any role
    """Whatever the sentences above do not know."""
    for place, value in leftovers(old.to_dict() if old else {}, new.to_dict()):
        if place == f"{POLICY}/plain_tufup" and value == []:
            yield _line(role, N_("no product has clients that are plain tufup"))
            continue
        if place == f"{POLICY}/plain_tufup" and _is_names(value):
            words = N_("products that plain tufup clients find as well: {products}")
            yield _line(role, words, products=", ".join(value))
            continue
        words = N_("{key} becomes {value}") if value is not None else N_("{key} is taken away")
        yield _line(role, words, key=place, value=_json(value))


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
