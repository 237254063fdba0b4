"""What the words of ``describe`` do not cover: every other value that differs, by its place.

An officer signs bytes. Whatever in them differs from what is published and has no sentence of its
own is listed raw, so that nothing can be signed unseen, not even a field that nobody thought of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ncen_updater.formats.brakes import BRAKE_KEYS_FIELD
from ncen_updater.formats.tuf_names import ISSUED_FIELD, OFFER_FIELD, ROLE_FIELD
from ncen_updater.publisher.signing.keys import KEY_OWNER
from ncen_updater.publisher.signing.roles import POLICY

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
