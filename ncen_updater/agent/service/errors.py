"""Errors of the service's local interface. Codes 9301 to 9399. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping

from ncen_updater.agent.engine.errors import NothingToApprove, NothingToConfirm, RootIsNobody
from ncen_updater.common.errors import ExitCode, RemoteError, UpdaterError
from ncen_updater.common.i18n import N_, Text

__all__ = [
    "STATUS",
    "UNCHANGED",
    "AlreadyOrdered",
    "BadRequest",
    "BindingChanged",
    "MethodNotAllowed",
    "NoService",
    "NoSuchThing",
    "NotAllowed",
    "NotAssessed",
    "NotNext",
    "OrderTooOld",
    "OrderTorn",
    "ServiceSilent",
    "SocketTaken",
    "SocketUnusable",
    "TooLarge",
    "TooManyOrders",
    "TooManyStreams",
    "refusal",
    "status_of",
]

UNCHANGED = Text(N_("Nothing was changed."))
ASK = Text(N_("'ncen-updater status' says how the site is."))


class SocketUnusable(UpdaterError):
    """A place where the service cannot listen."""

    code = "NU-9301"
    what = N_("The service cannot listen at {path}: {reason}")
    remedy = N_("Correct the place, or 'socket' in the table [service] of the configuration.")


class SocketTaken(UpdaterError):
    """Another service that listens at the same place."""

    code = "NU-9302"
    exit_code = ExitCode.BUSY
    what = N_("Another service listens at {path}.")
    remedy = N_("Give each site a 'socket' of its own in the table [service].")


class NoService(UpdaterError):
    """A command that needs the service, where none answers."""

    code = "NU-9303"
    what = N_("No service answers at {path}.")
    remedy = N_(
        "Start it ('systemctl start ncen-updater'), or ask to be made a member of the group "
        "that may read from it."
    )


class ServiceSilent(UpdaterError):
    """A service that stopped answering, or answered what cannot be understood."""

    code = "NU-9304"
    what = N_("The service no longer answers: {reason}")
    remedy = N_(
        "What was ordered is written down and is brought to its end when the service runs again; "
        "'ncen-updater status' shows it."
    )


class OrderTorn(UpdaterError):
    """An order during which the service was killed."""

    code = "NU-9305"
    what = N_("The service was stopped by force while it carried out order {order}.")
    remedy = N_("What it left was brought to its end; 'ncen-updater history' shows how it ended.")


class OrderTooOld(UpdaterError):
    """An order that waited for so long that nobody can expect it any more."""

    code = "NU-9321"
    exit_code = ExitCode.BUSY
    what = N_("Order {order} waited for more than {hours} hours and was not carried out.")
    remedy = N_("Nothing was changed. Give the order again if it is still wanted.")


class Refused(UpdaterError):
    """A request that was refused before anything was changed."""

    def __init__(self, **values: object) -> None:
        detail = values.pop("detail", None)
        super().__init__(state=UNCHANGED, detail=str(detail) if detail else None, **values)


class NoSuchThing(Refused):
    """An address, a change or an order that is not there."""

    code = "NU-9310"
    exit_code = ExitCode.USAGE
    what = N_("The service knows nothing at {path}.")
    remedy = N_("docs/api.md lists what can be asked; 'ncen-updater history' lists the changes.")


class MethodNotAllowed(Refused):
    """A method that an address does not take."""

    code = "NU-9311"
    exit_code = ExitCode.USAGE
    what = N_("{path} takes {allowed} only.")
    remedy = N_("docs/api.md lists what can be asked.")


class BadRequest(Refused):
    """A request that cannot be understood."""

    code = "NU-9312"
    exit_code = ExitCode.USAGE
    what = N_("The request cannot be understood: {reason}")
    remedy = N_("docs/api.md lists what can be asked.")


class TooLarge(Refused):
    """A request that is larger than any that makes sense."""

    code = "NU-9313"
    exit_code = ExitCode.USAGE
    what = N_("The request is larger than {limit} bytes.")
    remedy = N_("docs/api.md lists what can be asked.")


class NotAllowed(Refused):
    """A person who may not do this."""

    code = "NU-9314"
    what = N_("{who} may not do this here; it takes the right '{role}'.")
    remedy = N_(
        "Ask whoever manages this machine for the group that has it; the table [service] of the "
        "configuration names the groups."
    )


class BindingChanged(Refused):
    """An approval of something else than what would be done now."""

    code = "NU-9315"
    exit_code = ExitCode.REHEARSAL_STALE
    what = N_("What you saw is no longer what would be done.")
    remedy = N_("Look at it again with 'ncen-updater approve --dry-run', then decide anew.")


class NotAssessed(Refused):
    """Nothing is known that could be approved now."""

    code = "NU-9316"
    exit_code = ExitCode.BUSY
    what = N_("The service does not know yet what comes next here.")
    remedy = N_("Wait until what it does now has ended; 'ncen-updater status' shows it.")


class NotNext(Refused):
    """A release that is not the one that comes next."""

    code = "NU-9317"
    exit_code = ExitCode.BLOCKED
    what = N_("Release {version} does not come next here; {target} does.")
    remedy = N_("Leave the version out, or wait for its turn.")


class AlreadyOrdered(Refused):
    """An order that waits or is being carried out already."""

    code = "NU-9318"
    exit_code = ExitCode.BUSY
    what = N_("This was ordered already: order {order}, by {who}.")
    remedy = N_("'ncen-updater watch' follows it.")


class TooManyOrders(Refused):
    """More orders than anybody gives on purpose."""

    code = "NU-9319"
    exit_code = ExitCode.BUSY
    what = N_("{count} orders wait already.")
    remedy = N_("Wait until some of them have been carried out.")


class TooManyStreams(Refused):
    """More listeners than the service has room for."""

    code = "NU-9320"
    exit_code = ExitCode.BUSY
    what = N_("{count} listeners follow the service already.")
    remedy = N_("End one of them, or ask again later.")


#: Status of HTTP for an exit code, where the class of an error does not say more.
STATUS: Mapping[ExitCode, int] = {
    ExitCode.USAGE: 400,
    ExitCode.BLOCKED: 409,
    ExitCode.APPROVAL_MISSING: 409,
    ExitCode.HELD: 409,
    ExitCode.BUSY: 409,
    ExitCode.REHEARSAL_STALE: 409,
    ExitCode.FEED_STALE: 409,
    ExitCode.SPACE: 507,
    ExitCode.NEEDS_PERSON: 503,
}
_EXACTLY: Mapping[type[UpdaterError], int] = {
    NothingToApprove: 409,
    NothingToConfirm: 409,
    NoSuchThing: 404,
    MethodNotAllowed: 405,
    TooLarge: 413,
    NotAllowed: 403,
    RootIsNobody: 403,
    TooManyOrders: 429,
    TooManyStreams: 503,
}


def status_of(error: UpdaterError) -> int:
    """Return the status of HTTP that tells of an error; pure."""
    return _EXACTLY.get(type(error), STATUS.get(error.exit_code, 500))


class Said(RemoteError):
    """An error that the service told of: its words are said as they came."""

    @property
    def what_text(self) -> Text:
        """What happened."""
        return Text("{words}", {"words": self.what})

    @property
    def remedy_text(self) -> Text:
        """What to do."""
        return Text("{words}", {"words": self.remedy})


def refusal(document: Mapping[str, object]) -> UpdaterError:
    """Return the error that the service told of, with its own code and words."""
    code, number = document.get("code"), document.get("exit_code")
    error = Said(
        code if isinstance(code, str) else UpdaterError.code,
        next((item for item in ExitCode if item == number), ExitCode.ERROR),
        str(document.get("what")),
        str(document.get("remedy")),
    )
    values, detail, state = document.get("values"), document.get("detail"), document.get("state")
    error.values = dict(values) if isinstance(values, dict) else {}
    # What this process may read of the site says less than the service knows.
    error.state = Text("{said}", {"said": state}) if isinstance(state, str) and state else ASK
    error.detail = detail if isinstance(detail, str) else None
    return error
