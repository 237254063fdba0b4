"""Errors of the upgrade room. Codes 6001 to 6099."""

from __future__ import annotations

from typing import Any

from ncen_updater.common.errors import ExitCode, UpdaterError
from ncen_updater.common.i18n import N_

__all__ = [
    "ApprovalMissing",
    "Busy",
    "ChangeFailed",
    "ChecksFailed",
    "GoingBackFailed",
    "GuardBlocks",
    "Held",
    "Interrupted",
    "JournalExists",
    "JournalForbidden",
    "JournalMissing",
    "JournalTorn",
    "JournalUnreadable",
    "JournalUnwritable",
    "LaterHopFailed",
    "LockUnusable",
    "NeedsPerson",
    "NotAsKept",
    "NotRehearsed",
    "NothingToApprove",
    "NothingToConfirm",
    "NothingToRollBack",
    "OpenChange",
    "RecordsWouldBeLost",
    "RehearsalFailed",
    "RehearsalLimited",
    "RehearsalOutdated",
    "ReleaseNotHere",
    "ReleaseNotOnOffer",
    "RestoredIsOther",
    "RootIsNobody",
    "SoakFailed",
    "StepDidNotHold",
    "StopApplicationFirst",
    "Unhealthy",
    "WindowClosed",
]


class JournalMissing(UpdaterError):
    """No journal where one has to be."""

    code = "NU-6001"
    exit_code = ExitCode.NEEDS_PERSON
    what = N_("There is no journal at {path}.")
    remedy = N_(
        "On a new site run 'ncen-updater adopt'. On a site that was upgraded before, "
        "restore the journal from the backup; do not make a new one."
    )


class JournalUnreadable(UpdaterError):
    """A journal that is damaged, altered, or of an unknown form."""

    code = "NU-6002"
    exit_code = ExitCode.NEEDS_PERSON
    what = N_("The journal {path} cannot be trusted: {reason}")
    remedy = N_(
        "All automatic work has stopped. Keep the file, restore it from the backup, "
        "and run 'ncen-updater doctor'."
    )


class JournalForbidden(JournalUnreadable):
    """A journal that this user may not read; nothing is wrong with it."""

    code = "NU-6031"
    exit_code = ExitCode.ERROR
    what = N_("You may not read the journal {path}.")
    remedy = N_("Use sudo; where the service runs, members of its group need no right to the file.")


class JournalTorn(JournalForbidden):
    """A journal with half a record, which only who may write it can take back."""

    code = "NU-6043"
    what = N_("The last record of the journal {path} was torn, and you may not clear that.")
    remedy = N_("Run 'sudo ncen-updater status', or wait until the service has begun again.")


class JournalUnwritable(UpdaterError):
    """A journal that cannot take a record; nothing may be done that it does not know of."""

    code = "NU-6003"
    what = N_("The journal {path} cannot be written: {reason}")
    remedy = N_("Make room on the disk or mount it writable, then run 'ncen-updater resume'.")


class Busy(UpdaterError):
    """Another change holds the lock."""

    code = "NU-6004"
    exit_code = ExitCode.BUSY
    what = N_("Another ncen-updater is at work here ({holder}).")
    remedy = N_("Wait until it has finished; 'ncen-updater status' shows what it does.")


class OpenChange(UpdaterError):
    """A change that has not come to its end."""

    code = "NU-6005"
    exit_code = ExitCode.BUSY
    what = N_("The change {change} ({kind} to {version}) has not come to its end.")
    remedy = N_("Run 'ncen-updater resume' first.")


class StepDidNotHold(UpdaterError):
    """A step that ended well and whose effect is not there."""

    code = "NU-6006"
    what = N_("The step '{step}' ended, but what it should have done is not there.")
    remedy = N_("Send the Secretariat what 'ncen-updater doctor' and 'history' say.")


class ChecksFailed(UpdaterError):
    """Domain checks that do not hold on the migrated candidates."""

    code = "NU-6007"
    what = N_("The data do not check after the migrations: {problems}")
    remedy = N_(
        "Do not try this release again; send the Secretariat what "
        "'ncen-updater doctor' and 'history' say."
    )


class Unhealthy(UpdaterError):
    """An application that does not become healthy in time."""

    code = "NU-6008"
    what = N_("{product} {version} did not become healthy in {seconds} seconds: {problems}")
    remedy = N_("Send the Secretariat what 'ncen-updater doctor' and 'history' say.")


class SoakFailed(UpdaterError):
    """An application that turned bad after officers were let in."""

    code = "NU-6009"
    exit_code = ExitCode.ROLLED_BACK
    what = N_("{product} {version} turned bad in the watched time: {problems}")
    remedy = N_("Send the Secretariat what 'ncen-updater doctor' and 'history' say.")


class Interrupted(UpdaterError):
    """A signal asked for an end while going back was still free."""

    code = "NU-6010"
    what = N_("The change was interrupted ({signal}).")
    remedy = N_("Start it again when you are ready.")


class ChangeFailed(UpdaterError):
    """A change that failed and was undone; the cause is chained and shown first."""

    code = "NU-6011"
    exit_code = ExitCode.ROLLED_BACK
    what = N_("The {kind} to {version} failed in the step '{step}' and was undone: {cause}")
    remedy = N_("{cause_remedy}")


class LaterHopFailed(ChangeFailed):
    """A change further on the path that failed and was undone; the hops before it stay.

    Args:
        failed: What became of the change.
        stays: The release that the last hop before it reached.
    """

    code = "NU-6028"
    what = N_(
        "The {kind} to {version} failed in the step '{step}' and was undone; "
        "release {stays}, reached before it, stays: {cause}"
    )

    def __init__(self, failed: ChangeFailed, stays: str) -> None:
        values: dict[str, Any] = {**failed.values, "stays": stays}
        super().__init__(detail=failed.detail, **values)


class GoingBackFailed(UpdaterError):
    """An undo that failed; the next resume tries again."""

    code = "NU-6012"
    exit_code = ExitCode.NEEDS_PERSON
    what = N_("Going back stopped in the step '{step}': {cause}")
    remedy = N_("Mend what is named, then run 'ncen-updater resume'. {cause_remedy}")


class NeedsPerson(UpdaterError):
    """Facts that contradict each other, or a recovery that failed too often."""

    code = "NU-6013"
    exit_code = ExitCode.NEEDS_PERSON
    what = N_("The agent does not touch this site any more: {reason}")
    remedy = N_(
        "Keep the application as it is, run 'ncen-updater doctor', and call the Secretariat."
    )


class NothingToRollBack(UpdaterError):
    """No earlier release to go back to."""

    code = "NU-6014"
    what = N_("There is no earlier release to go back to.")
    remedy = N_("'ncen-updater history' shows what was done here.")


class RecordsWouldBeLost(UpdaterError):
    """A release without a way down; going back loses what was entered since."""

    code = "NU-6015"
    exit_code = ExitCode.APPROVAL_MISSING
    what = N_(
        "{way} It would lose at least {count} records entered or changed since ({tables}); what was"
        " deleted since would come back."
    )
    remedy = N_(
        "Release {current} cannot go back keeping them ({reason}). To go back all the same, "
        "run 'ncen-updater rollback --accept-loss {count}', with a larger number "
        "while officers are still entering records."
    )


class WayBackChanged(UpdaterError):
    """Another way back than the one that a person agreed to."""

    code = "NU-6044"
    exit_code = ExitCode.BLOCKED
    what = N_("A rollback would do something else now: from {current} to {version}.")
    remedy = N_("Look at it again with 'ncen-updater rollback --dry-run', then decide anew.")


class NothingToConfirm(UpdaterError):
    """No change is in its soak."""

    code = "NU-6016"
    what = N_("No release is in its watched time.")
    remedy = N_("'ncen-updater status' shows what runs.")


class JournalExists(UpdaterError):
    """A site that was taken over already."""

    code = "NU-6017"
    what = N_("This site already has a journal at {path}.")
    remedy = N_("Nothing is to be done; 'ncen-updater status' shows the site.")


class GuardBlocks(UpdaterError):
    """Preflight findings that do not allow the change to begin or go on."""

    code = "NU-6018"
    exit_code = ExitCode.BLOCKED
    what = N_("The preflight blocks this change: {problems}")
    remedy = N_("{remedies}")


class ReleaseNotOnOffer(UpdaterError):
    """A release that the last verified list does not name, or that is not on the disk."""

    code = "NU-6019"
    what = N_("Release {version} is not on offer, or was not fetched whole.")
    remedy = N_("Run 'ncen-updater check', then try again.")


class Held(UpdaterError):
    """An operator's hold forbids upgrades."""

    code = "NU-6020"
    exit_code = ExitCode.HELD
    what = N_("Upgrades are on hold since {since}, set by {by}: {reason}")
    remedy = N_("Speak with {by}; 'ncen-updater unhold' lifts the hold.")


class WindowClosed(UpdaterError):
    """A scheduled upgrade that could not keep officers out before the window closed."""

    code = "NU-6022"
    exit_code = ExitCode.HELD
    what = N_("The cut-over had to begin before {until}; it was not ready in time.")
    remedy = N_("Nothing to do: the service tries again in the next window.")


class ApprovalMissing(UpdaterError):
    """An upgrade that not enough people have approved."""

    code = "NU-6023"
    exit_code = ExitCode.APPROVAL_MISSING
    what = N_("Release {version} has to be approved by {missing} more (of {needed}).")
    remedy = N_("Let them read the plan and approve it, then try again.")


class NotRehearsed(UpdaterError):
    """An upgrade that was not rehearsed here, or whose rehearsal failed."""

    code = "NU-6024"
    exit_code = ExitCode.REHEARSAL_STALE
    what = N_("Release {version} has passed no rehearsal at this site.")
    remedy = N_("Run 'ncen-updater rehearse' and read what it says.")


class NotAsKept(UpdaterError):
    """Kept databases whose schema is not the one that was recorded when they were put aside."""

    code = "NU-6035"
    exit_code = ExitCode.NEEDS_PERSON
    what = N_(
        "The structure of {database} as it would be restored is not the one that was recorded of"
        " {version}."
    )
    remedy = N_(
        "Nothing was cut over. Find out who changed the kept databases; send the Secretariat what"
        " 'ncen-updater doctor' and 'history' say."
    )


class NothingToApprove(UpdaterError):
    """No release on offer that could be approved."""

    code = "NU-6027"
    what = N_("Nothing is on offer that could be approved; {current} runs here.")
    remedy = N_("Run 'ncen-updater check'.")


class RehearsalFailed(UpdaterError):
    """A rehearsal that did not come to its end; its copies are gone."""

    code = "NU-6026"
    exit_code = ExitCode.BLOCKED
    what = N_("The rehearsal of {version} failed: {cause} ({cause_code})")
    remedy = N_(
        "Nothing of the site was touched. Read the cause; if it is the release, tell the"
        " Secretariat, else mend it and rehearse again."
    )


class RehearsalLimited(RehearsalFailed):
    """A rehearsal that failed on copies which lack something: it says nothing of the release."""

    code = "NU-6032"
    what = N_(
        "The rehearsal of {version} failed, on copies without what a dump by the agent's role does"
        " not carry ({objects}): {cause} ({cause_code})"
    )
    remedy = N_(
        "Nothing of the site was touched, and the release is not called bad: an upgrade works on"
        " whole copies. Read the cause. Where it is for want of these objects, let the agent"
        " connect as a superuser and rehearse again, or set rehearse = false."
    )


class RehearsalOutdated(UpdaterError):
    """What was rehearsed or approved is not what would be done now."""

    code = "NU-6025"
    exit_code = ExitCode.REHEARSAL_STALE
    what = N_("What was rehearsed or approved for {version} no longer holds: {reasons}")
    remedy = N_("Run 'ncen-updater rehearse', and let it be approved again.")


class LockUnusable(UpdaterError):
    """A state directory that takes no lock; without it two agents could be at work."""

    code = "NU-6021"
    what = N_("The lock {path} cannot be taken: {reason}")
    remedy = N_(
        "Make room on the disk, or give the agent's user its state directory; then try again."
    )


class RootIsNobody(UpdaterError):
    """An approval by root where two people have to approve."""

    code = "NU-6029"
    exit_code = ExitCode.APPROVAL_MISSING
    what = N_("Two people have to approve here, and {who} may be any of them.")
    remedy = N_(
        "Approve as yourself: without sudo, from your own account, as a member of the group of "
        "approvers."
    )


class ReleaseNotHere(UpdaterError):
    """A release of which no whole slot is on this site's disk."""

    code = "NU-6040"
    what = N_("Release {version} is not on this site's disk, or not whole.")
    remedy = N_("On the disk are: {versions}. Name the one that the databases belong to.")


class RestoredIsOther(UpdaterError):
    """Restored databases that are not those of the release that was named."""

    code = "NU-6041"
    exit_code = ExitCode.BLOCKED
    what = N_("The database {database} is not one of release {version}: {reason}")
    remedy = N_(
        "Name the release that ran when the backup was made, or let all databases be restored "
        "from one moment."
    )


class StopApplicationFirst(UpdaterError):
    """An application that runs with the code of another release than the databases are of."""

    code = "NU-6042"
    exit_code = ExitCode.BLOCKED
    what = N_("{product} {current} is running, and the databases are to be taken as {version}.")
    remedy = N_("Stop the application, then run the command again.")
