"""Steps of a setup: each can be previewed, done and undone; both are idempotent.

A step is plain data, so that another process can resume the setup after a power cut. ``capture``
records the previous state, which is on the disk before ``do`` begins.

Steps are undone in reverse order. A server must reload after files change in either direction, so
the plan holds a :class:`ServerStep` or :class:`CommandStep` before and after the steps that change
the files: one of them acts only on undo, the other only on do.
"""

from __future__ import annotations

import base64
import contextlib
import difflib
import errno
import grp
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from psycopg.conninfo import make_conninfo

from ncen_updater.agent.adapters.databases.postgresql.connection import (
    ask_sqlstate,
    quote_identifier,
    quote_literal,
)
from ncen_updater.agent.adapters.databases.postgresql.roles import try_login
from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.engine.site_factory import build_site
from ncen_updater.agent.reports.diagnostics.access_checks import read_permissions
from ncen_updater.agent.setup.machine import Machine, ServerAddress, acting_as
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import read_file
from ncen_updater.common.cli.usage import NOTHING_CHANGED
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    SETUP_FILE_CHANGED,
    SETUP_FILE_UNSAFE,
    SETUP_LOGIN_BROKEN,
)

MAX_BYTES = 1_000_000
#: Directory below the state directory.
RECORD_DIRECTORY = "setup"
LOGIN_LIMIT_S, RELOAD_LIMIT_S = 10.0, 20.0
Before = dict[str, Any]
KINDS: dict[str, type[SetupStep]] = {}


@dataclass(frozen=True)
class SetupStep:
    """Base class of all steps."""

    kind: ClassVar[str]

    def __init_subclass__(cls, kind: str = "") -> None:
        """Register the class under the name used in records; a base class has none."""
        cls.kind = kind
        if kind:
            KINDS[kind] = cls

    def to_record(self) -> dict[str, Any]:
        """Serialise the step to JSON data."""
        return {"kind": self.kind, **asdict(self)}

    @property
    def title(self) -> LazyText:
        """Return a short description."""
        raise NotImplementedError

    def preview(self) -> Sequence[str]:
        """Return lines that show the exact effect."""
        return ()

    def capture(self, machine: Machine) -> Before:
        """Record the previous state; raise if the plan no longer matches it."""
        return {}

    def do(self, machine: Machine, before: Before) -> None:
        """Run the step, or the rest of it after an interruption."""

    def check_undo(self, machine: Machine, before: Before) -> None:
        """Raise if the undo would destroy later changes of others."""

    def undo(self, machine: Machine, before: Before) -> None:
        """Undo the step, also if it ran only in part."""


@dataclass(frozen=True)
class SiteStep(SetupStep):
    """Base class of steps that use the configured site.

    Attributes:
        config: Path of the configuration.
        version: Version of the release that runs.
    """

    config: str
    version: str

    def load_config(self) -> AgentConfig:
        """Return the configuration."""
        return load_config(Path(self.config), check_disk=False)

    def build_site(self) -> Site:
        """Return the site."""
        return build_site(self.load_config(), Path(self.config))


def load_step(record: Mapping[str, Any]) -> SetupStep:
    """Build a step from its record."""
    values = dict(record)
    return KINDS[values.pop("kind")](**values)


# ---- files ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileStep(SetupStep, kind="file"):
    """Write a file with exactly this content.

    Attributes:
        path: Path of the file.
        content: Complete content as text.
        original: Content when the plan was built; None if there was no file.
        mode: Mode of a new file.
        identity: User and group that own the file and write it.
        hidden: Secrets that the preview masks.
    """

    path: str
    content: str
    original: str | None = None
    mode: int = 0o644
    identity: Sequence[int] | None = None
    hidden: Sequence[str] = ()

    @property
    def title(self) -> LazyText:
        """See :class:`SetupStep`."""
        return LazyText(
            N_("write {path}") if self.original is None else N_("change {path}"),
            {"path": self.path},
        )

    def preview(self) -> Sequence[str]:
        """See :class:`SetupStep`."""
        old, new = (self.original or "").splitlines(), self.content.splitlines()
        source = "/dev/null" if self.original is None else self.path
        lines = list(difflib.unified_diff(old, new, source, self.path, lineterm=""))
        for secret in self.hidden:
            lines = [line.replace(secret, "***") for line in lines]
        return lines

    @property
    def _as_user(self) -> tuple[int, int] | None:
        return None if self.identity is None else (self.identity[0], self.identity[1])

    def read(self) -> bytes | None:
        """Return the current content; None if there is no file.

        Raises:
            SETUP_FILE_UNSAFE: If another user controls the path.
        """
        path = Path(self.path)
        try:
            with acting_as(self._as_user):
                found = read_permissions(path)
                if found is None:
                    return None
                owners = {os.geteuid()} if self.identity is None else {self.identity[0]}
                problem: object = found.describe_problem(frozenset(owners))
                if problem is None:
                    return read_file(path, MAX_BYTES)
        except OSError as error:
            problem = error.strerror or str(error)
        raise UpdaterError(SETUP_FILE_UNSAFE, path=path, reason=problem)

    def capture(self, machine: Machine) -> Before:
        """See :class:`SetupStep`."""
        content, path = self.read(), Path(self.path)
        if content != (None if self.original is None else encode(self.original)):
            raise UpdaterError(SETUP_FILE_CHANGED, path=path)
        missing = find_missing(path.parent)
        if content is None:
            return {"missing": missing}
        found = path.lstat()
        return {
            "missing": missing,
            "content": base64.b64encode(content).decode(),
            "mode": stat.S_IMODE(found.st_mode),
            "owner": [found.st_uid, found.st_gid],
        }

    def do(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`."""
        path = Path(self.path)
        mode, owner = before.get("mode", self.mode), before.get("owner")
        with acting_as(self._as_user):
            durable.make_directory(path.parent, exactly=bool(before["missing"]))
            replace_file(path, encode(self.content), mode, owner)

    def check_undo(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`."""
        now = self.read()
        if now not in (encode(self.content), _get_content(before)):
            raise UpdaterError(SETUP_FILE_CHANGED, path=self.path)

    def undo(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`."""
        self.check_undo(machine, before)
        path, content = Path(self.path), _get_content(before)
        unchanged = self.read() == content
        with acting_as(self._as_user):
            remove_partial_files(path)
            if content is None:
                durable.remove_file(path)
            elif not unchanged:
                replace_file(path, content, before["mode"], before["owner"])
            remove_directories(before["missing"])


def find_missing(*directories: Path) -> list[str]:
    """Return the missing directories, with their missing parents, innermost first."""
    places = {place for one in directories for place in (one, *one.parents)}
    return sorted((str(place) for place in places if not place.exists()), reverse=True)


def require_directory(path: Path) -> None:
    """Refuse a directory that setup could not write to; it may be missing.

    Raises:
        SETUP_FILE_UNSAFE: If it, or the parent that would hold it, is no directory or read-only.
    """
    there = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if there.is_dir():
        if not os.statvfs(there).f_flag & os.ST_RDONLY:
            return
        reason: object = os.strerror(errno.EROFS)
    elif there.is_symlink():
        target = {"target": there.readlink()}
        reason = LazyText(N_("link to {target}, which is no directory"), target)
    else:
        reason = os.strerror(errno.ENOTDIR)
    raise UpdaterError(SETUP_FILE_UNSAFE, state=NOTHING_CHANGED, path=there, reason=reason)


def remove_directories(places: Sequence[str]) -> None:
    """Remove directories, except those that are not empty."""
    for place in places:
        with contextlib.suppress(OSError):
            Path(place).rmdir()


@contextlib.contextmanager
def create_flag_file(path: Path, missing: Sequence[str]) -> Iterator[None]:
    """Keep an empty file inside the block; ``missing`` are directories to remove after it."""
    durable.make_directory(path.parent, exactly=bool(missing))
    durable.write_file(path, b"")
    try:
        yield
    finally:
        remove_flag_file(path, missing)


def remove_flag_file(path: Path, missing: Sequence[str]) -> None:
    """Remove a file of :func:`create_flag_file`, also after an interruption."""
    remove_partial_files(path)
    path.unlink(missing_ok=True)
    remove_directories(missing)


def encode(text: str) -> bytes:
    """Encode a text that :func:`decode` returned; bytes that are not UTF-8 are preserved."""
    return text.encode("utf-8", "surrogateescape")


def decode(content: bytes) -> str:
    """Decode bytes without loss, for :func:`encode`."""
    return content.decode("utf-8", "surrogateescape")


def _get_content(before: Before) -> bytes | None:
    return base64.b64decode(before["content"]) if "content" in before else None


def replace_file(path: Path, content: bytes, mode: int, owner: Sequence[int] | None) -> None:
    """Replace a file atomically and set its mode and owner."""
    remove_partial_files(path)
    with durable.open_for_replace(path, 0o600) as stream:
        stream.write(content)
        if owner is not None and list(owner) != [os.geteuid(), os.getegid()]:
            os.fchown(stream.fileno(), owner[0], owner[1])
        os.fchmod(stream.fileno(), mode)


def remove_partial_files(path: Path) -> None:
    """Remove temporary files of an interrupted write."""
    with contextlib.suppress(OSError):
        for beside in path.parent.glob(f".{path.name}{durable.PARTIAL_PREFIX}*"):
            beside.unlink(missing_ok=True)


# ---- PostgreSQL ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class RoleStep(SetupStep, kind="role"):
    """Create the agent's role and make it a member of other roles.

    Attributes:
        server: The server.
        agent: The agent's role.
        groups: Roles of which it becomes a member.
    """

    server: Mapping[str, Any]
    agent: str
    groups: Sequence[str]

    @property
    def title(self) -> LazyText:
        """See :class:`SetupStep`."""
        return LazyText(N_("create the database role {role}"), {"role": self.agent})

    def preview(self) -> Sequence[str]:
        """See :class:`SetupStep`."""
        return (self._create, self._grant(self.groups))

    @property
    def _create(self) -> str:
        return f"CREATE ROLE {quote_identifier(self.agent)} LOGIN CREATEDB;"

    def _grant(self, groups: Sequence[str]) -> str:
        names = ", ".join(map(quote_identifier, groups))
        return f"GRANT {names} TO {quote_identifier(self.agent)};"

    def _look(self) -> tuple[bool, list[str]]:
        named = quote_literal(self.agent)
        role, groups = ServerAddress(**self.server).query(
            [
                f"SELECT 1 FROM pg_roles WHERE rolname = {named}",  # noqa: S608 - quoted
                "SELECT g.rolname FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid"  # noqa: S608
                f" JOIN pg_roles m ON m.oid = a.member WHERE m.rolname = {named}",
            ]
        )
        return bool(role), [name for (name,) in groups]

    def capture(self, machine: Machine) -> Before:
        """See :class:`SetupStep`."""
        existed, groups = self._look()
        return {"existed": existed, "groups": groups}

    def do(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`."""
        exists, groups = self._look()
        missing = [name for name in self.groups if name not in groups]
        statements = [] if exists else [self._create]
        statements += [self._grant(missing)] if missing else []
        ServerAddress(**self.server).query(statements)

    def undo(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`."""
        exists, groups = self._look()
        if not exists:
            return
        role = quote_identifier(self.agent)
        added = [name for name in self.groups if name in groups and name not in before["groups"]]
        statements = []
        if added:
            statements.append(f"REVOKE {', '.join(map(quote_identifier, added))} FROM {role}")
        if not before["existed"]:
            statements.append(f"DROP ROLE {role}")
        ServerAddress(**self.server).query(statements)


@dataclass(frozen=True)
class ServerStep(SetupStep, kind="server"):
    """Reload the server and require that every login that worked before still works.

    Attributes:
        server: The server.
        logins: Role, system user (None: the agent's), database, expected SQLSTATE.
        before_files: Whether the step precedes the file changes; then it only tests the logins, and
            reloads the server on undo.
    """

    server: Mapping[str, Any]
    logins: Sequence[Sequence[str | None]]
    before_files: bool

    @property
    def title(self) -> LazyText:
        """See :class:`SetupStep`."""
        if self.before_files:
            return LazyText(N_("test the login of the application"))
        return LazyText(N_("reload PostgreSQL and test all logins"))

    def preview(self) -> Sequence[str]:
        """See :class:`SetupStep`."""
        return () if self.before_files else ("SELECT pg_reload_conf();",)

    def capture(self, machine: Machine) -> Before:
        """See :class:`SetupStep`; a login that fails before the change stops the setup."""
        if self.before_files:
            self._require_logins()
        return {}

    def do(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`."""
        if not self.before_files:
            self._reload()
            self._require_logins()

    def undo(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`; the restored files decide about logins: they are not tested."""
        if self.before_files:
            self._reload()

    def _reload(self) -> None:
        server, asked = ServerAddress(**self.server), ["SELECT pg_conf_load_time()"]
        (((loaded,),), _) = server.query([*asked, "SELECT pg_reload_conf()"])
        until = time.monotonic() + RELOAD_LIMIT_S
        while server.query(asked)[0][0][0] == loaded:
            if time.monotonic() > until:
                raise server.make_refusal(f"no reload in {RELOAD_LIMIT_S:.0f} s")
        (wrong,) = server.query(
            ["SELECT line_number, error FROM pg_hba_file_rules WHERE error IS NOT NULL"]
        )
        for line, error in wrong:
            raise server.make_refusal(f"pg_hba.conf, line {line}: {error}")

    def _require_logins(self) -> None:
        for role, user, database, expected in self.logins:
            code, words = try_role(ServerAddress(**self.server), str(role), user, str(database))
            if code != expected:
                raise UpdaterError(SETUP_LOGIN_BROKEN, role=role, user=user, detail=str(words))


def try_role(
    server: ServerAddress, role: str, user: str | None, database: str
) -> tuple[str | None, str | LazyText]:
    """Try a login as a system user; return the SQLSTATE and the server's message."""
    where = make_conninfo(host=server.host, port=server.port, dbname=database, user=role)
    if user is None:
        return ask_sqlstate(where, LOGIN_LIMIT_S)
    return try_login(where, user)


# ---- system commands -----------------------------------------------------------------------------


@dataclass(frozen=True)
class CommandStep(SetupStep, kind="command"):
    """Run commands of the system.

    Attributes:
        forward: Commands to do the step.
        backward: Commands to undo it.
    """

    forward: Sequence[Sequence[str]] = ()
    backward: Sequence[Sequence[str]] = ()

    @property
    def title(self) -> LazyText:
        """See :class:`SetupStep`."""
        commands = "; ".join(" ".join(argv) for argv in self.forward)
        if not commands:
            return LazyText(N_("prepare the undo"))
        return LazyText(N_("run {commands}"), {"commands": commands})

    def preview(self) -> Sequence[str]:
        """See :class:`SetupStep`."""
        return [" ".join(argv) for argv in self.forward]

    def do(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`."""
        for argv in self.forward:
            machine.require(argv)

    def undo(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`."""
        for argv in self.backward:
            machine.require(argv)


@dataclass(frozen=True)
class MembersStep(SetupStep, kind="members"):
    """Add accounts to a group."""

    group: str
    users: Sequence[str]

    @property
    def title(self) -> LazyText:
        """See :class:`SetupStep`."""
        values = {"group": self.group, "users": ", ".join(self.users)}
        return LazyText(N_("add {users} to the group {group}"), values)

    def preview(self) -> Sequence[str]:
        """See :class:`SetupStep`."""
        return [f"gpasswd --add {user} {self.group}" for user in self.users]

    def capture(self, machine: Machine) -> Before:
        """See :class:`SetupStep`."""
        return {"members": grp.getgrnam(self.group).gr_mem}

    def do(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`."""
        for user in self.users:
            if user not in grp.getgrnam(self.group).gr_mem:
                machine.require(("gpasswd", "--add", user, self.group))

    def undo(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`."""
        for user in self.users:
            if user in grp.getgrnam(self.group).gr_mem and user not in before["members"]:
                machine.require(("gpasswd", "--delete", user, self.group))


def remove_added_files(directory: Path, before: Sequence[str], skip: frozenset[str]) -> None:
    """Remove everything not listed in ``before``; keep the skipped entries."""
    for name in sorted(set(list_files(directory, skip)).difference(before)):
        durable.remove_entry(directory / name)


def list_files(directory: Path, skip: frozenset[str]) -> list[str]:
    """List all names below a directory except the skipped entries."""
    names = [str(path.relative_to(directory)) for path in directory.rglob("*")]
    return sorted(name for name in names if Path(name).parts[0] not in skip)
