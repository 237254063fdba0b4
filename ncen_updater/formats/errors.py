"""Errors of the release format, and of transfers (codes 3100 to 3149)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ncen_updater.common.errors import UpdaterError, get_error_text
from ncen_updater.common.i18n import N_, LazyText, join_texts
from ncen_updater.common.messages import (
    BAD_MANIFEST,
    BAD_RELEASE,
    BAD_TREE,
    DOWNLOAD_DAMAGED,
    TRANSFER_ERROR,
)

#: Maximum number of mistakes listed in an error.
MAX_MISTAKES = 20


class ManifestError(UpdaterError):
    """An invalid manifest; ``detail`` lists up to 20 mistakes with their places."""

    message = BAD_MANIFEST


class ReleaseDocumentError(UpdaterError):
    """A release document that does not match the schema."""

    message = BAD_RELEASE


class TreeError(UpdaterError):
    """A directory or tree that cannot be a release; ``detail`` has the first reason."""

    message = BAD_TREE


class TransferError(UpdaterError):
    """Base of errors of received bytes: missing, damaged or unexpected."""

    message = TRANSFER_ERROR
    code_range = range(3100, 3150)


class DownloadDamagedError(TransferError):
    """Wrong bytes from every address; verified chunks are kept."""

    message = DOWNLOAD_DAMAGED


def describe_excess(length: int, limit: int) -> LazyText:
    """Return why a document that is too large was refused."""
    return LazyText("{length} bytes, more than {limit}", {"length": length, "limit": limit})


def describe_mistakes(error: Exception, whole: str, known: Iterable[str] = ()) -> LazyText | str:
    """Return why a document was refused: its mistakes with their places, or the parser's message.

    Our own reasons are translated when they are shown; other messages of libraries are not.

    Args:
        error: The exception of the model or the parser.
        whole: Place to name for a mistake that concerns the whole document.
        known: Names to list for an unknown one.
    """
    if not isinstance(error, ValidationError):
        return get_error_text(error)
    found = error.errors(include_url=False, include_input=False)
    return join_texts(
        LazyText(
            N_("{name}: {text}"),
            {
                "name": ".".join(str(part)[:100] for part in item["loc"]) or whole,
                "text": _describe_mistake(item, ", ".join(known)),
            },
        )
        for item in islice(found, MAX_MISTAKES)
    )


def _describe_mistake(item: ErrorDetails, known: str) -> LazyText | str:
    if item["type"] == "value_error":
        return get_error_text(item["ctx"]["error"])
    if item["type"] == "missing":
        return LazyText(N_("missing"))
    if item["type"] == "extra_forbidden":
        template = N_("unknown name; known: {known}") if known else N_("unknown name")
        return LazyText(template, {"known": known})
    return item["msg"]
