"""Attacks on a feed or its network; the tables name the refusal of each attack."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import timedelta

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import MetaFile  # type: ignore[attr-defined]

from ncen_updater.formats.target_names import ROLE_FIELD, ROOT_VERSION_FIELD
from tests.support.http_server import Fault, WebServer
from tests.support.tuf_repository import Feed

DAYS = timedelta(days=1)
Attack = Callable[[Feed, WebServer], None]


def forged(role: str) -> Attack:
    """Sign a role with keys of one's own."""

    def attack(feed: Feed, _: WebServer) -> None:
        count = len(feed.signers[role])
        feed.signers[role] = [CryptoSigner.generate_ed25519() for _ in range(count)]
        feed.publish(role)

    return attack


def below_threshold(role: str) -> Attack:
    def attack(feed: Feed, _: WebServer) -> None:
        feed.signers[role] = feed.signers[role][:1]
        feed.publish(role)

    return attack


def expired(role: str) -> Attack:
    def attack(feed: Feed, _: WebServer) -> None:
        feed.roles[role].expires = feed.now - DAYS
        if role == "root":
            feed.rotate_root()
        else:
            feed.publish(role, keep_expiry=True)

    return attack


def rollback_timestamp(feed: Feed, _: WebServer) -> None:
    feed.roles["timestamp"].version -= 2
    feed.publish("ncen")


def rollback_snapshot(feed: Feed, _: WebServer) -> None:
    feed.roles["snapshot"].version -= 2
    feed.publish("ncen")


def rollback_role(feed: Feed, _: WebServer) -> None:
    feed.roles["ncen"].version -= 2
    feed.publish("ncen")


def dropped_role(feed: Feed, _: WebServer) -> None:
    del feed.roles["snapshot"].meta["ncen.json"]
    feed.publish("targets")


def mixed_role(feed: Feed, _: WebServer) -> None:
    feed.publish("ncen")
    version = feed.roles["ncen"].version
    old = (feed.metadata / f"{version - 1}.ncen.json").read_bytes()
    feed.write(f"{version}.ncen.json", old)


def mixed_snapshot(feed: Feed, _: WebServer) -> None:
    feed.publish("ncen")
    version = feed.roles["snapshot"].version
    old = (feed.metadata / f"{version - 1}.snapshot.json").read_bytes()
    feed.write(f"{version}.snapshot.json", old)


def pinned_digest(feed: Feed, _: WebServer) -> None:
    """The snapshot pins the role's bytes; others, signed too, are served."""
    feed.publish("ncen")
    feed.roles["snapshot"].version += 1
    feed.roles["snapshot"].meta["ncen.json"] = MetaFile(
        feed.roles["ncen"].version, hashes={"sha256": "0" * 64}
    )
    feed.write(f"{feed.roles['snapshot'].version}.snapshot.json", feed.sign("snapshot"))
    feed.roles["timestamp"].version += 1
    feed.roles["timestamp"].snapshot_meta = MetaFile(feed.roles["snapshot"].version)
    feed.write("timestamp.json", feed.sign("timestamp"))


def announced_length(role: str) -> Attack:
    """A stolen online key permits metadata of a gigabyte; the mirror sends too much."""

    def attack(feed: Feed, server: WebServer) -> None:
        feed.publish("ncen")
        if role == "snapshot":
            feed.roles["timestamp"].snapshot_meta.length = 1 << 30
        else:
            feed.roles["snapshot"].version += 1
            feed.roles["snapshot"].meta[f"{role}.json"].length = 1 << 30
            feed.write(f"{feed.roles['snapshot'].version}.snapshot.json", feed.sign("snapshot"))
            feed.roles["timestamp"].snapshot_meta = MetaFile(feed.roles["snapshot"].version)
        feed.roles["timestamp"].version += 1
        feed.write("timestamp.json", feed.sign("timestamp"))
        server.faults = [Fault(f".{role}.json", body=b"{" + b" " * (6 << 20))]

    return attack


def wrong_root(feed: Feed, _: WebServer) -> None:
    feed.write("2.root.json", (feed.metadata / "1.root.json").read_bytes())


def root_by_new_keys_only(feed: Feed, _: WebServer) -> None:
    root, old = feed.roles["root"], feed.signers["root"]
    feed.signers["root"] = [CryptoSigner.generate_ed25519() for _ in range(3)]
    for signer in old:
        root.revoke_key(signer.public_key.keyid, "root")
    for signer in feed.signers["root"]:
        root.add_key(signer.public_key, "root")
    feed.rotate_root()


def hidden_root(feed: Feed, _: WebServer) -> None:
    feed.rotate_root()
    (feed.metadata / "2.root.json").unlink()
    feed.roles["timestamp"].unrecognized_fields[ROOT_VERSION_FIELD] = 2
    feed.publish("ncen")


def hidden_root_403(feed: Feed, server: WebServer) -> None:
    feed.rotate_root()
    server.faults = [Fault(".root.json", status=403)]
    feed.roles["timestamp"].unrecognized_fields[ROOT_VERSION_FIELD] = 2
    feed.publish("ncen")


def other_role(feed: Feed, _: WebServer) -> None:
    """Metadata that the same signers signed for the agent is served as the application's."""
    feed.signers["ncen-updater"] = feed.signers["ncen"]
    signed = copy.deepcopy(feed.roles["ncen"])
    signed.unrecognized_fields[ROLE_FIELD] = "ncen-updater"
    feed.roles["ncen"] = signed
    feed.publish("ncen")


def one_stolen(role: str) -> Attack:
    """One signer's key and one of the thief's own."""

    def attack(feed: Feed, _: WebServer) -> None:
        feed.signers[role] = [feed.signers[role][0], CryptoSigner.generate_ed25519()]
        feed.publish(role)

    return attack


def one_stolen_root_key(feed: Feed, _: WebServer) -> None:
    """The thief of one root key makes all others the thief's own."""
    root, (stolen, *others) = feed.roles["root"], feed.signers["root"]
    for signer in others:
        root.revoke_key(signer.public_key.keyid, "root")
    thief = CryptoSigner.generate_ed25519()
    root.add_key(thief.public_key, "root")
    feed.signers["root"] = [stolen, thief]
    feed.rotate_root()


def one_key_twice(feed: Feed, _: WebServer) -> None:
    """One signature is listed under both key ids of the role."""
    feed.publish("ncen")
    version = feed.roles["ncen"].version
    first, second = feed.signers["ncen"]
    metadata = json.loads(feed.sign("ncen", [first]))
    copied = {**metadata["signatures"][0], "keyid": second.public_key.keyid}
    metadata["signatures"].append(copied)
    feed.write(f"{version}.ncen.json", json.dumps(metadata).encode())


def online_keys_stolen(feed: Feed, server: WebServer) -> None:
    """Stolen timestamp and snapshot keys name metadata of the attacker."""
    forged("ncen")(feed, server)


def other_product_in_the_list(feed: Feed, _: WebServer) -> None:
    feed.add_release("3.5.0", change_offer=lambda offer: offer.update(product="other"))
    feed.publish("ncen")


def no_delegation(feed: Feed, _: WebServer) -> None:
    del feed.roles["targets"].delegations.roles["ncen"]
    feed.publish()


def other_product(feed: Feed, _: WebServer) -> None:
    """The keys of the agent's role sign an application release into their own metadata."""
    feed.roles["ncen"].targets.clear()
    feed.add_release("9.9.9", role="ncen-updater")
    feed.publish()


def junk(name: str, content: bytes) -> Attack:
    return lambda feed, _: feed.write(name, content)


def fault(**fault: object) -> Attack:
    def attack(_: Feed, server: WebServer) -> None:
        server.faults = [Fault(**fault)]  # type: ignore[arg-type]

    return attack
