"""Checks of the machine: directories, commands, programs, leftovers of earlier changes."""

from __future__ import annotations

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from packaging.specifiers import SpecifierSet

from ncen_updater.agent.adapters.application.process import run_supervised
from ncen_updater.agent.adapters.databases.base import DatabaseRole, MigratorUser
from ncen_updater.agent.adapters.databases.migrations.migrator import (
    build_migrator_environment,
    find_migrator_user,
)
from ncen_updater.agent.engine.preflight.base import (
    PreflightContext,
    find_existing_parent,
    make_advisory,
    make_blocker,
    make_info,
    register_check,
)
from ncen_updater.common.disk_space import is_read_only_here
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import OUTSIDE_UNIT
from ncen_updater.common.supervised_process import AllowedLeftovers

#: Time limit for a program that reports its version.
VERSION_TIMEOUT_S = 10.0
VERSION_PATTERN = re.compile(r"\d{1,9}(\.\d{1,9}){1,3}")


@register_check(60)
def check_directories(context: PreflightContext) -> tuple[Finding, ...]:
    """Check directories: NU-6313, NU-6346 not writable, NU-6314 slots on two file systems."""
    store = context.slots
    directories = dict.fromkeys(
        map(find_existing_parent, context.config.list_written_directories())
    )
    findings = [
        _make_unwritable_finding(directory)
        for directory in directories
        if not os.access(directory, os.W_OK | os.X_OK)
    ]
    running = store.read_current()
    slots = find_existing_parent(store.slots_directory)
    if running is not None and store.get_slot_directory(running).is_dir():
        slot = store.get_slot_directory(running)
        if context.device(slot) != context.device(slots):
            findings.append(
                make_blocker(
                    6314,
                    N_("{slot} and {slots} are on different file systems"),
                    N_("Move all installed releases to one file system."),
                    slot=str(slot),
                    slots=str(slots),
                )
            )
    return tuple(findings)


def _make_unwritable_finding(directory: Path) -> Finding:
    if is_read_only_here(directory):
        error = UpdaterError(OUTSIDE_UNIT, path=directory)
        return Finding(error.code, Severity.CRITICAL, error.title_text, error.remedy_text)
    return make_blocker(
        6313,
        N_("Cannot write to {path}"),
        N_("Check the mount and the permissions: findmnt -T {path}; namei -l {path}"),
        path=str(directory),
    )


@register_check(30, upgrade_only=True)
def check_upgrade_path(context: PreflightContext) -> tuple[Finding, ...]:
    """Check whether the release can upgrade the installed one (NU-6305)."""
    manifest = context.document.manifest
    running = context.slots.read_current()
    if running is not None and manifest.accepts_version(running):
        return ()
    return (
        make_blocker(
            6305,
            N_("Release {release} upgrades {accepted}; {running} is installed"),
            N_("Install the intermediate releases first. Run: ncen-updater plan"),
            release=manifest.version,
            accepted=manifest.upgrade_from,
            running=str(running) if running else LazyText(N_("none")),
        ),
    )


@register_check(132, upgrade_only=True)
def check_programs(context: PreflightContext) -> tuple[Finding, ...]:
    """Check the programs that the release needs: missing or wrong version (NU-6327)."""
    settings, manifest = context.config.application, context.document.manifest
    needs = manifest.needs.programs or ()
    user = find_migrator_user(settings.user) if needs else None
    environment = build_migrator_environment(os.environ, settings.environment, user)
    versions = {need: _read_program_version(need.name, environment, user) for need in needs}
    release, none = manifest.version, LazyText(N_("none"))
    title = N_("Release {release} requires {program} {needed}; installed: {version}")
    remedy = N_("Install it in the PATH of the application's user.")
    return tuple(
        make_blocker(6327, title, remedy, release=release, program=need.name, needed=need.version,
               version=version or none)
        for need, version in versions.items()
        if version is None or version not in SpecifierSet(need.version, prereleases=True)
    )  # fmt: skip


def _read_program_version(
    name: str, environment: Mapping[str, str], user: MigratorUser | None
) -> str | None:
    """Run ``--version`` as the application's user; None if it reports no version."""
    argv = [shutil.which(name, path=environment["PATH"]) or name, "--version"]
    become = (user.uid, user.gid) if user else None
    try:
        process = run_supervised(
            argv, environment, VERSION_TIMEOUT_S, leftovers=AllowedLeftovers.NOTHING, run_as=become
        )
    except OSError:
        return None
    version = VERSION_PATTERN.search(process.output) if process.status == 0 else None
    return version[0] if version else None


@register_check(90)
def check_commands(context: PreflightContext) -> tuple[Finding, ...]:
    """Check that every configured command exists and is executable (NU-6308)."""
    settings = context.config.application
    path = settings.environment.get("PATH", os.environ.get("PATH"))
    if settings.adapter == "systemd":
        commands = {"systemctl": "systemctl"}
    else:
        parts = {"": settings, **{f"parts.{part.name}.": part for part in settings.parts}}
        commands = {
            f"{name}{action}": argv[0]
            for name, item in parts.items()
            for action, argv in (
                ("start", item.start),
                ("stop", item.stop),
                ("status", item.status),
            )
            if argv
        }
    if settings.version_command:
        commands["version_command"] = settings.version_command[0]
    return tuple(
        make_blocker(
            6308,
            N_("Program {program} of '{setting}' not found or not executable"),
            N_("Correct [application] in agent.toml, or make the program executable."),
            setting=setting,
            program=program,
        )
        for setting, program in commands.items()
        # Commands run with / as working directory, so a relative path is resolved there.
        if shutil.which(program if "/" not in program else str(Path("/", program)), path=path)
        is None
    )


@register_check(180)
def check_leftovers(context: PreflightContext) -> tuple[Finding, ...]:
    """Report remains of interrupted changes (NU-6317) and previous databases (NU-6318, info)."""
    candidates: dict[str, list[str]] = defaultdict(list)
    previous: dict[str, list[str]] = defaultdict(list)
    for change, role, name in context.engine.list_leftovers():
        if role is not DatabaseRole.CANDIDATE:
            if change != context.change.id:
                previous[change].append(name)
        # The candidates of an open change are not leftovers: it needs or removes them. Candidates
        # without a known change may belong to a running rehearsal.
        elif change in context.known_changes - {context.change.id, context.open_change}:
            candidates[change].append(name)
    findings = [
        make_advisory(
            6317,
            N_("Leftover copies of change {change}: {names}"),
            N_("They only use disk space. Run: ncen-updater doctor"),
            change=change,
            names=", ".join(sorted(names)),
        )
        for change, names in sorted(candidates.items())
    ]
    target = context.document.manifest.version
    findings += [
        make_advisory(
            6317,
            N_("Leftover of an earlier change: {path}"),
            N_("It only uses disk space. Run: ncen-updater doctor"),
            path=str(item),
        )
        for item in context.slots.list_leftovers()
        if item.stem != target and context.open_change is None
    ]
    findings += [
        make_info(
            6318,
            N_("Previous databases retained from change {change}: {names}"),
            N_("They are pruned after their retention ([retention] in agent.toml)."),
            change=change,
            names=", ".join(sorted(names)),
        )
        for change, names in sorted(previous.items())
    ]
    return tuple(findings)
