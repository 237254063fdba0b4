"""Errors of the service's local API. Codes 9301 to 9399. Imports no large modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_records import error_to_json
from ncen_updater.common.messages import BAD_REQUEST, UNNAMED, ErrorMessage, ExitCode

NOTHING_CHANGED = LazyText(N_("Nothing was changed."))
ASK_FOR_STATUS = LazyText(N_("Run: ncen-updater status"))


class RequestRefusedError(UpdaterError):
    """A request that the service refused before changing anything."""

    def __init__(self, message: ErrorMessage | None = None, /, **values: object) -> None:
        detail = values.pop("detail", None)
        super().__init__(
            message, state=NOTHING_CHANGED, detail=str(detail) if detail else None, **values
        )


class BadRequestError(RequestRefusedError):
    """A malformed request."""

    message = BAD_REQUEST


class ReportedError(UpdaterError):
    """An error reported by the service; its texts are shown as received."""

    @property
    def title_text(self) -> LazyText:
        """Return the title."""
        return LazyText("{text}", {"text": self.message.title})

    @property
    def remedy_text(self) -> LazyText:
        """Return the remedy."""
        return LazyText("{text}", {"text": self.message.remedy})


def build_error_document(
    error: UpdaterError, state: Sequence[LazyText], language: str
) -> dict[str, object]:
    """Return the document of an error; arguments as of :func:`error_to_json`."""
    document = error_to_json(error, state, language)
    return {"error": {**document, "exit_code": int(error.exit_code)}}


def parse_error_document(document: Mapping[str, object]) -> UpdaterError:
    """Return the error that the service reported, with its own code and texts."""
    code, number = document.get("code"), document.get("exit_code")
    error = ReportedError(
        ErrorMessage(
            code if isinstance(code, str) else UNNAMED.code,
            str(document.get("title")),
            str(document.get("remedy")),
            next((item for item in ExitCode if item == number), ExitCode.ERROR),
        )
    )
    values, detail, state = document.get("values"), document.get("detail"), document.get("state")
    error.values = dict(values) if isinstance(values, dict) else {}
    # The service knows the state of the site; this process may not be permitted to read it.
    error.state = (
        LazyText("{state}", {"state": state})
        if isinstance(state, str) and state
        else ASK_FOR_STATUS
    )
    error.detail = detail if isinstance(detail, str) else None
    return error
