"""Errors of the release format."""

from __future__ import annotations

from ncen_updater.common.errors import ExitCode, UpdaterError
from ncen_updater.common.i18n import N_

__all__ = ["BadManifest", "BadRelease", "BadTree", "WheelsUnusable"]


class BadManifest(UpdaterError):
    """A manifest that cannot be used; ``detail`` names each mistake with its place."""

    code = "NU-3001"
    what = N_("The manifest {source} is not valid.")
    remedy = N_("Correct the places that are named and build the release again.")


class BadRelease(UpdaterError):
    """A release document that does not have the agreed form."""

    code = "NU-3002"
    exit_code = ExitCode.TRUST
    what = N_("The release document {source} is not valid.")
    remedy = N_("Do not install this release; tell the Secretariat which one it is.")


class BadTree(UpdaterError):
    """A tree that names paths, types or sizes that no release may have."""

    code = "NU-3003"
    exit_code = ExitCode.TRUST
    what = N_("The tree {source} is not valid.")
    remedy = N_("Do not install this release; tell the Secretariat which one it is.")


class WheelsUnusable(UpdaterError):
    """Wheels that do not make a release of the agent."""

    code = "NU-9412"
    what = N_("The wheels in {path} do not make a release of the agent: {reason}")
    remedy = N_("Make them anew with script/agent-release, from a checkout that is unchanged.")
