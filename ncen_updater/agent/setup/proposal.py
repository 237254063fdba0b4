"""Derive databases, unit and health URL from the facts, each with its certainty. Pure."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from ncen_updater.agent.adapters.databases.postgresql.copies import CLONE_MIN_MAJOR
from ncen_updater.agent.setup.facts import (
    SLOTS,
    Cluster,
    FoundDatabase,
    FoundHealth,
    FoundUnit,
    HbaRule,
    SiteFacts,
    find_proxied_ports,
)
from ncen_updater.common.i18n import N_, LazyText


class Certainty(StrEnum):
    """Certainty of a finding."""

    SEEN = "seen"  # in use now
    LIKELY = "likely"  # the only candidate
    GUESSED = "guessed"  # by a name or a default


@dataclass(frozen=True)
class Guess:
    """One finding.

    Attributes:
        what: Label.
        value: Empty if nothing was found.
        certainty: Certainty.
    """

    what: LazyText
    value: str | LazyText
    certainty: Certainty


@dataclass(frozen=True)
class SiteProposal:
    """Proposed configuration of the site.

    Attributes:
        engine: ``postgresql`` or ``sqlite``; empty without databases.
        cluster: Server of the application's databases.
        owner: Owner of the databases.
        names: Maps logical to physical database name.
        sqlite_directory: Directory that contains ``live``.
        user: System user of the application.
        unit: Unit of the application; empty if none was found.
        parts: Further units of the same user.
        health: Health URL of the application.
        guesses: All findings, for display.
        databases: All databases of the servers.
    """

    engine: str = ""
    cluster: Cluster | None = None
    owner: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    sqlite_directory: str = ""
    user: str = ""
    unit: str = ""
    parts: tuple[str, ...] = ()
    health: FoundHealth | None = None
    guesses: tuple[Guess, ...] = ()
    databases: tuple[FoundDatabase, ...] = ()


DATABASES, UNIT, HEALTH = (
    LazyText(N_("databases")), LazyText(N_("unit")), LazyText(N_("health URL")),
)  # fmt: skip
WEB_SERVER, DISK, COPIES = (
    LazyText(N_("web server")), LazyText(N_("disk")), LazyText(N_("database copies")),
)  # fmt: skip


def make_proposal(
    facts: SiteFacts, product: str, *, owner: str = "", unit: str = ""
) -> SiteProposal:
    """Derive the proposal.

    Args:
        facts: Facts about the machine.
        product: Name of the application.
        owner: Role given by the operator.
        unit: Unit given by the operator.
    """
    guesses: list[Guess] = []
    cluster, owner, certainty = _choose_databases(facts.clusters, product, owner)
    names: Mapping[str, str] = {}
    engine = directory = place = ""
    if cluster is not None:
        engine, place = "postgresql", cluster.data_directory
        owned = [found.name for found in cluster.databases if found.owner == owner]
        names = make_logical_names(owned, product, owner)
        found = f"{cluster.name}: {', '.join(owned)} ({owner})"
        guesses.append(Guess(DATABASES, found, certainty))
    chosen, parts, unit_guess = _choose_unit(facts, product, owner, unit)
    if cluster is None:
        for files, certainty in (
            (chosen.sqlite if chosen else (), Certainty.SEEN),
            (facts.sqlite, Certainty.LIKELY),
        ):
            directory, names = find_sqlite(files)
            if directory:
                engine = "sqlite"
                place = next(str(PurePosixPath(f).parent) for f in files if f.startswith(directory))
                guesses.append(Guess(DATABASES, directory, certainty))
                break
    guesses.append(unit_guess)
    own = [one for one in facts.health if chosen and get_port(one.url) in chosen.ports]
    health = own[0] if own else facts.health[0] if len(facts.health) == 1 else None
    value = f"{health.url}{health.path} ({health.version})" if health else ""
    certainty = Certainty.SEEN if own else Certainty.LIKELY if health else Certainty.GUESSED
    guesses.append(Guess(HEALTH, value, certainty))
    guesses.append(_find_web_server(facts, health))
    guesses += _describe_disks(facts, place, cluster)
    user = chosen.user if chosen else owner if owner in facts.system_users else ""
    return SiteProposal(
        engine, cluster, owner, names, directory, user, chosen.name if chosen else "",
        tuple(part.name for part in parts), health, tuple(guesses),
        tuple(one for server in facts.clusters for one in server.databases),
    )  # fmt: skip


def _choose_databases(
    clusters: Sequence[Cluster], product: str, owner: str
) -> tuple[Cluster | None, str, Certainty]:
    """Choose the databases with sessions, else the only candidate, else by the product's name."""
    every = sorted({(i, found.owner) for i, one in enumerate(clusters) for found in one.databases})
    every = [(i, name) for i, name in every if not owner or name == owner]
    if not every:
        return None, owner, Certainty.GUESSED
    used = [
        (i, name)
        for i, name in every
        if any(
            session.database == found.name and found.owner == name
            for session in clusters[i].sessions
            for found in clusters[i].databases
        )
    ]
    named = [(i, name) for i, name in every if name == product]
    for certainty, some in (
        (Certainty.SEEN, used if len(used) == 1 else []),
        (Certainty.LIKELY, every if len(every) == 1 else []),
        (Certainty.GUESSED, named if len(named) == 1 else []),
    ):
        if some:
            return clusters[some[0][0]], some[0][1], certainty
    return None, owner, Certainty.GUESSED


def make_logical_names(names: Sequence[str], product: str, owner: str) -> dict[str, str]:
    """Strip the common part of the names to obtain the names that releases use."""
    prefixes = [f"{product}_", f"{owner}_", _find_common_prefix(names)]
    for prefix in prefixes:
        if prefix and all(name.startswith(prefix) and name != prefix for name in names):
            return {name.removeprefix(prefix): name for name in names}
    return {name: name for name in names}


def _find_common_prefix(names: Sequence[str]) -> str:
    if len(names) < 2:
        return ""
    letters = itertools.takewhile(lambda same: len(set(same)) == 1, zip(*names, strict=False))
    common = "".join(letter for letter, *_ in letters)
    return common[: common.rfind("_") + 1]


def find_sqlite(files: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return the directory that contains ``live``, and its databases; empty if ambiguous."""
    found: dict[str, dict[str, str]] = {}
    for file in map(PurePosixPath, files):
        above, live = file.parent.parent, file.parent.name
        if above.name == "sets":  # 'live' is already a link into 'sets'
            above, live = above.parent, "live"
        if live == "live" and file.suffix == ".sqlite":
            found.setdefault(str(above), {})[file.stem] = file.stem
    return next(iter(found.items())) if len(found) == 1 else ("", {})


def _choose_unit(
    facts: SiteFacts, product: str, owner: str, named: str
) -> tuple[FoundUnit | None, tuple[FoundUnit, ...], Guess]:
    answering = {get_port(found.url) for found in facts.health}
    same = [unit for unit in facts.units if unit.user == owner or _is_named(unit, product)]
    if named:
        same = [unit for unit in facts.units if unit.name == named]
    working = [unit for unit in same if answering & set(unit.ports)]
    if not same and not named:
        working = [
            unit for unit in facts.units
            if answering & set(unit.ports) and unit.sqlite
        ]  # fmt: skip
    for some, certainty in (
        (working, Certainty.SEEN),
        (same, Certainty.LIKELY),
        ([unit for unit in same if _is_named(unit, product)], Certainty.GUESSED),
    ):
        if len(some) == 1:
            chosen = some[0]
            stem = chosen.name.removesuffix(".service")
            parts = tuple(
                unit for unit in facts.units
                if unit is not chosen and unit.user == chosen.user
                and unit.name.startswith((f"{stem}-", f"{stem}@", f"{product}-"))
            )  # fmt: skip
            return chosen, parts, Guess(UNIT, chosen.name, certainty)
    return None, (), Guess(UNIT, "", Certainty.GUESSED)


def _is_named(unit: FoundUnit, product: str) -> bool:
    return unit.name == f"{product}.service"


def _find_web_server(facts: SiteFacts, health: FoundHealth | None) -> Guess:
    port = get_port(health.url) if health else 0
    found = [
        f"{server.unit.removesuffix('.service')}, {path}"
        for server, path, text in facts.sites
        if port in find_proxied_ports(text)
    ]
    return Guess(WEB_SERVER, "; ".join(found), Certainty.SEEN)


def _describe_disks(facts: SiteFacts, place: str, cluster: Cluster | None) -> Iterator[Guess]:
    """Yield free space for databases and releases, and the method of database copies.

    Args:
        facts: Facts about the machine.
        place: Directory of the databases; empty without databases.
        cluster: Their server; None for SQLite.
    """
    for path in (place, SLOTS):
        if disk := facts.disks.get(path):
            words = N_("{free_bytes} free in {path}; files cannot be cloned")
            if disk.clones:
                words = N_("{free_bytes} free in {path}; files can be cloned")
            values = {"free_bytes": disk.free_bytes, "path": path}
            yield Guess(DISK, LazyText(words, values), Certainty.SEEN)
    if disk := facts.disks.get(place):
        words = N_("full copies")
        if disk.clones and cluster is not None and cluster.major < CLONE_MIN_MAJOR:
            words = N_(
                "full copies; PostgreSQL {major} recommended: clones need almost no space and time"
            )
        elif disk.clones:
            words = N_("clones, with almost no space and time")
        copies = LazyText(words, {"major": CLONE_MIN_MAJOR})
        yield Guess(COPIES, copies, Certainty.LIKELY)


def get_port(url: str) -> int:
    """Return the port of a URL; 0 if it has none; pure."""
    try:
        return urlsplit(url).port or 0
    except ValueError:
        return 0


def find_first_rule(cluster: Cluster, role: str, database: str) -> HbaRule | None:
    """Return the first rule that matches socket logins of a role to a database."""
    groups, seen = {role}, set[str]()
    while groups != seen:
        seen = set(groups)
        groups |= {name for one in seen for name in (cluster.members or {}).get(one, ())}
    users = {"all", role, *(f"+{name}" for name in groups)}
    databases = {"all", database}
    databases |= {"sameuser"} if database == role else set()
    databases |= {"samerole", "samegroup"} if database in groups else set()
    for rule in cluster.rules:
        met = _matches(rule.databases, databases, database) and _matches(rule.users, users, role)
        if met and rule.kind == "local" and not rule.error:
            return rule
    return None


def _matches(names: Sequence[str], plain: set[str], name: str) -> bool:
    """Return whether a column of ``pg_hba.conf`` matches, also by regex (PostgreSQL 16)."""
    with contextlib.suppress(re.error):  # PostgreSQL regexes differ from Python's
        return any(one in plain or (one[:1] == "/" and re.search(one[1:], name)) for one in names)
    return bool(plain.intersection(names))
