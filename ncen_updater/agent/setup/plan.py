"""Build the steps of a setup from the proposal and the answers."""

from __future__ import annotations

import contextlib
import dataclasses
import grp
import hashlib
import os
import pwd
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncen_updater.agent.adapters.application.health import HealthProber
from ncen_updater.agent.adapters.application.health_result import HealthExpectation
from ncen_updater.agent.adapters.databases.postgresql.connection import ADMITS
from ncen_updater.agent.config.agent_config import AgentConfig, ApplicationSettings
from ncen_updater.agent.config.engines import PostgresSettings
from ncen_updater.agent.config.errors import InvalidConfigError
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.config.raw_config import find_secrets
from ncen_updater.agent.setup.adoption_step import AdoptStep, DownloadStep, is_plain
from ncen_updater.agent.setup.answers import DatabaseAnswers, SetupAnswers
from ncen_updater.agent.setup.facts import Cluster, SiteFacts, find_proxied_ports, survey_cluster
from ncen_updater.agent.setup.machine import QUICK_LIMIT_S, Machine, find_server
from ncen_updater.agent.setup.proof_steps import MAX_TRIAL_BYTES, PageStep, TrialCopyStep
from ncen_updater.agent.setup.proposal import Guess, SiteProposal, find_first_rule, get_port
from ncen_updater.agent.setup.server_files import make_login_lines, put_first
from ncen_updater.agent.setup.steps import (
    CommandStep,
    FileStep,
    MembersStep,
    RoleStep,
    ServerStep,
    SetupStep,
    decode,
    require_directory,
    try_role,
)
from ncen_updater.agent.setup.unit_files import RestartStep, list_paths, make_unit_drop_in
from ncen_updater.common.bounded_io import parse_json, read_file
from ncen_updater.common.cli.render import format_fingerprint
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText, join_texts
from ncen_updater.common.messages import (
    DATABASE_CLOSED,
    SETUP_ACCOUNT_MISSING,
    SETUP_FINGERPRINT_MISMATCH,
    SETUP_GROUP_MISSING,
    SETUP_LOGINS_DIFFER,
    SETUP_NOT_FOUND,
    SETUP_ROOT_UNUSABLE,
    SETUP_VERSION_UNKNOWN,
)
from ncen_updater.common.toml_writer import quote_value, render_toml

ROLE_GROUPS = ("pg_signal_backend", "pg_read_all_settings", "pg_read_all_stats")
MAINTENANCE_FILE = "run/ncen/maintenance"
RESUME_UNIT, SERVICE_UNIT = "ncen-updater-resume.service", "ncen-updater.service"
UNIT_DROP_IN = "50-ncen-updater.conf"
TMPFILES = "/usr/lib/tmpfiles.d/ncen-updater.conf"
HEADING = "Made by 'ncen-updater setup'. Every setting: docs/reference/configuration.md"
MAX_ROOT_BYTES = 1_000_000
#: SQLSTATE of a successful login.
LET_IN = "00000"
#: Methods by which root can log in as the application's role without a password; empty: no rule.
OPEN_METHODS = ("peer", "trust", "")


@dataclass(frozen=True)
class SetupPlan:
    """Plan of a setup.

    Attributes:
        steps: Steps in order.
        config: The resulting configuration.
        fingerprint: Fingerprint of the root of trust, in words and in hexadecimal.
        by_hand: Tasks that the operator has to do.
        guesses: Findings with their certainty.
    """

    steps: tuple[SetupStep, ...]
    config: AgentConfig
    fingerprint: str
    by_hand: tuple[LazyText, ...] = ()
    guesses: tuple[Guess, ...] = ()


def read_trusted_root(path: Path) -> tuple[bytes, str]:
    """Return a trusted root and its digest.

    Raises:
        SETUP_ROOT_UNUSABLE: If the file is unreadable or not a valid root.
    """
    try:
        content = read_file(path, MAX_ROOT_BYTES)
        if parse_json(content)["signed"]["_type"] != "root":
            raise ValueError
    except OSError as error:
        reason: object = error.strerror or str(error)
        raise UpdaterError(SETUP_ROOT_UNUSABLE, path=path, reason=reason) from error
    except (ValueError, LookupError, TypeError) as error:
        reason = LazyText(N_("not a root of TUF"))
        raise UpdaterError(SETUP_ROOT_UNUSABLE, path=path, reason=reason) from error
    return content, hashlib.sha256(content).hexdigest()


def build_plan(
    machine: Machine,
    facts: SiteFacts,
    found: SiteProposal,
    answers: SetupAnswers,
    config: Path,
    *,
    source: Path | None = None,
    keep_unit: bool = False,
) -> SetupPlan:
    """Build the plan; changes nothing.

    Args:
        machine: The machine.
        facts: Facts about the machine.
        found: Proposal derived from them.
        answers: Answers of the operator.
        config: Path of the future ``agent.toml``.
        source: File of the answers, named in errors.
        keep_unit: Whether the application's unit remains unchanged.

    Raises:
        SETUP_NOT_FOUND: If a value is neither detected nor given; names the missing setting.
        SETUP_FINGERPRINT_MISMATCH: If the fingerprint does not match the root of trust.
        SETUP_FILE_UNSAFE: If setup could not write to a directory.
        SETUP_ACCOUNT_MISSING: If an account does not exist.
        SETUP_GROUP_MISSING: If a group does not exist.
        SETUP_VERSION_UNKNOWN: If the application does not report its version.
        InvalidConfigError: If ``[application]`` of the answers is wrong.
    """
    if not (found.engine or answers.databases.engine):
        for error in facts.refused:  # this server may hold the databases
            raise error
    root_bytes, digest = read_trusted_root(answers.trust.root)
    if not digest.startswith(answers.trust.fingerprint):
        raise UpdaterError(SETUP_FINGERPRINT_MISMATCH, path=answers.trust.root)
    tables = make_config_tables(machine, found, answers)
    text = render_toml({"schema": 1, **tables}, HEADING)
    loaded = _check_config(text, source or config)
    trusted = loaded.paths.resolve(loaded.paths.trusted_root)
    for directory in (trusted.parent, config.parent, *loaded.list_written_directories()):
        require_directory(directory)
    version = answers.version
    if version is None and not answers.feed.offline:
        version = read_version(loaded.application)
    by_hand: list[LazyText] = []
    steps: list[SetupStep] = []
    has_login = True
    if found.cluster is not None:
        names = list(loaded.databases.names.values())
        agent, user = answers.databases.user, loaded.application.user
        steps += open_databases(found.cluster, found.owner, names, agent, user)
        method, _ = _find_login_method(found.cluster, found.owner, names)
        has_login = method in OPEN_METHODS or answers.databases.password_file is not None
        if not has_login:
            words = N_(
                "Write '*:*:*:{role}:PASSWORD' to a file with mode 0600, and set password_file in"
                " {path}; otherwise there is no rehearsal (NU-4164)"
            )
            by_hand.append(LazyText(words, {"role": found.owner, "path": config}))
    has_tmpfiles = Path(TMPFILES).exists() and machine.root == Path("/")
    if machine.has_systemd():
        steps.append(CommandStep(backward=(("systemctl", "daemon-reload"),)))
    # Quoted as in the file; longest first, because one secret may contain another.
    secrets = sorted((quote_value(text)[1:-1] for text in find_secrets(tables)), key=len)
    steps += [
        _file(trusted, decode(root_bytes)),
        _file(config, text, mode=0o640, hidden=secrets[::-1]),
    ]
    if has_tmpfiles:
        steps.append(CommandStep((("systemd-tmpfiles", "--create", "ncen-updater.conf"),)))
    if machine.has_systemd():
        steps += _join_units(machine, loaded)
    steps += _add_maintenance_page(machine, facts, loaded, by_hand)
    steps += _add_members(facts, answers, loaded)
    size = _measure_databases(found, loaded)
    steps += _adopt(
        machine, loaded, config, version, by_hand, confirmed=answers.version is not None,
        with_copy=has_login and size <= MAX_TRIAL_BYTES, keep_unit=keep_unit,
    )  # fmt: skip
    if machine.has_systemd():
        start, stop = ("systemctl", "start", SERVICE_UNIT), ("systemctl", "stop", SERVICE_UNIT)
        steps.append(CommandStep((start,), (stop,)))
    return SetupPlan(
        tuple(steps), loaded, format_fingerprint(digest), tuple(by_hand), found.guesses
    )


# ---- agent.toml ----------------------------------------------------------------------------------


def make_config_tables(
    machine: Machine, found: SiteProposal, answers: SetupAnswers
) -> dict[str, Any]:
    """Return the tables of ``agent.toml``.

    Raises:
        SETUP_NOT_FOUND: If a value is neither detected nor given.
    """
    databases, given = _make_database_table(found, answers.databases), answers.application
    application = {"maintenance_file": MAINTENANCE_FILE, **given}
    if found.user and found.user != "root":
        application.setdefault("user", found.user)
    if application.get("adapter", "systemd") == "systemd":
        _require(bool(found.unit or given.get("unit")), N_("unit of the application"),
                 "application.unit")  # fmt: skip
        application.setdefault("unit", found.unit)
        if found.parts and "parts" not in application:
            application["parts"] = [
                {"name": part.removesuffix(".service"), "unit": part} for part in found.parts
            ]
    if found.health is not None:
        application.setdefault("health_url", found.health.url)
        application.setdefault("health_path", found.health.path)
    _require("health_url" in application, N_("health URL"), "application.health_url")
    packaged = machine.has_systemd()
    dump = answers.model_dump(mode="json", exclude_unset=True)
    tables: dict[str, Any] = {"site": dump["site"]}
    paths = {"feed_state": "var/lib/ncen-updater/received"} if packaged else {}
    if machine.root != Path("/"):
        paths = {"root": str(machine.root), **paths}
    service: dict[str, Any] = {"runner": "systemd"} if packaged else {}
    if answers.required_approvals != 1:
        service["required_approvals"] = answers.required_approvals
    if answers.windows:
        service["windows"] = [
            {
                **({"days": list(window["days"])} if "days" in window else {}),
                "start": str(window["start"])[:5],
                "end": str(window["end"])[:5],
            }
            for window in dump["windows"]
        ]
    tables |= {"paths": paths} if paths else {}
    tables |= {"feed": dump["feed"], "databases": databases, "application": application}
    return tables | ({"service": service} if service else {})


def _make_database_table(found: SiteProposal, given: DatabaseAnswers) -> dict[str, Any]:
    """Return the table ``[databases]``.

    Raises:
        SETUP_NOT_FOUND: If a value is neither detected nor given.
    """
    names = dict(given.names or found.names)
    engine = given.engine or found.engine
    what = N_("databases of the application")
    if given.owner:
        what = N_("databases of the role {owner}")
    seen = _list_databases(found)
    _require(bool(engine and names), what, "databases.owner", detail=seen, owner=given.owner)
    if engine == "postgresql":
        cluster = found.cluster
        _require(cluster is not None, N_("PostgreSQL server"), "databases.host")
        assert cluster is not None  # noqa: S101 - required
        there = {database.name for database in cluster.databases}
        for name in names.values():
            if name in cluster.closed:
                remedy = LazyText(DATABASE_CLOSED.remedy, {"database": name})
                raise cluster.address.make_refusal(remedy)
            _require(
                name in there, N_("database {name}"), "databases.names", detail=seen, name=name
            )
        own = {
            "host": cluster.address.host,
            "port": cluster.address.port,
            "user": given.user,
            "owner": found.owner,
        }
        for name in ("password_file", "bin_directory"):
            if (value := getattr(given, name)) is not None:
                own[name] = str(value)
    else:
        directory = given.directory or found.sqlite_directory
        _require(bool(directory), N_("directory of the SQLite databases"), "databases.directory")
        own = {"directory": str(directory)}
    return {"engine": engine, "names": names, engine: own}


def _list_databases(found: SiteProposal) -> LazyText | None:
    names = ", ".join(f"{one.name} ({one.owner})" for one in found.databases)
    words = N_("Databases on this server, with their owners: {names}")
    return LazyText(words, {"names": names}) if names else None


def _require(
    is_known: bool, what: str, setting: str, *, detail: LazyText | None = None, **values: object
) -> None:
    if not is_known:
        shown = LazyText(what, values)
        raise UpdaterError(SETUP_NOT_FOUND, what=shown, setting=setting, detail=detail)


def require_account(name: str, setting: str) -> None:
    """Refuse an account that does not exist on this machine.

    Args:
        name: The account.
        setting: The setting that names it.

    Raises:
        SETUP_ACCOUNT_MISSING: If it does not exist.
    """
    try:
        pwd.getpwnam(name)
    except KeyError as error:
        detail = None
        with contextlib.suppress(KeyError):
            grp.getgrnam(name)
            words = N_("{name} is a group; name the accounts of its members.")
            detail = LazyText(words, {"name": name})
        raise UpdaterError(
            SETUP_ACCOUNT_MISSING, name=name, setting=setting, detail=detail
        ) from error


def read_version(settings: ApplicationSettings) -> str:
    """Return the version that the application reports.

    Raises:
        SETUP_VERSION_UNKNOWN: If it reports none or is unhealthy.
    """
    prober = HealthProber(settings)
    version = prober.check_health(HealthExpectation("")).reported.get(settings.version_field)
    seen = prober.check_health(HealthExpectation(str(version or "")))
    if not (version and seen):
        raise UpdaterError(
            SETUP_VERSION_UNKNOWN, url=f"{settings.health_url}{settings.health_path}",
            detail=join_texts(seen.problems, "; "),
        )  # fmt: skip
    return str(version)


def _check_config(text: str, config: Path) -> AgentConfig:
    """Validate the configuration before it is written.

    Raises:
        InvalidConfigError: If settings are wrong; without line numbers, as the file does not exist.
    """
    descriptor = os.memfd_create("agent.toml")
    try:
        os.write(descriptor, text.encode())
        os.fchmod(descriptor, 0o600)
        return load_config(Path(f"/proc/self/fd/{descriptor}"))
    except InvalidConfigError as error:
        mistakes = [dataclasses.replace(one, line=None) for one in error.invalid_settings]
        raise InvalidConfigError(config, mistakes) from error
    finally:
        os.close(descriptor)


# ---- PostgreSQL ----------------------------------------------------------------------------------


def open_databases(
    cluster: Cluster, owner: str, names: Sequence[str], agent: str, user: str | None
) -> Iterator[SetupStep]:
    """Yield the steps that give the agent access; no ``pg_hba.conf`` lines if ``trust`` applies.

    Args:
        cluster: The server.
        owner: Role of the application.
        names: Databases that the agent will upgrade.
        agent: Role of the agent.
        user: System user of the application.
    """
    # Setup changes the logins of this role: a role in use would be locked out.
    superuser = cluster.address.superuser
    what = N_("role of the agent, which must be neither {owner} nor {superuser}")
    _require(
        agent not in (owner, superuser), what, "databases.user", owner=owner, superuser=superuser
    )
    control = str(PostgresSettings.model_fields["control_database"].default)
    if cluster.owners.get(control, agent) != agent:
        words = N_(
            "Database {name}, which ncen-updater creates, belongs to role {owner}. If no other"
            ' site uses it, run as superuser: ALTER DATABASE "{name}" RENAME TO "{name}_old";'
        )
        values = {"name": control, "owner": cluster.owners[control]}
        raise cluster.address.make_refusal(LazyText(words, values))
    server = dataclasses.asdict(cluster.address)
    yield RoleStep(server, agent, (owner, *ROLE_GROUPS))
    for broken in (rule for rule in cluster.rules if rule.error):
        detail = f"{cluster.hba_file}, line {broken.line}: {broken.error}"
        raise cluster.address.make_refusal(detail)
    agents = find_first_rule(cluster, agent, "postgres")
    if agents is not None and agents.method == "trust":
        return
    used = [*names, *(one.name for one in cluster.databases if one.owner == owner)]
    used += [session.database for session in cluster.sessions if session.role == owner]
    used = list(dict.fromkeys(used))
    method, options = _find_login_method(cluster, owner, used)
    lines = make_login_lines(agent, owner, method, options, user=pwd.getpwuid(os.geteuid()).pw_name)
    working = list(_find_working_logins(cluster, owner, used, user))
    own = [[agent, None, "postgres", LET_IN]]
    own += [[owner, None, name, LET_IN] for name in names if method in OPEN_METHODS]
    identity = [cluster.address.uid, cluster.address.gid]
    yield ServerStep(server, working, before_files=True)
    for path, added in ((cluster.ident_file, lines.ident), (cluster.hba_file, lines.hba)):
        step = FileStep(path, "", "", identity=identity)
        before = decode(step.read() or b"")
        yield dataclasses.replace(step, original=before, content=put_first(before, added))
    yield ServerStep(server, [*working, *own], before_files=False)


def _find_login_method(
    cluster: Cluster, owner: str, databases: Sequence[str]
) -> tuple[str, tuple[str, ...]]:
    """Return method and options of a role's socket logins to its databases.

    Raises:
        SETUP_LOGINS_DIFFER: If they differ between databases: one new line for all databases would
            change the login of at least one.
    """
    rules = {name: find_first_rule(cluster, owner, name) for name in databases}
    found = {name: (one.method, one.options) if one else ("", ()) for name, one in rules.items()}
    if len(set(found.values())) > 1:
        shown = [f"{name} ({' '.join((way, *more)) or '-'})" for name, (way, more) in found.items()]
        raise UpdaterError(SETUP_LOGINS_DIFFER, role=owner, databases=", ".join(shown))
    return next(iter(found.values()))


def _find_working_logins(
    cluster: Cluster, owner: str, databases: Sequence[str], user: str | None
) -> Iterator[list[str | None]]:
    """Try the application's socket logins and yield those that work."""
    tried = {(owner, database): None for database in databases}
    tried |= {(one.role, one.database): None for one in cluster.sessions if one.by_socket}
    for role, database in tried:
        for name in dict.fromkeys((user, role)):
            if name is not None:
                code, _ = try_role(cluster.address, role, name, database)
                if code in ADMITS:
                    yield [role, name, database, code]


# ---- files, units, accounts ----------------------------------------------------------------------


def _file(path: Path, content: str, *, mode: int = 0o644, hidden: Sequence[str] = ()) -> FileStep:
    step = FileStep(str(path), content, mode=mode, hidden=hidden)
    before = step.read()
    return dataclasses.replace(step, original=None if before is None else decode(before))


def _join_units(machine: Machine, config: AgentConfig) -> Iterator[SetupStep]:
    """Yield steps that make the application's units start after the resume unit."""
    names = [one.unit for one in (config.application, *config.application.parts) if one.unit]
    for name in names:
        shown = machine.run(("systemctl", "cat", name), QUICK_LIMIT_S)
        _require(shown.status == 0, N_("unit {name}"), "application.unit", name=name)
    names = [name for name in names if name != "ncen.service"]
    again: tuple[tuple[str, ...], ...] = (("systemctl", "daemon-reload"),)
    if names:
        units = " ".join(names)
        place = machine.path(f"/etc/systemd/system/{RESUME_UNIT}.d/setup.conf")
        again = (*again, ("systemctl", "reenable", RESUME_UNIT))
        yield CommandStep(backward=again)
        yield _file(place, f"[Unit]\nBefore={units}\n\n[Install]\nRequiredBy={units}\n")
    yield CommandStep(again)


def _start_from_current(
    machine: Machine,
    config: AgentConfig,
    config_path: Path,
    version: str | None,
    by_hand: list[LazyText],
    keep_unit: bool,
) -> Iterator[SetupStep]:
    """Yield steps that start the unit from ``current``; add a manual task if that is unclear."""
    unit, current = config.application.unit, str(config.paths.resolve(config.paths.current))
    if unit is None:
        words = N_("Let the command 'start' of the application start what {current} leads to")
        by_hand.append(LazyText(words, {"current": current}))
        return
    shown = machine.run(("systemctl", "cat", unit, "--no-pager"), QUICK_LIMIT_S)
    addition = make_unit_drop_in(shown.output, current) if shown.status == 0 else None
    if addition == "":
        return
    if addition is None or keep_unit or version is None or config.feed.offline:
        words = N_("Let {unit} start {current}: sudo systemctl edit --full {unit}")
        by_hand.append(LazyText(words, {"unit": unit, "current": current}))
        return
    paths = list_paths(addition, current)
    yield RestartStep(str(config_path), version, unit, paths, before_files=True)
    yield _file(machine.path(f"/etc/systemd/system/{unit}.d/{UNIT_DROP_IN}"), addition)
    yield RestartStep(str(config_path), version, unit, paths, before_files=False)


def _add_maintenance_page(
    machine: Machine, facts: SiteFacts, config: AgentConfig, by_hand: list[LazyText]
) -> Iterator[SetupStep]:
    """Yield the edits of the web server; add a manual task if its file is not understood."""
    file = config.paths.resolve(config.application.maintenance_file)
    port = get_port(config.application.health_url)
    sites = [site for site in facts.sites if port in find_proxied_ports(site[2])]
    if len(sites) == 1:
        ((server, name, text),) = sites
        changed = server.add_maintenance_page(text, port, str(file))
        if changed == text:
            return
        if changed is not None:
            reload = (server.test, ("systemctl", "reload", server.unit))
            yield CommandStep(reload[:1])  # the web server's files were broken before
            yield CommandStep(backward=reload)
            for path, content in server.added:
                yield _file(machine.path(path), content.replace("FILE", str(file)))
            yield FileStep(name, changed, text)
            yield CommandStep(reload)
            if front := server.find_front(text, port):
                yield PageStep(dataclasses.asdict(front), str(file))
            return
    by_hand.append(
        LazyText(
            N_("Let the web server show the maintenance page while {path} exists"), {"path": file}
        )
    )


def _add_members(
    facts: SiteFacts, answers: SetupAnswers, config: AgentConfig
) -> Iterator[SetupStep]:
    people, service = answers.people, config.service
    everybody = tuple(dict.fromkeys((*people.operators, *people.approvers)))
    for setting, users in (
        ("people.operators", people.operators),
        ("people.approvers", people.approvers),
        ("application.user", filter(None, [config.application.user])),
    ):
        for user in users:
            require_account(user, setting)
    for group, users in (
        (service.viewer_group, everybody),
        (service.operator_group, people.operators),
        (service.approver_group, people.approvers),
    ):
        if users and group not in facts.groups:
            raise UpdaterError(SETUP_GROUP_MISSING, name=group)
        if users:
            yield MembersStep(group, users)


def _adopt(
    machine: Machine,
    config: AgentConfig,
    path: Path,
    version: str | None,
    by_hand: list[LazyText],
    *,
    confirmed: bool,
    with_copy: bool,
    keep_unit: bool,
) -> Iterator[SetupStep]:
    """Yield the adoption, a trial copy, and the restart from the adopted release."""
    starting: list[SetupStep] = []
    if machine.has_systemd():
        starting += _start_from_current(machine, config, path, version, by_hand, keep_unit)
    if config.feed.offline or version is None:
        words = N_("Import the installed release, then run: sudo ncen-updater adopt {version}")
        by_hand.append(LazyText(words, {"version": version or "VERSION"}))
        return
    copying = [TrialCopyStep(str(path), version)] * with_copy
    if machine.has_systemd() and config.application.unit and is_plain(config):
        yield from _adopt_stopped(config, path, version, starting)
        yield from copying
    else:
        yield AdoptStep(str(path), version, confirmed)
        yield from copying
        if starting:
            # The application's unit requires it. Started only by the restart, it would prolong the
            # downtime, and its failure would keep the application stopped.
            yield CommandStep((("systemctl", "start", RESUME_UNIT),))
        yield from starting


def _adopt_stopped(
    config: AgentConfig, path: Path, version: str, starting: Sequence[SetupStep]
) -> Iterator[SetupStep]:
    """Yield the adoption of SQLite files; it moves them, so the application is stopped.

    Its parts start last, in either direction: a part that requires the unit would start it, too,
    and users would be let in before the restart.
    """
    unit = str(config.application.unit)
    parts = [str(part.unit) for part in config.application.parts if part.unit]
    stop = (("systemctl", "stop", "--", *parts, unit),)
    start = (("systemctl", "start", "--", *parts),)
    yield DownloadStep(str(path), version)
    if parts:
        yield CommandStep(backward=start)
    yield RestartStep(str(path), version, unit, [], before_files=True)
    yield CommandStep(stop)
    yield AdoptStep(str(path), version, confirmed=True)
    yield CommandStep(backward=stop)
    yield from starting[1:] or [RestartStep(str(path), version, unit, [], before_files=False)]
    if parts:
        yield CommandStep(start)


def _measure_databases(found: SiteProposal, config: AgentConfig) -> int:
    """Return the total size of the databases in bytes."""
    directory, names = config.databases.engine_settings.local_directory, config.databases.names
    if directory is not None:
        return sum(path.stat().st_size for path in (directory / "live").glob("*.sqlite"))
    databases = found.cluster.databases if found.cluster else ()
    return sum(one.size_bytes for one in databases if one.name in names.values())


def name_cluster(answers: SetupAnswers) -> Cluster | None:
    """Return the server given by the operator; None if none was given.

    Raises:
        SETUP_NOT_FOUND: If no server listens there.
    """
    host, port = answers.databases.host, answers.databases.port
    if host is None:
        return None
    address = find_server(host, port)
    _require(
        address is not None, N_("PostgreSQL server at {host}, port {port}"),
        "databases.host", host=host, port=port,
    )  # fmt: skip
    assert address is not None  # noqa: S101 - required
    return survey_cluster(address)
