"""Which release is installed: asked of the application and the databases, and judged; reads only.

Nobody believes the version that was typed. The application says which it is. The databases cannot
say it, but they can contradict: the ``verify`` files of a release's migrations and the checks of
its manifest can be asked of a schema that has what the release needs, and of no other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from packaging.version import Version

from ncen_updater.agent.adapters.application.base import Expectation
from ncen_updater.agent.adapters.databases.base import (
    AppliedMigration,
    DatabaseEngine,
    Live,
    MigrationSet,
    SqlMigration,
)
from ncen_updater.agent.adapters.databases.migrations.checks import question
from ncen_updater.agent.adapters.databases.migrations.planner import plan_steps
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.errors import DatabaseError, MigrationRefused
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import (
    ADOPTED_IS_OTHER,
    APPLICATION_UNWELL,
    DATABASES_ARE_OTHER,
    QUERY_FAILED,
    RELEASE_NOT_TOLD,
)
from ncen_updater.formats.manifest import Check, Manifest, When
from ncen_updater.formats.reported import says
from ncen_updater.formats.sql import counting, split, verify_refusal


@dataclass(frozen=True)
class SelfReport:
    """What the application says of itself.

    Attributes:
        version: Its release in its own spelling; empty where it does not tell.
        url: Where it was asked; a command where that tells in its place.
        problem: Why it does not tell, or what else is not well.
        said: Its answer, where it is not well.
        by_command: Whether a command of the site tells, and the application nothing.
    """

    version: str
    url: str
    problem: str = ""
    said: str = ""
    by_command: bool = False


@dataclass(frozen=True)
class ReleaseQuestion:
    """One question of a release to a database.

    Attributes:
        database: Logical name.
        name: The migration or check that it belongs to.
        fits: Whether the database could answer it: tables and columns are there.
        rows: How many rows contradict the release.
        newest: Whether no later migration of this database could have outgrown it.
        detail: What the server said, where it could not.
    """

    database: str
    name: str
    fits: bool
    rows: int = 0
    newest: bool = True
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Whether the answer is that of the release."""
        return self.fits and not self.rows


@dataclass(frozen=True)
class Installed:
    """What was seen of the release that is installed.

    Attributes:
        said: By the application.
        asked: Of the databases.
        ledger: Why a ledger of migrations is not that of the release; None where all are, or none
            is there.
        reported: What the release that was named reports; empty where it is its version.
    """

    said: SelfReport
    asked: tuple[ReleaseQuestion, ...] = ()
    ledger: tuple[str, Text] | None = None
    reported: str = ""

    def lines(self, version: Version) -> Iterator[Text]:
        """Say it, a line each."""
        if self.said.version:
            words = N_("The application says that it is {said}.")
            if self.said.by_command:
                words = N_("By {command} it is {said}; the application itself does not say it.")
            yield Text(words, {"said": self.said.version, "command": self.said.url})
            if self.reported and says(self.said.version, self.reported):
                words = N_("So does {version}; which build it is, the application does not say.")
                yield Text(words, {"version": version})
        else:
            words = N_("The application does not say which release it is ({problem}).")
            yield Text(words, {"problem": self.said.problem})
        held = sum(item.holds for item in self.asked)
        figures = {"held": held, "total": len(self.asked), "version": version}
        if not self.asked:
            yield Text(N_("{version} has no check that its databases could be asked."), figures)
        elif held == len(self.asked):
            yield Text(N_("The databases answer as {version}: all checks hold ({held})."), figures)
        else:
            words = N_("The databases answer {held} of {total} checks of {version} as they should.")
            yield Text(words, figures)
        for item in self.asked:
            if not item.holds:
                yield Text(N_("Check {name} of {database}: {problem}."), {
                    "name": item.name, "database": item.database, "problem": _problem(item),
                })  # fmt: skip


def _problem(item: ReleaseQuestion) -> Text:
    if not item.fits:
        return Text(N_("the database cannot answer it: {detail}"), {"detail": item.detail})
    return Text(N_("rows that contradict it: {rows}"), {"rows": item.rows})


def objection(seen: Installed, version: Version, *, vouched: bool) -> UpdaterError | None:
    """Return why the installed release is not the one that was named; None if it is; pure.

    A check of an older migration may be outgrown by a later one, and officers may enter rows that a
    check did not foresee: neither contradicts an application that says its release. Where a person
    vouches in its place, the newest checks have to hold.

    Args:
        seen: What was seen.
        version: The release that was named.
        vouched: Whether a person says so in place of an application that does not.
    """
    said = seen.said
    if said.version and not says(said.version, seen.reported or str(version)):
        return UpdaterError(ADOPTED_IS_OTHER, said=said.version, version=version, url=said.url)
    if seen.ledger is not None:
        database, reason = seen.ledger
        return _other(database, version, reason)
    for item in seen.asked:
        if item.newest and not (item.fits if said.version else item.holds):
            values = {"name": item.name, "problem": _problem(item)}
            return _other(item.database, version, Text(N_("check {name}: {problem}."), values))
    if said.version and said.problem and not vouched:
        return UpdaterError(
            APPLICATION_UNWELL, detail=said.said, problems=said.problem, version=version
        )
    if not said.version and not vouched:
        return UpdaterError(RELEASE_NOT_TOLD, url=said.url, problem=said.problem, version=version)
    return None


def _other(database: str, version: Version, reason: Text) -> UpdaterError:
    return UpdaterError(DATABASES_ARE_OTHER, database=database, version=version, reason=reason)


def look_at_installed(
    site: Site, version: Version, manifest: Manifest, migrations: MigrationSet, own: str
) -> Installed:
    """Ask application and databases.

    Args:
        site: The site.
        version: The release that was named.
        manifest: Its manifest.
        migrations: Its migrations, wherever their files are.
        own: Change whose rows in a ledger say nothing: an adoption wrote them.

    Raises:
        DatabaseError: A database cannot be reached.
        ApplicationError: The application cannot be asked with the token of the configuration.
    """
    with site.engine.held():
        asked = (*_verified(site.engine, migrations), *_checked(site.engine, manifest.checks))
        ledger = _ledger(site.engine, migrations, own)
        return Installed(_said(site, manifest.reported), asked, ledger, manifest.reports or "")


def _said(site: Site, reported: str) -> SelfReport:
    settings = site.config.application
    unasked = site.application.token_problem()
    if unasked is not None:
        raise unasked
    command = settings.version_command
    url = command[0] if command else f"{settings.health_url.rstrip('/')}{settings.health_path}"
    health = site.application.health(Expectation(reported))
    said = health.reported.get(settings.version_field)
    if isinstance(said, str) and said.strip():
        problem = "; ".join(health.problems)
        return SelfReport(said.strip()[:100], url, problem, health.said, bool(command))
    return SelfReport(
        "", url, "; ".join(health.problems) or f"'{settings.version_field}': {said!r:.100}"
    )


def _verified(engine: DatabaseEngine, migrations: MigrationSet) -> Iterator[ReleaseQuestion]:
    if migrations.command is not None:
        return
    for name, items in migrations.databases.items():
        asked = [_verify(engine, name, item) for item in items if item.verify is not None]
        yield from (dataclasses.replace(item, newest=False) for item in asked[:-1])
        yield from asked[-1:]


def _verify(engine: DatabaseEngine, database: str, item: SqlMigration) -> ReleaseQuestion:
    assert item.verify is not None  # noqa: S101 - the caller looked
    sql = item.verify.read_bytes().decode("utf-8")
    refused = verify_refusal(sql, engine.kind)
    if refused is not None:
        return ReleaseQuestion(database, item.migration.id, fits=False, detail=refused.reason)
    rows = 0
    for statement in split(sql, engine.kind):
        try:
            found = engine.query(
                Live(database),
                counting(statement),
                timeout_s=item.migration.statement_timeout_ms / 1000,
            )
        except DatabaseError as error:
            return _unfit(error, database, item.migration.id)
        rows += int(str(found[0][0]))
    return ReleaseQuestion(database, item.migration.id, fits=True, rows=rows)


def _checked(engine: DatabaseEngine, checks: Sequence[Check]) -> Iterator[ReleaseQuestion]:
    """Whether what is asked after an upgrade can be asked; its values speak of the upgrade."""
    for check in checks:
        if check.when is When.BEFORE:
            continue
        try:
            question(engine, Live(check.database), check.sql_after or check.sql)
        except DatabaseError as error:
            yield _unfit(error, check.database, check.name)
        else:
            yield ReleaseQuestion(check.database, check.name, fits=True)


def _unfit(error: DatabaseError, database: str, name: str) -> ReleaseQuestion:
    """Tell a database that cannot answer from one that cannot be reached.

    Raises:
        DatabaseError: It cannot be reached.
    """
    if error.code != QUERY_FAILED.code:
        raise error
    return ReleaseQuestion(
        database, name, fits=False, detail=(error.detail or str(error.what_text))[:300]
    )


def _ledger(engine: DatabaseEngine, migrations: MigrationSet, own: str) -> tuple[str, Text] | None:
    if migrations.command is not None:
        return None
    for name in engine.names:
        rows: tuple[AppliedMigration, ...] = engine.applied(Live(name))
        if all(row.change == own for row in rows):
            continue
        try:
            steps = plan_steps(name, rows, migrations.databases.get(name, ()), None).steps
        except MigrationRefused as error:
            return name, Text("{reason}", {"reason": error.values.get("reason", "-")})
        for step in steps:
            words = N_("migration {migration} belongs to it and is not applied.")
            return name, Text(words, {"migration": step.id})
    return None
