"""Errors of the service's local interface. Codes 9301 to 9399. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping

from ncen_updater.agent.config.errors import ConfigError, ConfigInvalid
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import (
    BAD_REQUEST,
    INSPECTION_GOES_ON,
    METHOD_NOT_ALLOWED,
    NO_SUCH_THING,
    NOT_ALLOWED,
    NOTHING_TO_APPROVE,
    NOTHING_TO_CONFIRM,
    ROOT_IS_NOBODY,
    TOO_LARGE,
    TOO_MANY_ACTS,
    TOO_MANY_CONNECTIONS,
    TOO_MANY_INSPECTIONS,
    TOO_MANY_ORDERS,
    TOO_MANY_STREAMS,
    UNNAMED,
    ExitCode,
    Message,
)

UNCHANGED = Text(N_("Nothing was changed."))
ASK = Text(N_("'ncen-updater status' says how the site is."))


class Refused(UpdaterError):
    """A request that was refused before anything was changed."""

    def __init__(self, message: Message | None = None, /, **values: object) -> None:
        detail = values.pop("detail", None)
        super().__init__(message, state=UNCHANGED, detail=str(detail) if detail else None, **values)


class NoSuchThing(Refused):
    """An address, a change or an order that is not there."""

    message = NO_SUCH_THING


class MethodNotAllowed(Refused):
    """A method that an address does not take."""

    message = METHOD_NOT_ALLOWED


class BadRequest(Refused):
    """A request that cannot be understood."""

    message = BAD_REQUEST


class RequestTooLarge(Refused):
    """A request that is larger than any that makes sense."""

    message = TOO_LARGE


class NotAllowed(Refused):
    """A person who may not do this."""

    message = NOT_ALLOWED


class TooManyOrders(Refused):
    """More orders than anybody gives on purpose."""

    message = TOO_MANY_ORDERS


class InspectionGoesOn(Refused):
    """What is looked at takes longer than an answer may."""

    message = INSPECTION_GOES_ON


class TooManyInspections(Refused):
    """More inspections than one process after the other makes in a time."""

    message = TOO_MANY_INSPECTIONS


class TooManyStreams(Refused):
    """More listeners than the service has room for."""

    message = TOO_MANY_STREAMS


class TooManyActs(Refused):
    """More changes than a person makes."""

    message = TOO_MANY_ACTS


class TooManyConnections(Refused):
    """More connections of one user than anybody needs."""

    message = TOO_MANY_CONNECTIONS


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
    NoSuchThing: 404,
    MethodNotAllowed: 405,
    RequestTooLarge: 413,
    NotAllowed: 403,
    ConfigError: 409,
    ConfigInvalid: 409,
    TooManyActs: 429,
    TooManyOrders: 429,
    TooManyInspections: 429,
    InspectionGoesOn: 503,
    TooManyStreams: 503,
    TooManyConnections: 503,
}


_SAID: Mapping[Message, int] = {
    NOTHING_TO_APPROVE: 409,
    NOTHING_TO_CONFIRM: 409,
    ROOT_IS_NOBODY: 403,
}


def status_of(error: UpdaterError) -> int:
    """Return the status of HTTP that tells of an error; pure."""
    exactly = _EXACTLY.get(type(error)) or _SAID.get(error.message)
    return exactly or STATUS.get(error.exit_code, 500)


class ToldError(UpdaterError):
    """An error that the service told of: its words are said as they came."""

    @property
    def what_text(self) -> Text:
        """What happened."""
        return Text("{words}", {"words": self.message.what})

    @property
    def remedy_text(self) -> Text:
        """What to do."""
        return Text("{words}", {"words": self.message.remedy})


def refusal(document: Mapping[str, object]) -> UpdaterError:
    """Return the error that the service told of, with its own code and words."""
    code, number = document.get("code"), document.get("exit_code")
    error = ToldError(
        Message(
            code if isinstance(code, str) else UNNAMED.code,
            str(document.get("what")),
            str(document.get("remedy")),
            next((item for item in ExitCode if item == number), ExitCode.ERROR),
        )
    )
    values, detail, state = document.get("values"), document.get("detail"), document.get("state")
    error.values = dict(values) if isinstance(values, dict) else {}
    # What this process may read of the site says less than the service knows.
    error.state = Text("{said}", {"said": state}) if isinstance(state, str) and state else ASK
    error.detail = detail if isinstance(detail, str) else None
    return error
