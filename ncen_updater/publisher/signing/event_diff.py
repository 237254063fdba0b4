"""Describe the difference between published metadata and a draft, in sentences for signers.

Signers sign bytes. So any difference without a sentence of its own is listed raw, even in an
unknown field, and nothing can be signed unseen. A key is shown with its owner and its fingerprint,
because the owner's name is only what the key file claims.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root, Targets  # type: ignore[attr-defined]

from ncen_updater.common.cli.render import DONE_OF_TOTAL, format_date, group_digest
from ncen_updater.common.i18n import N_, LazyText, LocalizedFigure, join_texts
from ncen_updater.feed.emergency_halt_statements import read_emergency_halt_keys
from ncen_updater.feed.upgrade_path import format_version_range
from ncen_updater.formats.manifest import Urgency
from ncen_updater.formats.receipt import RECEIPT_ADDRESSES_FIELD
from ncen_updater.formats.release_document import list_release_targets
from ncen_updater.formats.rollout import (
    EMERGENCY_HALT_KEYS_FIELD,
    PUBLISH_AFTER_FIELD,
    PublishCondition,
)
from ncen_updater.formats.target_names import (
    DELTAS_PREFIX,
    ISSUE_TIME_FIELD,
    OFFER_FIELD,
    ROLE_FIELD,
)
from ncen_updater.publisher.feed.role_policy import (
    POLICY_FIELD,
    RETIRED_FIELD,
    read_issue_time,
    read_publish_condition,
    read_retired_versions,
)
from ncen_updater.publisher.signing.keys import (
    KEY_OWNER,
    compute_fingerprint,
    get_key_owner,
    list_key_owners,
)
from ncen_updater.publisher.signing.signing_event import SigningEvent, compute_signed_digest
from ncen_updater.publisher.signing.value_format import (
    format_schedule,
    format_signed_time,
)

#: Fields of an offer that :func:`describe_rollout_changes` describes.
ROLLOUT_FIELDS = ("waves", "halted", "channel", "countries")
_URGENCIES = {urgency.value: urgency for urgency in Urgency}


def describe_rollout_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[LazyText]:
    """Describe changes of waves, halt, channel and countries.

    Args:
        old: The published offer; empty for a new release.
        new: The drafted offer.
    """
    name = {"product": new.get("product"), "version": new.get("version")}
    if not _is_equal(old.get("halted"), new.get("halted")):
        halt = new.get("halted")
        yield (
            LazyText(N_("HALTED: {product} {version}: {reason}"), {**name, **halt})
            if halt
            else LazyText(N_("{product} {version}: halt ends"), name)
        )
    if not old or old.get("channel") != new.get("channel"):
        values = {**name, "channel": new.get("channel")}
        text = LazyText(N_("{product} {version}: channel '{channel}'"), values)
        yield _add_former(text, old.get("channel")) if old else text
    yield from _describe_countries(name, old, new)
    yield from _describe_waves(name, old.get("waves") or [], new.get("waves") or [])


def _describe_countries(
    name: Mapping[str, object], old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[LazyText]:
    before, after = old.get("countries") or [], new.get("countries") or []
    if before == after:
        return
    everywhere = LazyText(N_("all"))
    values = {**name, "countries": ", ".join(after) or everywhere}
    text = LazyText(N_("{product} {version}: countries: {countries}"), values)
    yield _add_former(text, ", ".join(before) or everywhere) if old else text


def _add_former(text: LazyText, former: object) -> LazyText:
    """Add the former value to a sentence."""
    words = N_("{change} (before: {former})")
    return LazyText(words, {**text.values, "change": text, "former": former})


def _describe_waves(
    name: Mapping[str, object], old: list[dict[str, Any]], new: list[dict[str, Any]]
) -> Iterator[LazyText]:
    if _is_equal(old, new):
        return
    words = N_("{product} {version}: waves: {schedule}")
    if any(wave not in new for wave in old):
        words = N_("WARNING: {product} {version}: waves: {schedule} (before: {old})")
    schedules = {"schedule": format_schedule(new), "old": format_schedule(old)}
    yield LazyText(words, {**name, **schedules, "waves": new})


def describe_offer_field(offer: Mapping[str, Any], key: str) -> LazyText | None:
    """Describe a field of an offer; return None for a field without a sentence, or another type.

    Args:
        offer: The drafted offer.
        key: Name of the field.
    """
    name = {"product": offer.get("product"), "version": offer.get("version")}
    match key, offer.get(key):
        case "agent", str(wanted):
            words = N_("{product} {version}: needs ncen-updater {range}")
            return LazyText(words, {**name, "agent": wanted, "range": format_version_range(wanted)})
        case "deltas", dict(packs) if all(type(size) is int for size in packs.values()):
            words = N_("{product} {version}: delta packs from {origins}")
            one = N_("{origin} ({size_bytes})")
            lines = [LazyText(one, {"origin": o, "size_bytes": size}) for o, size in packs.items()]
            return LazyText(words, {**name, "deltas": packs, "origins": join_texts(lines, ", ")})
        case "required", True:
            return LazyText(N_("{product} {version}: required release"), name)
        case "required", False:
            return LazyText(N_("{product} {version}: optional release"), name)
        case "unpacked_bytes", int(size) if type(size) is int:
            words = N_("{product} {version}: {unpacked_bytes} unpacked")
            return LazyText(words, {**name, "unpacked_bytes": size})
        case "upgrade_from", str(admitted) if not admitted.strip():
            words = N_("{product} {version}: first installation only")
            return LazyText(words, {**name, "upgrade_from": admitted})
        case "upgrade_from", str(admitted):
            words = N_("{product} {version}: upgrade from {range}")
            return LazyText(
                words, {**name, "upgrade_from": admitted, "range": format_version_range(admitted)}
            )
        case "urgency", str(urgency) if urgency in _URGENCIES:
            words = N_("{product} {version}: urgency: {urgency}")
            return LazyText(words, {**name, "urgency": _URGENCIES[urgency]})
    return None


ENVELOPE_FIELDS: Final = {
    "_type",
    "spec_version",
    "version",
    "expires",
    ISSUE_TIME_FIELD,
    ROLE_FIELD,
    RETIRED_FIELD,
}
HOLDER_FIELDS: Final = {"name", "keyids", "threshold"}
DELEGATION_FIELDS: Final = HOLDER_FIELDS | {"terminating", "paths", "path_hash_prefixes"}
SCHEMES: Final = {
    ("ed25519", "ed25519"),
    ("ecdsa", "ecdsa-sha2-nistp256"),
    ("ecdsa", "ecdsa-sha2-nistp384"),
}
PERIODS: Final = {"expiry_days", "signing_days"}
REMOVED: Final = None

FieldPath = tuple[str, ...]


def find_undescribed_changes(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Yield path and new value (None if removed) of each change that has no sentence.

    Args:
        old: The published version as a dictionary, empty if there is none.
        new: The draft as a dictionary.
    """
    was = dict(_iter_leaves((), _index_by_name(old))) if old else {}
    now = dict(_iter_leaves((), _index_by_name(new)))
    used = _list_used_keys(new) | _list_used_keys(old)
    for place in sorted(was.keys() | now.keys()):
        value = now.get(place, REMOVED)
        if place in was and place in now and _is_equal(was[place], value):
            continue
        if not _is_described(place, value, new, used):
            yield "/".join(place), value


def _is_equal(one: object, other: object) -> bool:
    """Return whether two values have the same JSON: for Python, 1 and true are equal."""
    return _format_json(one) == _format_json(other)


def _iter_leaves(place: FieldPath, value: Any) -> Iterator[tuple[FieldPath, Any]]:  # noqa: ANN401 - JSON
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _iter_leaves((*place, str(key)), inner)
    else:
        yield place, value


def _index_by_name(signed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata with its delegations by name instead of by index.

    A change of their order has a sentence of its own.
    """
    delegations = signed.get("delegations")
    if not isinstance(delegations, dict) or not isinstance(delegations.get("roles"), list):
        return dict(signed)
    roles = delegations["roles"]
    named = {str(role["name"]): role for role in roles}
    return {**signed, "delegations": {**delegations, "roles": named}}


def _list_used_keys(signed: Mapping[str, Any]) -> set[str]:
    delegations = _index_by_name(signed).get("delegations") or {}
    holders = [*(signed.get("roles") or {}).values(), *(delegations.get("roles") or {}).values()]
    return {keyid for holder in holders for keyid in holder.get("keyids", ())}


def _is_described(place: FieldPath, value: Any, new: Mapping[str, Any], used: set[str]) -> bool:  # noqa: ANN401
    match place:
        case ("keys", keyid, *rest) | ("delegations", "keys", keyid, *rest):
            return keyid in used and _is_key_described(tuple(rest), value, place, new)
        case ("roles", _, fact):
            return fact in HOLDER_FIELDS
        case (name, _, *rest) if name == EMERGENCY_HALT_KEYS_FIELD:
            return _is_key_described(tuple(rest), value, place, new)
        case (name, fact, _) if name == POLICY_FIELD:
            return fact in PERIODS
        case ("delegations", "roles", _, fact):
            return fact in DELEGATION_FIELDS
        case ("targets", path, *rest):
            return _is_target_described(tuple(rest), (new.get("targets") or {}).get(path))
        case ("delegations",) | ("targets",):
            return not value
        case (name, *_) if name == PUBLISH_AFTER_FIELD:
            return True
        case (name,):
            return name in ENVELOPE_FIELDS or name == "consistent_snapshot"
    return False


def _is_key_described(
    rest: FieldPath,
    value: Any,  # noqa: ANN401
    place: FieldPath,
    new: Mapping[str, Any],
) -> bool:
    if rest == ("scheme",) and value is not REMOVED:
        keys: Any = new
        for step in place[:-1]:
            keys = keys[step]
        return (keys.get("keytype"), value) in SCHEMES
    return rest in {("keytype",), ("scheme",), ("keyval", "public"), (KEY_OWNER,)}


def _is_target_described(rest: FieldPath, target: Mapping[str, Any] | None) -> bool:
    if target is None or rest in {("length",), ("hashes", "sha256")}:
        return True
    if rest[:1] != ("custom",):
        return False
    # Custom fields without an offer are shown completely; beside an offer, only the offer is.
    custom = target.get("custom")
    return not isinstance(custom, dict) or OFFER_FIELD not in custom or rest[1:2] == (OFFER_FIELD,)


#: Sentences for the custom field that plain tufup clients read, if it has exactly this content.
PLAIN_CUSTOM_TEXTS = {
    '{"tufup": {"required": false}, "user": {}}': N_("{key}: optional for plain tufup clients"),
    '{"tufup": {"required": true}, "user": {}}': N_("{key}: required for plain tufup clients"),
}


@dataclass(frozen=True)
class DiffLine:
    """One sentence of the description.

    Attributes:
        role: The role concerned; empty for the whole event.
        text: The sentence.
        heading: Whether it is a heading of the lines after it.
        figures: Its values for programs.
        annex: Whether it only names digests, which programs compare and signers need not judge.
    """

    text: LazyText
    heading: bool = False
    figures: Mapping[str, object] = field(default_factory=dict)
    annex: bool = False
    role: str = ""


def describe_event(event: SigningEvent) -> list[DiffLine]:
    """Return the description of all changes of an event."""
    lines = [
        _make_line(N_("{title}"), heading=True, title=event.title),
        _make_line(N_("Event digest: {digest}"), annex=True, digest=group_digest(event.digest)),
    ]
    if event.roots:
        lines.append(
            _make_line(
                N_("based on root version {version}, digest {digest}"),
                annex=True,
                version=event.roots[-1].signed.version,
                digest=group_digest(compute_signed_digest(event.roots[-1])),
            )
        )
    for role, draft in event.drafts.items():
        lines += [replace(line, role=role) for line in _diff_role(event, role, draft)]
    return list(_shorten_repeated_keys(lines))


#: Sentence for a key, and the short one if its fingerprint was shown before.
KEY_HOLDER_LINE = N_("{name}: {owner} can sign ({kind} key {fingerprint})")
EMERGENCY_HALT_KEY_LINE = N_("emergency halt: {owner}, key {fingerprint}")
SAME_KEY_LINES = {
    KEY_HOLDER_LINE: N_("{name}: {owner} can sign (same key, {beginning}...)"),
    EMERGENCY_HALT_KEY_LINE: N_("emergency halt: {owner} (same key, {beginning}...)"),
}


def _shorten_repeated_keys(lines: Iterable[DiffLine]) -> Iterator[DiffLine]:
    """Show the full fingerprint of each key only once."""
    seen: set[object] = set()
    for line in lines:
        mark = line.figures.get("fingerprint")
        if line.text.template in SAME_KEY_LINES and mark in seen:
            values = {**line.text.values, "beginning": str(mark).partition(" ")[0]}
            line = replace(line, text=LazyText(SAME_KEY_LINES[line.text.template], values))  # noqa: PLW2901
        elif line.text.template in SAME_KEY_LINES:
            seen.add(mark)
        yield line


def _make_line(
    template: str, *, heading: bool = False, annex: bool = False, **values: object
) -> DiffLine:
    return _make_verbatim_line(LazyText(template, values), heading=heading, annex=annex)


def _make_verbatim_line(text: LazyText, *, heading: bool = False, annex: bool = False) -> DiffLine:
    """Return a line whose figures are its text's values, except translated ones."""
    reported = (LazyText, LocalizedFigure)
    figures = {key: value for key, value in text.values.items() if not isinstance(value, reported)}
    return DiffLine(text, heading=heading, figures=figures, annex=annex)


def _diff_role(event: SigningEvent, role: str, draft: Metadata[Any]) -> Iterator[DiffLine]:
    before = event.base.get(role)
    old = before.signed if before else None
    new = draft.signed
    yield _make_line(
        N_("{name}: version {old} to {new}") if old else N_("{name}: first version, {new}"),
        heading=True,
        name=role,
        old=old.version if old else 0,
        new=new.version,
    )
    yield _make_line(
        N_("{name}: digest {digest}"),
        annex=True,
        name=role,
        digest=group_digest(compute_signed_digest(draft)),
    )
    values = {
        "issued": read_issue_time(new),
        "at": format_signed_time(read_issue_time(new)),
        "expires": f"{new.expires:%Y-%m-%d}",
        "day": format_date(new.expires),
        "before": f"{old.expires:%Y-%m-%d}" if old else "-",
    }
    text = LazyText(N_("drafted {at}, valid until {day}"), values)
    yield _make_verbatim_line(_add_former(text, format_date(old.expires)) if old else text)
    names = list_key_owners(event.list_signers(role).values())
    yield _make_line(N_("can be signed by: {names}"), names=", ".join(names))
    condition = read_publish_condition(new)
    if condition is not None:
        yield _make_verbatim_line(format_publish_condition(condition))
    lines = list(_diff_root(old, new) if isinstance(new, Root) else _diff_targets(old, new)) + list(
        _diff_rest(old, new)
    )
    nothing = N_("no other changes") if old else N_("empty")
    yield from lines or [_make_line(nothing)]


def format_publish_condition(condition: PublishCondition) -> LazyText:
    """Describe which reports an event needs before it may be published."""
    words = N_(
        "Published only after sites in {count} of these countries report that {product} {version}"
        " completed its soak period: {countries}"
    )
    named = ", ".join(condition.countries)
    return LazyText(words, {**condition.model_dump(), "countries": named})


def _diff_root(old: Root | None, new: Root) -> Iterator[DiffLine]:
    for name, holder in new.roles.items():
        yield from _diff_holders(
            name,
            _select_keys(old.roles[name].keyids, old.keys) if old and name in old.roles else {},
            _select_keys(holder.keyids, new.keys),
            old.roles[name].threshold if old and name in old.roles else 0,
            holder.threshold,
        )
    yield from _diff_emergency_halt_keys(old, new)
    yield from _diff_periods(old, new)
    if not new.consistent_snapshot:
        yield _make_line(N_("WARNING: consistent snapshots disabled"))


def _diff_emergency_halt_keys(old: Root | None, new: Root) -> Iterator[DiffLine]:
    before, after = (
        read_emergency_halt_keys(root) if root is not None else {} for root in (old, new)
    )
    removed = N_("emergency halt: {owner} removed, key {fingerprint}")
    for words, some, others in (
        (removed, before, after),
        (EMERGENCY_HALT_KEY_LINE, after, before),
    ):
        for key in sorted((some[one] for one in some if one not in others), key=get_key_owner):
            mark = group_digest(compute_fingerprint(key))
            yield _make_line(words, owner=get_key_owner(key), fingerprint=mark)


def _diff_periods(old: Root | None, new: Root) -> Iterator[DiffLine]:
    before, after = _read_periods(old), _read_periods(new)
    for name in sorted(before.keys() | after.keys()):
        if not _is_equal(before.get(name), after.get(name)):
            days, signing = after.get(name, ("-", "-"))
            words = N_("{name}: valid for {days} days, renewed in the last {signing}")
            text = LazyText(words, {"name": name, "days": days, "signing": signing})
            if name in before:
                text = _add_former(text, ", ".join(map(str, before[name])))
            yield _make_verbatim_line(text)


def _read_periods(root: Root | None) -> dict[str, tuple[object, object]]:
    policy = root.unrecognized_fields.get(POLICY_FIELD) if root is not None else None
    if not isinstance(policy, dict):
        return {}
    days, signing = (
        value if isinstance(value := policy.get(key), dict) else {}
        for key in ("expiry_days", "signing_days")
    )
    return {
        name: (days.get(name, "-"), signing.get(name, "-"))
        for name in sorted(days.keys() | signing.keys())
    }


def _diff_targets(old: Targets | None, new: Targets) -> Iterator[DiffLine]:
    was, now = _read_delegations(old), _read_delegations(new)
    for name in sorted(was.keys() - now.keys()):
        yield _make_line(N_("product {name} removed from the feed"), name=name)
    for name, (holder, keys) in now.items():
        old_holder, old_keys = was.get(name, (None, {}))
        yield from _diff_holders(
            name, old_keys, keys, old_holder.threshold if old_holder else 0, holder.threshold
        )
        facts = {
            "paths": N_("{name}: file names: {value}"),
            "terminating": N_("{name}: its file names are exclusive")
            if holder.terminating
            else N_("WARNING: {name}: its file names are shared with other products"),
            "path_hash_prefixes": N_("{name}: prefixes of file name digests: {value}"),
        }
        for fact, words in facts.items():
            value, before = getattr(holder, fact), getattr(old_holder, fact, None)
            if value != before:
                listed = value if isinstance(value, list) else []
                yield _make_line(words, name=name, value=", ".join(map(str, listed)))
    if was and list(was) != list(now):
        yield _make_line(N_("order of products: {order}"), order=", ".join(now))
    before = read_retired_versions(old) if old else ()
    retired = [version for version in read_retired_versions(new) if version not in before]
    if retired:
        yield _make_line(N_("retired: {versions}"), versions=", ".join(retired))
    known = old.targets if old else {}
    product = str(new.unrecognized_fields.get(ROLE_FIELD))
    theirs = {name for one in retired for name in list_release_targets(product, one, known)}
    yield from _diff_files(known, new.targets, theirs)


def _read_delegations(targets: Targets | None) -> dict[str, tuple[Any, dict[str, Key]]]:
    if targets is None or targets.delegations is None:
        return {}
    delegations = targets.delegations
    return {
        name: (holder, _select_keys(holder.keyids, delegations.keys))
        for name, holder in (delegations.roles or {}).items()
    }


def _select_keys(keyids: list[str], keys: Mapping[str, Key]) -> dict[str, Key]:
    return {keyid: keys[keyid] for keyid in keyids if keyid in keys}


def _diff_holders(
    name: str,
    old: Mapping[str, Key],
    new: Mapping[str, Key],
    old_threshold: int,
    threshold: int,
) -> Iterator[DiffLine]:
    for keyid in sorted(old.keys() - new.keys()):
        yield _make_line(
            N_("{name}: {owner} removed (key {fingerprint}...)"),
            name=name,
            owner=get_key_owner(old[keyid]),
            fingerprint=compute_fingerprint(old[keyid])[:8],
        )
    for keyid, key in new.items():
        if keyid not in old:
            yield _make_line(
                KEY_HOLDER_LINE,
                name=name,
                owner=get_key_owner(key),
                kind=key.keytype,
                fingerprint=group_digest(compute_fingerprint(key)),
            )
        elif old[keyid].to_dict() != key.to_dict():
            yield _make_line(N_("WARNING: {name}: key {key} changes"), name=name, key=keyid)
    if (old_threshold, len(old)) != (threshold, len(new)):
        values = {"name": name, "threshold": threshold, "count": len(new)}
        text = LazyText(N_("{name}: signature threshold {threshold} of {count}"), values)
        former = LazyText(DONE_OF_TOTAL, {"done": old_threshold, "total": len(old)})
        yield _make_verbatim_line(_add_former(text, former) if old_threshold else text)


def _diff_files(
    old: Mapping[str, Any], new: Mapping[str, Any], retired: Collection[str]
) -> Iterator[DiffLine]:
    for path in sorted(old.keys() - new.keys()):
        yield _make_line(N_("removed: {path}"), path=path, annex=path in retired)
    for path in sorted(new):
        target, before = new[path], old.get(path)
        values = {"path": path, "size_bytes": target.length}
        values["digest"] = group_digest(target.hashes["sha256"])
        pack = _parse_pack_name(path)
        if before is None and pack is not None:
            words = N_(
                "added: delta pack from {origin} to {version}, {size_bytes}, sha256 {digest}"
            )
            yield _make_line(words, annex=True, origin=pack[0], version=pack[1], **values)
        elif before is None:
            words = N_("added: {path}, {size_bytes}, sha256 {digest}")
            yield _make_line(words, annex=True, **values)
        elif (before.length, before.hashes) != (target.length, target.hashes):
            words = N_("WARNING: replaced: {path}, {size_bytes}, sha256 {digest}")
            yield _make_line(words, **values)
        value = (before.custom if before else None) or {}
        if not _is_equal(value, target.custom or {}):
            yield from _diff_custom(path, value, target.custom)


def _parse_pack_name(path: str) -> tuple[str, str] | None:
    """Return the two versions in the name of a delta pack; None for another name."""
    if not path.startswith(DELTAS_PREFIX):
        return None
    origin, _, version = path.rpartition("/")[2].partition("--")
    return (origin, version) if origin and version else None


def _diff_custom(path: str, old: Mapping[str, Any], new: Any) -> Iterator[DiffLine]:  # noqa: ANN401 - JSON
    new = new or {}
    offer, before = new.get(OFFER_FIELD), old.get(OFFER_FIELD) or {}
    if offer is None:
        content = _format_json(new)
        yield _make_line(
            PLAIN_CUSTOM_TEXTS.get(content, N_("{key} set to {value}")),
            key=path,
            value=content,
        )
        return
    for text in describe_rollout_changes(before, offer):
        yield _make_verbatim_line(text)
    name = {"product": offer.get("product"), "version": offer.get("version")}
    for key in sorted({*before, *offer} - set(ROLLOUT_FIELDS)):
        value = offer.get(key)
        if key not in before and (
            key in ("archive", "product", "version") or (key == "deltas" and not value)
        ):
            continue
        if key in offer and _is_equal(before.get(key), value):
            continue
        if key == "withdrawn" and value is None and before.get(key) is not None:
            yield _make_line(N_("WARNING: {product} {version}: withdrawal ends"), **name)
        elif key not in offer:
            yield _make_line(N_("{key} removed"), key=f"{path}: {key}")
        elif key == "withdrawn":
            yield _make_line(
                N_("WITHDRAWN: {product} {version}: {reason}. Advice: {advice}."),
                **name,
                reason=str(value.get("reason")).rstrip("."),
                advice=(value.get("advice") or "-").rstrip("."),
            )
        elif (worded := describe_offer_field(offer, key)) is not None:
            yield _make_verbatim_line(worded)
        else:
            words = N_("{key} set to {value}")
            yield _make_line(words, key=f"{path}: {key}", value=_format_json(value))


def _diff_rest(old: Any, new: Any) -> Iterator[DiffLine]:  # noqa: ANN401 - any role
    """Describe all changes without a sentence above."""
    for place, value in find_undescribed_changes(old.to_dict() if old else {}, new.to_dict()):
        if place == f"{POLICY_FIELD}/plain_tufup" and _is_names(value):
            words = N_("products for plain tufup clients: {products}")
            yield _make_line(words, products=", ".join(value) or "-")
            continue
        if place == RECEIPT_ADDRESSES_FIELD and _is_names(value):
            words = N_("sites may send receipts to: {addresses}")
            yield _make_line(words, addresses=", ".join(value))
            continue
        words = N_("{key} set to {value}") if value is not None else N_("{key} removed")
        yield _make_line(words, key=place, value=_format_json(value))


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _format_json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
