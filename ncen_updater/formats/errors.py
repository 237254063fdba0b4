"""Errors of the release format, and of transfers (codes 3100 to 3149)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
#: Remedies by pydantic error type; {values} come from the error's context.
REMEDIES: Mapping[str, str] = {
    "string_type": N_("Put the value in quotes."),
    "path_type": N_("Put the value in quotes."),
    "int_type": N_("Write digits without quotes."),
    "int_parsing": N_("Write digits without quotes."),
    "int_from_float": N_("Write it without a fraction."),
    "float_type": N_("Write digits without quotes."),
    "float_parsing": N_("Write digits without quotes."),
    "finite_number": N_("Write digits without quotes."),
    "bool_type": N_("Write true or false without quotes."),
    "bool_parsing": N_("Write true or false without quotes."),
    "tuple_type": N_("Write a list, in square brackets: [...]"),
    "dict_type": N_("Write it as a table [{setting}], or in JSON as an object."),
    "model_type": N_("Write it as a table [{setting}], or in JSON as an object."),
    "too_short": N_("Add at least one."),
    "too_long": N_("Maximum number of entries: {max_length}."),
    "string_too_short": N_("Minimum length: {min_length}."),
    "string_too_long": N_("Maximum length: {max_length}."),
    "greater_than": N_("Use a value above {gt}."),
    "greater_than_equal": N_("Use at least {ge}."),
    "less_than": N_("Use a value below {lt}."),
    "less_than_equal": N_("Use at most {le}."),
    "literal_error": N_("Use one of: {expected}."),
    "enum": N_("Use one of: {expected}."),
}


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
    names = ", ".join(known)
    mistakes = []
    for item in islice(found, MAX_MISTAKES):
        name = ".".join(str(part)[:100] for part in item["loc"]) or whole
        text = _describe_mistake(item, name, names)
        mistakes.append(LazyText(N_("{name}: {text}"), {"name": name, "text": text}))
    return join_texts(mistakes)


def find_remedy(item: ErrorDetails, name: str) -> LazyText | None:
    """Return what to do about a value of a wrong type or size; None for other mistakes.

    Args:
        item: The mistake.
        name: Name of the value.
    """
    if item["type"] not in REMEDIES:
        return None
    values = {"setting": name, **item.get("ctx", {})}
    if isinstance(values.get("expected"), str):  # pydantic's "'a', 'b' or 'c'"
        values["expected"] = values["expected"].replace(" or ", ", ")
    return LazyText(REMEDIES[item["type"]], values)


def _describe_mistake(item: ErrorDetails, name: str, known: str) -> LazyText | str:
    if item["type"] == "value_error":
        return get_error_text(item["ctx"]["error"])
    if item["type"] == "missing":
        return LazyText(N_("missing"))
    if item["type"] == "extra_forbidden":
        template = N_("unknown name; known: {known}") if known else N_("unknown name")
        return LazyText(template, {"known": known})
    if item["type"] == "string_pattern_mismatch":
        return LazyText(N_("must match {pattern}"), item["ctx"])
    return find_remedy(item, name) or item["msg"]
