"""Setup answers of a person, and the proposal made from what runs on the machine."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, StringConstraints, ValidationError, field_validator

from ncen_updater.agent.config.agent_config import FeedSettings, SiteSettings
from ncen_updater.agent.config.engines import BaseSettings, PhysicalName
from ncen_updater.agent.config.errors import InvalidConfigError
from ncen_updater.agent.config.loader import make_invalid_setting
from ncen_updater.agent.config.raw_config import read_raw_config
from ncen_updater.agent.config.service import WindowSettings
from ncen_updater.agent.config.setting_lines import locate_settings
from ncen_updater.agent.setup.facts import Cluster, FoundHealth, FoundUnit, HbaRule, SiteFacts
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.formats.manifest import Identifier

UserName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_.-]{0,31}$")]


class Certainty(StrEnum):
    """How sure something is."""

    SEEN = "seen"  # it works so now
    LIKELY = "likely"  # one thing fits
    GUESSED = "guessed"  # a name or a default


@dataclass(frozen=True)
class Guess:
    """One thing found.

    Attributes:
        what: For people.
        value: Empty where nothing was found.
        certainty: How sure it is.
        reason: By what.
    """

    what: LazyText
    value: str
    certainty: Certainty
    reason: LazyText


@dataclass(frozen=True)
class SiteProposal:
    """What the site is, as far as it can be seen.

    Attributes:
        engine: ``postgresql`` or ``sqlite``; empty where there are no databases.
        cluster: The server with the application's databases.
        owner: Their owner.
        names: Logical to physical name.
        sqlite_directory: Above ``live``.
        user: The application's system user.
        unit: Its unit; empty where none was found.
        parts: Further units of the same user.
        health: Its address.
        guesses: All of it, for people.
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


SEEN_AT_WORK = LazyText(N_("in use now"))
ONLY_ONE = LazyText(N_("the only one"))
BY_NAME = LazyText(N_("by its name"))
DATABASES, UNIT, HEALTH = (
    LazyText(N_("databases")), LazyText(N_("unit")), LazyText(N_("health URL")),
)  # fmt: skip


def make_proposal(
    facts: SiteFacts, product: str, *, owner: str = "", unit: str = ""
) -> SiteProposal:
    """Decide.

    Args:
        facts: What was seen.
        product: Name of the application.
        owner: Role that a person named.
        unit: Unit that a person named.
    """
    guesses: list[Guess] = []
    cluster, owner, certainty = _choose_databases(facts.clusters, product, owner)
    names: Mapping[str, str] = {}
    engine = directory = ""
    if cluster is not None:
        engine = "postgresql"
        owned = [found.name for found in cluster.databases if found.owner == owner]
        names = make_logical_names(owned, product, owner)
        found = f"{cluster.name}: {', '.join(owned)} ({owner})"
        reason = {Certainty.SEEN: SEEN_AT_WORK, Certainty.LIKELY: ONLY_ONE}.get(certainty, BY_NAME)
        guesses.append(Guess(DATABASES, found, certainty, reason))
    chosen, parts, unit_guess = _choose_unit(facts, product, owner, unit)
    if cluster is None:
        for files, certainty, reason in (
            (chosen.sqlite if chosen else (), Certainty.SEEN, SEEN_AT_WORK),
            (facts.sqlite, Certainty.LIKELY, ONLY_ONE),
        ):
            directory, names = find_sqlite(files)
            if directory:
                engine = "sqlite"
                guesses.append(Guess(DATABASES, directory, certainty, reason))
                break
    guesses.append(unit_guess)
    health = _choose_health(facts.health, chosen)
    certainty = Certainty.SEEN if health else Certainty.GUESSED
    value = f"{health.url}{health.path} ({health.version})" if health else ""
    guesses.append(Guess(HEALTH, value, certainty, SEEN_AT_WORK))
    user = chosen.user if chosen else owner if owner in facts.system_users else ""
    return SiteProposal(
        engine, cluster, owner, names, directory, user, chosen.name if chosen else "",
        tuple(part.name for part in parts), health, tuple(guesses),
    )  # fmt: skip


def _choose_databases(
    clusters: Sequence[Cluster], product: str, owner: str
) -> tuple[Cluster | None, str, Certainty]:
    """Choose by sessions, then where there is one, then by the product's name."""
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
    """Return the names that releases use, by leaving out what all have in common."""
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
    """Return the directory above ``live``, and the databases in it; empty where that is open."""
    found: dict[str, dict[str, str]] = {}
    for file in map(PurePosixPath, files):
        above, live = file.parent.parent, file.parent.name
        if above.name == "sets":  # where 'live' is a link already
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
    for some, certainty, reason in (
        (working, Certainty.SEEN, SEEN_AT_WORK),
        (same, Certainty.LIKELY, ONLY_ONE),
        ([unit for unit in same if _is_named(unit, product)], Certainty.GUESSED, BY_NAME),
    ):
        if len(some) == 1:
            chosen = some[0]
            stem = chosen.name.removesuffix(".service")
            parts = tuple(
                unit for unit in facts.units
                if unit is not chosen and unit.user == chosen.user
                and unit.name.startswith((f"{stem}-", f"{stem}@", f"{product}-"))
            )  # fmt: skip
            return chosen, parts, Guess(UNIT, chosen.name, certainty, reason)
    return None, (), Guess(UNIT, "", Certainty.GUESSED, BY_NAME)


def _is_named(unit: FoundUnit, product: str) -> bool:
    return unit.name == f"{product}.service"


def _choose_health(found: Sequence[FoundHealth], unit: FoundUnit | None) -> FoundHealth | None:
    own = [one for one in found if unit is not None and get_port(one.url) in unit.ports]
    return next(iter(own or found), None)


def get_port(url: str) -> int:
    """Return the port of an address; 0 where it names none; pure."""
    try:
        return urlsplit(url).port or 0
    except ValueError:
        return 0


def find_first_rule(cluster: Cluster, role: str, databases: Sequence[str]) -> HbaRule | None:
    """Return the rule by which a role comes through the socket into the first of its databases."""
    groups = {f"+{name}" for name in (cluster.members or {}).get(role, ())} | {f"+{role}"}
    for rule in cluster.rules:
        if rule.kind != "local" or rule.error:
            continue
        at = {"all", *databases[:1], *(["sameuser"] if databases[:1] == [role] else [])}
        if at & set(rule.databases) and ({"all", role} | groups) & set(rule.users):
            return rule
    return None


class TrustAnswers(BaseSettings):
    """With which root of trust the site begins.

    Attributes:
        root: ``root.json`` as the Secretariat gave it.
        fingerprint: Its SHA-256, as the Secretariat read it out; blanks count for nothing.
    """

    root: Path
    fingerprint: str

    @field_validator("fingerprint")
    @classmethod
    def _require_digest(cls, value: str) -> str:
        digest = re.sub(r"\s", "", value).lower()
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise ValueError("use 64 hexadecimal digits")
        return digest


class PeopleAnswers(BaseSettings):
    """Who may do what: names of accounts of this machine."""

    operators: tuple[UserName, ...] = ()
    approvers: tuple[UserName, ...] = ()


class DatabaseAnswers(BaseSettings):
    """What could not be seen of the databases.

    Attributes:
        engine: Which kind they are.
        host: Directory of PostgreSQL's socket.
        port: Number in its name.
        owner: The application's role.
        user: The agent's role.
        names: Name in the releases to name in the server.
        directory: Of SQLite, above ``live``.
        password_file: For a role that logs in by password.
        bin_directory: Where ``pg_dump`` is.
    """

    engine: Literal["postgresql", "sqlite"] | None = None
    host: str | None = None
    port: Annotated[int, Field(ge=1, le=65_535)] = 5432
    owner: PhysicalName | None = None
    user: PhysicalName = "ncen_updater"
    names: Annotated[dict[Identifier, PhysicalName], Field(default_factory=dict)]
    directory: Path | None = None
    password_file: Path | None = None
    bin_directory: Path | None = None


class SetupAnswers(BaseSettings):
    """``setup.toml``, whole. The table ``[application]`` goes to ``agent.toml`` as it is.

    Attributes:
        version: The release that runs, where the application does not say it.
        windows: Hours in which upgrades may begin.
        required_approvals: How many people have to approve.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: Annotated[Literal[1], Field(alias="schema")]
    site: SiteSettings
    feed: FeedSettings
    trust: TrustAnswers
    people: PeopleAnswers = PeopleAnswers()
    windows: tuple[WindowSettings, ...] = ()
    required_approvals: Annotated[int, Field(ge=1, le=2)] = 1
    version: Annotated[str, StringConstraints(pattern=r"^\d[0-9A-Za-z.+!-]{0,40}$")] | None = None
    databases: DatabaseAnswers = DatabaseAnswers(names={})
    application: Annotated[dict[str, Any], Field(default_factory=dict)]


def load_answers(path: Path) -> SetupAnswers:
    """Read a file with all answers.

    Raises:
        InvalidConfigError: With every mistake, its line and its remedy.
        ConfigError: If it is not there, cannot be read, or is no TOML.
    """
    raw = read_raw_config(path)
    try:
        return SetupAnswers.model_validate(raw.data)
    except ValidationError as error:
        lines = locate_settings(raw.text)
        problems = error.errors(include_url=False)
        mistakes = [make_invalid_setting(item, SetupAnswers, lines) for item in problems]
        raise InvalidConfigError(
            path, sorted(mistakes, key=lambda item: (item.line or 0, item.setting))
        ) from error


def make_answers(given: Mapping[str, Any]) -> SetupAnswers:
    """Return what was asked for one by one.

    Raises:
        InvalidConfigError: With every mistake.
    """
    try:
        return SetupAnswers.model_validate({"schema": 1, **given})
    except ValidationError as error:
        problems = error.errors(include_url=False)
        mistakes = [make_invalid_setting(item, SetupAnswers, {}) for item in problems]
        raise InvalidConfigError(Path("setup.toml"), mistakes) from error
