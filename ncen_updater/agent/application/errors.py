"""Errors of the application room. Codes 5001 to 5099."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_

__all__ = [
    "AnotherAnswers",
    "ApplicationError",
    "CommandFailed",
    "DoorStuck",
    "HealthSettingsWrong",
    "NeverAnswered",
    "OrderUnderWay",
    "PartStopFailed",
    "StateUnknown",
    "StopFailed",
]


class ApplicationError(UpdaterError):
    """Base of what the application refuses or fails to do."""

    code = "NU-5001"
    what = N_("The application could not be controlled.")
    remedy = N_("Try the commands of the table [application] by hand, and correct them.")


class CommandFailed(ApplicationError):
    """A command that ended badly, was not found, or did not end in time."""

    code = "NU-5002"
    what = N_("The command to {action} the application failed: {reason}")
    remedy = N_("Run {command} by hand and read what it says.")


class StopFailed(ApplicationError):
    """An application that goes on running.

    The value ``refused`` tells whether the order itself failed; else it may be on its way down.
    """

    code = "NU-5003"
    what = N_("The application did not stop within {seconds} seconds.")
    remedy = N_("Stop it by hand, find out what holds it, then try again.")


class StateUnknown(ApplicationError):
    """No answer to whether it runs; nothing may be concluded from that."""

    code = "NU-5004"
    what = N_("It is not known whether the application runs: {reason}")
    remedy = N_("Run {command} by hand; it must say clearly whether the application runs.")


class DoorStuck(ApplicationError):
    """The file that keeps officers out could not be written or removed."""

    code = "NU-5005"
    what = N_("The file {path}, which keeps officers out, could not be changed.")
    remedy = N_("Check that its directory exists and that the agent may write there.")


class HealthSettingsWrong(ApplicationError):
    """An address that nobody can ask."""

    code = "NU-5006"
    what = N_("The address {url} of the application's health cannot be used: {reason}")
    remedy = N_("Correct health_url and health_path in the table [application].")


class OrderUnderWay(ApplicationError):
    """A start or stop that somebody else ordered and that does not come to its end."""

    code = "NU-5007"
    what = N_("A command that starts or stops the application has been at work for {seconds} s.")
    remedy = N_("It is a child of an agent, which may have ended: see 'ps', end it, try again.")


class PartStopFailed(StopFailed):
    """A part that goes on running."""

    code = "NU-5008"
    what = N_("The part '{part}' of the application did not stop within {seconds} seconds.")


class AnotherAnswers(ApplicationError):
    """A program that is not ours at the address of the health. No release is to blame for it."""

    code = "NU-5009"
    what = N_(
        "Every part of the application is stopped, and yet version {version} answers at {url}."
    )
    remedy = N_(
        "Find the program that listens there and end it: the commands of the table [application] "
        "do not know of it."
    )


class NeverAnswered(ApplicationError):
    """An application that was started twice and gave no verdict on its release."""

    code = "NU-5010"
    what = N_(
        "{product} {version} was started twice and could not be judged; the first time: {first}; "
        "the second time: {second}"
    )
    remedy = N_(
        "The release is not called bad. See the application's own log; end what else stops or "
        "starts it, or keeps its address; then try again."
    )
