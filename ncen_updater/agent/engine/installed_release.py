"""Installed release, determined from the application and the databases; reads only.

The version that the operator typed is not trusted. The application reports its version. The
databases cannot report one but can contradict it: the ``verify`` files of a release's migrations
and the checks of its manifest pass only on a schema of that release.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from packaging.version import Version

from ncen_updater.agent.adapters.application.health_result import HealthExpectation
from ncen_updater.agent.adapters.databases.base import (
    AppliedMigration,
    DatabaseEngine,
    LiveDatabase,
    MigrationSet,
    SqlMigration,
)
from ncen_updater.agent.adapters.databases.migrations.domain_checks import run_release_query
from ncen_updater.agent.adapters.databases.migrations.planner import plan_database_migrations
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.errors import DatabaseError, MigrationRefusedError
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    ADOPT_DATABASE_MISMATCH,
    ADOPT_VERSION_MISMATCH,
    APPLICATION_UNWELL,
    QUERY_FAILED,
    VERSION_NOT_REPORTED,
)
from ncen_updater.formats.manifest import CheckStage, DomainCheck, Manifest
from ncen_updater.formats.reported_version import matches_reported_version
from ncen_updater.formats.sql import check_verify_sql, make_count_query, split_statements


@dataclass(frozen=True)
class ReportedVersion:
    """Version report of the application.

    Attributes:
        version: Version in the application's own spelling; empty if it reports none.
        url: URL of the health check, or the site's version command.
        problem: Why no version is reported, or why the application is unhealthy.
        answer: The application's answer, if it is unhealthy.
        from_command: Whether the site's version command reports the version instead of the
            application.
    """

    version: str
    url: str
    problem: LazyText | None = None
    answer: str = ""
    from_command: bool = False


@dataclass(frozen=True)
class SchemaProbe:
    """Result of one query of a release to a database.

    Attributes:
        database: Logical name.
        name: The migration or check to which the query belongs.
        executable: Whether the database could run it: its tables and columns exist.
        rows: Number of rows that contradict the release.
        is_newest_migration: False if a later migration of this database may have made the query
            obsolete.
        detail: Message of the server, if the query failed.
    """

    database: str
    name: str
    executable: bool
    rows: int = 0
    is_newest_migration: bool = True
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Return whether the result is as expected of the release."""
        return self.executable and not self.rows


@dataclass(frozen=True)
class InstalledRelease:
    """Evidence of the installed release.

    Attributes:
        application: Report of the application.
        probes: Results from the databases.
        ledger: Database and reason, if a migration ledger contradicts the release; None otherwise
            or if there is no ledger.
        reported: Version string that the named release reports; empty if it equals its version.
    """

    application: ReportedVersion
    probes: tuple[SchemaProbe, ...] = ()
    ledger: tuple[str, LazyText] | None = None
    reported: str = ""

    def format_lines(self, version: Version) -> Iterator[LazyText]:
        """Describe the evidence, one line each."""
        if self.application.version:
            template = N_("Version reported by the application: {reported}")
            if self.application.from_command:
                template = N_("Version reported by {command}: {reported}")
            yield LazyText(
                template, {"reported": self.application.version, "command": self.application.url}
            )
            if self.reported and matches_reported_version(self.application.version, self.reported):
                template = N_("{version} reports the same version; the build is unknown.")
                yield LazyText(template, {"version": version})
        else:
            template = N_("Application version unknown ({problem})")
            yield LazyText(template, {"problem": self.application.problem})
        passed = sum(item.passed for item in self.probes)
        figures = {"passed": passed, "total": len(self.probes), "version": version}
        if not self.probes:
            yield LazyText(N_("{version} declares no checks of its databases."), figures)
        else:
            template = N_("Database checks of {version} passed: {passed} of {total}")
            yield LazyText(template, figures)
        for item in self.probes:
            if not item.passed:
                yield LazyText(N_("Check '{name}' of {database} failed: {problem}"), {
                    "name": item.name, "database": item.database, "problem": _describe_probe(item),
                })  # fmt: skip


def _describe_probe(item: SchemaProbe) -> LazyText:
    if not item.executable:
        return LazyText(N_("query failed: {detail}"), {"detail": item.detail})
    return LazyText(N_("contradicting rows: {rows}"), {"rows": item.rows})


def find_mismatch(
    installed: InstalledRelease, version: Version, *, confirmed: bool
) -> UpdaterError | None:
    """Return why the installed release is not the named one; None if it matches; pure.

    A later migration may make the check of an older one obsolete, and users may enter rows that a
    check did not foresee. So failed checks do not contradict an application that reports its
    version. If an operator confirms the version instead, the newest checks must pass.

    Args:
        installed: The evidence.
        version: The named release.
        confirmed: Whether an operator confirms the version that the application does not report.
    """
    application = installed.application
    if application.version and not matches_reported_version(
        application.version, installed.reported or str(version)
    ):
        return UpdaterError(
            ADOPT_VERSION_MISMATCH,
            reported=application.version,
            version=version,
            url=application.url,
        )
    if installed.ledger is not None:
        database, reason = installed.ledger
        return _make_mismatch_error(database, version, reason)
    for item in installed.probes:
        if item.is_newest_migration and not (
            item.executable if application.version else item.passed
        ):
            values = {"name": item.name, "problem": _describe_probe(item)}
            return _make_mismatch_error(
                item.database, version, LazyText(N_("check '{name}' failed: {problem}"), values)
            )
    if application.version and application.problem and not confirmed:
        return UpdaterError(
            APPLICATION_UNWELL,
            detail=application.answer,
            problems=application.problem,
            version=version,
        )
    if not application.version and not confirmed:
        return UpdaterError(
            VERSION_NOT_REPORTED, url=application.url, problem=application.problem, version=version
        )
    return None


def _make_mismatch_error(database: str, version: Version, reason: LazyText) -> UpdaterError:
    return UpdaterError(ADOPT_DATABASE_MISMATCH, database=database, version=version, reason=reason)


def inspect_installed(
    site: Site,
    version: Version,
    manifest: Manifest,
    migrations: MigrationSet,
    adoption_id: str,
) -> InstalledRelease:
    """Query the application and the databases.

    Args:
        site: The site.
        version: The named release.
        manifest: Its manifest.
        migrations: Its migrations, wherever their files are.
        adoption_id: Id of the change whose ledger rows are ignored, since an adoption wrote
            them.

    Raises:
        DatabaseError: If a database cannot be reached.
        ApplicationError: If the application cannot be queried with the configured token.
    """
    with site.database_engine.hold_sessions():
        probes = (
            *_run_verify_files(site.database_engine, migrations),
            *_run_domain_checks(site.database_engine, manifest.checks),
        )
        ledger = _find_foreign_ledger(site.database_engine, migrations, adoption_id)
        return InstalledRelease(
            _read_application_version(site, manifest.reported),
            probes,
            ledger,
            manifest.reports or "",
        )


def _read_application_version(site: Site, reported: str) -> ReportedVersion:
    settings = site.config.application
    token_error = site.application.check_health_token()
    if token_error is not None:
        raise token_error
    command = settings.version_command
    url = command[0] if command else f"{settings.health_url.rstrip('/')}{settings.health_path}"
    health = site.application.check_health(HealthExpectation(reported))
    value = health.reported.get(settings.version_field)
    if isinstance(value, str) and value.strip():
        problem = health.problem
        return ReportedVersion(value.strip()[:100], url, problem, health.answer_json, bool(command))
    field = {"name": settings.version_field, "value": f"{value!r:.100}"}
    return ReportedVersion("", url, health.problem or LazyText("'{name}': {value}", field))


def _run_verify_files(engine: DatabaseEngine, migrations: MigrationSet) -> Iterator[SchemaProbe]:
    if migrations.migrator is not None:
        return
    for name, items in migrations.databases.items():
        probes = [_run_verify_file(engine, name, item) for item in items if item.verify is not None]
        yield from (dataclasses.replace(item, is_newest_migration=False) for item in probes[:-1])
        yield from probes[-1:]


def _run_verify_file(engine: DatabaseEngine, database: str, item: SqlMigration) -> SchemaProbe:
    assert item.verify is not None  # noqa: S101 - checked by the caller
    sql = item.verify.read_bytes().decode("utf-8")
    refused = check_verify_sql(sql, engine.engine_name)
    if refused is not None:
        return SchemaProbe(database, item.migration.id, executable=False, detail=refused.reason)
    rows = 0
    for statement in split_statements(sql, engine.engine_name):
        try:
            counts = engine.run_query(
                LiveDatabase(database),
                make_count_query(statement),
                timeout_s=item.migration.statement_timeout_ms / 1000,
            )
        except DatabaseError as error:
            return _make_failed_probe(error, database, item.migration.id)
        rows += int(str(counts[0][0]))
    return SchemaProbe(database, item.migration.id, executable=True, rows=rows)


def _run_domain_checks(
    engine: DatabaseEngine, checks: Sequence[DomainCheck]
) -> Iterator[SchemaProbe]:
    """Test whether the checks after an upgrade can run; their values matter only in an upgrade."""
    for check in checks:
        if check.when is CheckStage.BEFORE:
            continue
        try:
            run_release_query(engine, LiveDatabase(check.database), check.sql_after or check.sql)
        except DatabaseError as error:
            yield _make_failed_probe(error, check.database, check.name)
        else:
            yield SchemaProbe(check.database, check.name, executable=True)


def _make_failed_probe(error: DatabaseError, database: str, name: str) -> SchemaProbe:
    """Return a failed probe if the database refused the query.

    Raises:
        DatabaseError: If it failed for another reason, such as an unreachable database.
    """
    if error.code != QUERY_FAILED.code:
        raise error
    return SchemaProbe(
        database, name, executable=False, detail=(error.detail or str(error.title_text))[:300]
    )


def _find_foreign_ledger(
    engine: DatabaseEngine, migrations: MigrationSet, adoption_id: str
) -> tuple[str, LazyText] | None:
    if migrations.migrator is not None:
        return None
    for name in engine.names:
        rows: tuple[AppliedMigration, ...] = engine.read_ledger(LiveDatabase(name))
        if all(row.change == adoption_id for row in rows):
            continue
        try:
            steps = plan_database_migrations(
                name, rows, migrations.databases.get(name, ()), None
            ).steps
        except MigrationRefusedError as error:
            return name, LazyText("{reason}", {"reason": error.values.get("reason", "-")})
        if steps:
            text = N_("migration {migration} of this release is not applied")
            return name, LazyText(text, {"migration": steps[0].id})
    return None
