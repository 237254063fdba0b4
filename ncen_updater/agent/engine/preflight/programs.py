"""Does the site have the programs that the release needs?"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping

from packaging.specifiers import SpecifierSet

from ncen_updater.agent.adapters.application.process import run_supervised
from ncen_updater.agent.adapters.databases.base import MigratorUser
from ncen_updater.agent.adapters.databases.migrations.migrator import (
    build_migrator_environment,
    find_migrator_user,
)
from ncen_updater.agent.engine.preflight.base import PreflightContext, make_blocker, register_check
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.supervised_process import AllowedLeftovers

LIMIT_S = 10.0
VERSION = re.compile(r"\d{1,9}(\.\d{1,9}){1,3}")


@register_check(132, upgrade_only=True)
def check_programs(context: PreflightContext) -> tuple[Finding, ...]:
    """NU-6327 for each program that the release needs, and this site lacks or has otherwise."""
    settings, manifest = context.config.application, context.document.manifest
    needs = manifest.needs.programs or ()
    user = find_migrator_user(settings.user) if needs else None
    environment = build_migrator_environment(os.environ, settings.environment, user)
    found = {need: _ask_version(need.name, environment, user) for need in needs}
    release, none = manifest.version, LazyText(N_("none"))
    what = N_("Release {release} requires {program} {needed}; installed: {version}")
    remedy = N_("Install it in the PATH of the application's user.")
    return tuple(
        make_blocker(6327, what, remedy, release=release, program=need.name, needed=need.version,
               version=version or none)
        for need, version in found.items()
        if version is None or version not in SpecifierSet(need.version, prereleases=True)
    )  # fmt: skip


def _ask_version(
    name: str, environment: Mapping[str, str], user: MigratorUser | None
) -> str | None:
    """Run ``--version`` as the application's user; None where no version is said."""
    words = [shutil.which(name, path=environment["PATH"]) or name, "--version"]
    become = (user.uid, user.gid) if user else None
    try:
        ended = run_supervised(
            words, environment, LIMIT_S, leftovers=AllowedLeftovers.NOTHING, become=become
        )
    except OSError:
        return None
    found = VERSION.search(ended.output) if ended.status == 0 else None
    return found[0] if found else None
