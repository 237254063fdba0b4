"""Every error that people may meet: stable code, what happened, what to do, exit code; one table.

The table is ``messages.toml``. ``script/messages`` compiles it to ``messages.json``, which is quick
to read, and prints it as ``docs/messages.md``; the names that may be imported stand below. The
number of a code is never used twice and never changes its meaning; the thousands say where it comes
from. Findings of the preflight and of ``lint`` have codes of their own where they are made.

This module is on the path of ``ncen-updater status`` and imports nothing heavy.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """Exit codes of both programs; stable."""

    OK = 0
    ERROR = 1
    USAGE = 2
    BLOCKED = 3
    APPROVAL_MISSING = 4
    HELD = 5
    TRUST = 6
    NETWORK = 7
    SPACE = 8
    BUSY = 9
    AVAILABLE = 10
    ROLLED_BACK = 11
    NEEDS_PERSON = 12
    REHEARSAL_STALE = 13
    FEED_STALE = 14


@dataclass(frozen=True, slots=True)
class Message:
    """What an error says.

    Attributes:
        code: ``NU-`` and four digits.
        what: Template of what happened, English; its ``{places}`` are filled when it is raised.
        remedy: Template of what to do.
        exit_code: What a command ends with.
        state: Template of the state now, where the error alone says what that is; None where it is
            asked for when the error is shown.
    """

    code: str
    what: str
    remedy: str
    exit_code: ExitCode = ExitCode.ERROR
    state: str | None = None


UNEXPECTED: Message
UNNAMED: Message
CONFIG_ERROR: Message
CONFIG_UNREADABLE: Message
CONFIG_TOO_LARGE: Message
CONFIG_NOT_TOML: Message
CONFIG_INVALID: Message
CONFIG_EXPOSED: Message
RUNNER_DOES_NOT_FIT: Message
CONFIG_QUOTES: Message
CONFIG_TWICE: Message
CONFIG_NOT_TEXT: Message
BAD_USAGE: Message
NEEDS_YES: Message
DECLINED: Message
BAD_VERSION: Message
BAD_TIME: Message
UNKNOWN_CHANGE: Message
TIME_PASSED: Message
STOPPED: Message
UNWRITTEN: Message
NOT_A_MEMBER: Message
LOG_IN_AGAIN: Message
MEMBER_NEEDS_ROOT: Message
UNKNOWN_COMMAND: Message
NO_VERSION_TAKEN: Message
CONFIG_OF_NO_GROUP: Message
TRUST_ERROR: Message
TRUSTED_ROOT_MISSING: Message
FEED_BAD_SIGNATURE: Message
ROLLBACK_REFUSED: Message
METADATA_DAMAGED: Message
WRONG_DIGEST: Message
ROLE_EXPIRED: Message
CLOCK_WRONG: Message
MIXED_VERSIONS: Message
ROOT_CHAIN_BROKEN: Message
PRODUCT_NOT_IN_FEED: Message
OFFER_INVALID: Message
OFFER_CHANGED: Message
OFFER_WITHDRAWN: Message
DOCUMENT_MISMATCH: Message
TREE_MISMATCH: Message
VIEW_DAMAGED: Message
FEED_TARGET_MISSING: Message
LOCAL_STORE_FAILED: Message
READER_FAILED: Message
ROOTS_HIDDEN: Message
WRONG_ROLE: Message
OFFICERS_ROLE_EXPIRED: Message
WRONG_PRODUCT: Message
OFFER_HALTED: Message
NOT_PROVED: Message
READER_OVERDUE: Message
PROVED_OLDER: Message
PROVED_DAMAGED: Message
LIST_NOT_PROVED: Message
READER_FILLS_DISK: Message
FEED_ERROR: Message
FEED_UNREACHABLE: Message
FEED_TLS: Message
CAPTIVE_PORTAL: Message
FEED_TOO_SLOW: Message
FEED_REFUSED: Message
FEED_CUT: Message
FEED_TOO_LONG: Message
FEED_PROXY: Message
FEED_REDIRECTED: Message
PATH_ERROR: Message
TARGET_UNKNOWN: Message
TARGET_FOR_OTHER_COUNTRY: Message
TARGET_OTHER_CHANNEL: Message
TARGET_WITHDRAWN: Message
TARGET_NEEDS_NEWER_AGENT: Message
TARGET_BAD: Message
TARGET_NOT_NEWER: Message
NO_PATH_TO_TARGET: Message
TARGET_HALTED: Message
TARGET_RUNS_HERE: Message
NOT_A_BUNDLE: Message
BUNDLE_CUT: Message
BUNDLE_ALTERED: Message
BUNDLE_UNSAFE: Message
BUNDLE_INCOMPLETE: Message
BUNDLE_NOT_SIGNED: Message
BUNDLE_OLDER: Message
BUNDLE_TOO_OLD: Message
BUNDLE_OTHER_PRODUCT: Message
BUNDLE_OTHER_COUNTRY: Message
BUNDLE_DOES_NOT_FIT: Message
BUNDLE_UNREADABLE: Message
NOT_IMPORTED: Message
NOTHING_IMPORTED: Message
LISTS_BUSY: Message
MIRROR_BUSY: Message
MIRROR_NOT_OURS: Message
PACK_UNUSABLE: Message
NO_FEED_TO_MIRROR: Message
MIRROR_FORBIDDEN: Message
MIRROR_OLDER: Message
BAD_MANIFEST: Message
BAD_RELEASE: Message
BAD_TREE: Message
TRANSFER_ERROR: Message
SPACE_SHORT: Message
DOWNLOAD_DAMAGED: Message
ARCHIVE_MISMATCH: Message
ARCHIVE_DAMAGED: Message
DESTINATION_IN_USE: Message
DISK_FULL: Message
DELTA_ERROR: Message
DELTA_DAMAGED: Message
DELTA_FOR_ANOTHER_BASE: Message
DELTA_PATH_REFUSED: Message
DELTA_OVER_LIMIT: Message
DELTA_RANGE_REFUSED: Message
DELTA_UNSUPPORTED: Message
OLD_FILE_ALTERED: Message
DELTA_NOT_MADE: Message
DELTA_NOT_POSSIBLE: Message
DELTA_NOT_PROVED: Message
SLOT_ERROR: Message
CURRENT_ASTRAY: Message
SLOT_MISSING: Message
RECORD_UNUSABLE: Message
SLOT_IN_USE: Message
SLOT_DIFFERS: Message
SLOT_NOT_WRITTEN: Message
SLOT_NO_SPACE: Message
OVERLAY_NOT_WRITTEN: Message
OVERLAY_FILE_UNUSABLE: Message
OVERLAY_NOT_SET: Message
NOTHING_CARRIED: Message
OVERLAY_WHICH_FILE: Message
DATABASE_ERROR: Message
DATABASE_UNREACHABLE: Message
FENCE_FAILED: Message
COPY_FAILED: Message
MIGRATION_REFUSED: Message
MIGRATION_FAILED: Message
VERIFY_FAILED: Message
CUT_OVER_FAILED: Message
MARKERS_DISAGREE: Message
QUERY_FAILED: Message
REFERENCES_BROKEN: Message
FENCED_BY_OTHER: Message
LEDGER_UNREADABLE: Message
OFFICERS_WERE_IN: Message
DATABASE_CLOSED: Message
DATABASE_OPENED: Message
ROWS_UNREADABLE: Message
TABLESPACE_CLOSED: Message
ROLES_LOCKED_OUT: Message
SERVER_LOST: Message
DATABASE_DISK_FAILED: Message
ROLE_UNKNOWN: Message
PASSWORD_REFUSED: Message
PASSWORD_MISSING: Message
DATABASE_UNKNOWN: Message
OWNER_REFUSED: Message
PREPARED_TRANSACTIONS: Message
SET_INCOMPLETE: Message
ATTRIBUTES_DIFFER: Message
WAY_BACK_MISSING: Message
DUMP_FAILED: Message
ORPHAN_DIRECTORY: Message
PROGRAMS_DIFFER: Message
APPLICATION_SHUT_OUT: Message
MIGRATION_FILE_BAD: Message
CHECK_MISSHAPEN: Message
MIGRATOR_MISSING: Message
MIGRATOR_FAILED: Message
MIGRATOR_NOBODY: Message
MIGRATOR_OUTSIDE: Message
EXPAND_FAILED: Message
EXPAND_UNDER_WAY: Message
CONTRACT_FAILED: Message
NOT_A_SET: Message
SET_MISSING: Message
FILES_WRITTEN: Message
NOTE_UNREADABLE: Message
NOT_PLAIN: Message
FILES_NOT_KEPT: Message
FILES_NOT_PUT_BACK: Message
PLACE_NOT_OURS: Message
INDEX_UNUSABLE: Message
APPLICATION_ERROR: Message
COMMAND_FAILED: Message
STOP_FAILED: Message
STATE_UNKNOWN: Message
DOOR_STUCK: Message
HEALTH_SETTINGS_WRONG: Message
ORDER_UNDER_WAY: Message
PART_STOP_FAILED: Message
ANOTHER_ANSWERS: Message
NEVER_ANSWERED: Message
FRONT_LETS_IN: Message
HEALTH_TOKEN_MISSING: Message
HEALTH_TOKEN_EXPOSED: Message
HEALTH_TOKEN_BAD: Message
COMMAND_SAYS_ANOTHER: Message
HEALTH_REFUSED: Message
JOURNAL_MISSING: Message
JOURNAL_UNREADABLE: Message
JOURNAL_UNWRITABLE: Message
BUSY: Message
OPEN_CHANGE: Message
STEP_DID_NOT_HOLD: Message
CHECKS_FAILED: Message
UNHEALTHY: Message
SOAK_FAILED: Message
INTERRUPTED: Message
CHANGE_FAILED: Message
GOING_BACK_FAILED: Message
NEEDS_PERSON: Message
NOTHING_TO_ROLL_BACK: Message
RECORDS_WOULD_BE_LOST: Message
NOTHING_TO_CONFIRM: Message
JOURNAL_EXISTS: Message
GUARD_BLOCKS: Message
RELEASE_NOT_ON_OFFER: Message
HELD: Message
LOCK_UNUSABLE: Message
WINDOW_CLOSED: Message
APPROVAL_MISSING: Message
NOT_REHEARSED: Message
REHEARSAL_OUTDATED: Message
REHEARSAL_FAILED: Message
NOTHING_TO_APPROVE: Message
LATER_HOP_FAILED: Message
ROOT_IS_NOBODY: Message
JOURNAL_FORBIDDEN: Message
REHEARSAL_LIMITED: Message
NOT_AS_KEPT: Message
UNTOLD_LOSS: Message
RELEASE_NOT_HERE: Message
RESTORED_IS_OTHER: Message
STOP_APPLICATION_FIRST: Message
JOURNAL_TORN: Message
WAY_BACK_CHANGED: Message
VALUES_WOULD_BE_LOST: Message
BACK_NEEDS_APPROVAL: Message
EMERGENCY_WITHOUT_REASON: Message
ADOPTED_IS_OTHER: Message
DATABASES_ARE_OTHER: Message
RELEASE_NOT_TOLD: Message
CURRENT_IS_OTHER: Message
DATABASES_KNOW: Message
TAKEN_OVER_ALREADY: Message
JOURNAL_NO_ROOM: Message
WATCHED_WITHOUT_DATABASES: Message
FEED_NEVER_READ: Message
WATCHED_ON_FULL_DISK: Message
LOSS_NOT_AGREED: Message
WATCHED_FIRST: Message
RELEASE_NOT_WHOLE: Message
APPLICATION_UNWELL: Message
SMOKE_FAILED: Message
OUTSIDE_UNIT: Message
BAD_KEY_FILE: Message
WRONG_PASSPHRASE: Message
DUPLICATE_KEY: Message
BAD_CEREMONY: Message
FEED_BROKEN: Message
BAD_EVENT: Message
DIGEST_MISMATCH: Message
KEY_NOT_ALLOWED: Message
PUBLISHER_BAD_SIGNATURE: Message
BELOW_THRESHOLD: Message
STALE_EVENT: Message
ALREADY_PUBLISHED: Message
PUBLISHER_TARGET_MISSING: Message
BUILD_REFUSED: Message
FEED_BUSY: Message
UNKNOWN_RELEASE: Message
NOTHING_TO_DO: Message
FEED_EXISTS: Message
NOT_ATOMIC: Message
BAD_PASSPHRASE_SOURCE: Message
ROLE_LAPSED: Message
UNKNOWN_PRODUCT: Message
WRITE_FAILED: Message
DIGEST_SHORT: Message
LINT_REFUSES: Message
ONE_SIGNATURE: Message
PRODUCT_NEEDED: Message
PASSPHRASE_SHORT: Message
KEY_EXISTS: Message
KEY_READABLE: Message
SIGNED_ANOTHER: Message
LEDGER_BROKEN: Message
HISTORY_BROKEN: Message
RELEASE_NOT_EMPTY: Message
NO_DESK_SITE: Message
KEY_NAME: Message
PASSPHRASE_UNASKED: Message
UNSOUND_DRAFT: Message
BAD_DATES: Message
UNTRUSTED_BASE: Message
TOKEN_UNUSABLE: Message
WRONG_PIN: Message
NO_TOKEN_SUPPORT: Message
TOKEN_LOCKED: Message
PUBLISHER_BUNDLE_EXISTS: Message
NOTHING_TO_EXPORT: Message
UNUSABLE_BUNDLE: Message
RELEASE_NOT_FOR_SITE: Message
FILE_TOO_LARGE: Message
PLACE_INVALID: Message
PLACE_FAILED: Message
OTHER_FEED: Message
PLACE_AHEAD: Message
PLACE_DIFFERS: Message
PLACE_NO_CREDENTIALS: Message
SBOM_INVALID: Message
PROVENANCE_INVALID: Message
BUILDER_KEY_MISSING: Message
PAPERS_MISSING: Message
BRAKE_SPENT: Message
BRAKE_NOT_SET: Message
BRAKES_FULL: Message
OFFICER_FILE_BAD: Message
OFFICER_FILE_OPEN: Message
OFFICER_FILE_SECRET: Message
OWN_ROOT_UNUSABLE: Message
FEED_AWAY: Message
DOSSIER_UNWRITTEN: Message
SOCKET_UNUSABLE: Message
SOCKET_TAKEN: Message
NO_SERVICE: Message
SERVICE_SILENT: Message
ORDER_TORN: Message
NO_SUCH_THING: Message
METHOD_NOT_ALLOWED: Message
BAD_REQUEST: Message
TOO_LARGE: Message
NOT_ALLOWED: Message
BINDING_CHANGED: Message
NOT_ASSESSED: Message
NOT_NEXT: Message
ALREADY_ORDERED: Message
TOO_MANY_ORDERS: Message
TOO_MANY_STREAMS: Message
ORDER_TOO_OLD: Message
TOO_MANY_CONNECTIONS: Message
NOT_PREPARED: Message
TOO_MANY_INSPECTIONS: Message
INSPECTION_GAVE_WAY: Message
INSPECTION_OVERDUE: Message
INSPECTION_TOO_LARGE: Message
INSPECTION_FAILED: Message
INSPECTION_GOES_ON: Message
WATCHING_ENDED_BY_ORDER: Message
TOO_MANY_ACTS: Message
TRAY_UNUSABLE: Message
TRAY_FILE: Message
LOSS_FOR_APPROVERS: Message
NOT_REHEARSED_BY_NAME: Message
ORDER_UNKNOWN: Message
SEQUENCE_DAMAGED: Message
SEQUENCE_UNWRITABLE: Message
AGENT_NOT_FROM_SLOT: Message
AGENT_ON_TRIAL: Message
AGENT_SLOT_FAILED: Message
AGENT_NOT_CONFIRMED: Message
AGENT_RELEASE_UNUSABLE: Message
ROOT_UNUSABLE: Message
ROOT_ALREADY_INSTALLED: Message
INSTALL_FAILED: Message
CHANGE_STILL_OPEN: Message
WHEELS_UNUSABLE: Message
SERVICE_STILL_RUNS: Message
CAME_WITH_PACKAGE: Message
READER_UNIT_AWAY: Message
NOTIFY_ERROR: Message
MAIL_UNREACHABLE: Message
MAIL_REFUSED: Message
WRONG_PASSWORD: Message
TELLING_TLS: Message
WEBHOOK_UNREACHABLE: Message
WEBHOOK_REFUSED: Message
SECRET_MISSING: Message
SECRET_EXPOSED: Message
SENDER_FAILED: Message
BAD_ORDER: Message
BUNDLE_LEAKS: Message
BUNDLE_UNWRITABLE: Message
SUPPORT_BUNDLE_EXISTS: Message
UNKNOWN_PART: Message
CONSOLE_KEY: Message
CONSOLE_NO_SESSION: Message
CONSOLE_FOREIGN: Message
CONSOLE_FORM: Message
CONSOLE_NO_PAGE: Message
CONSOLE_PORT: Message
CONSOLE_BLIND: Message
CONSOLE_TOO_MUCH: Message
CONSOLE_COUNT: Message
CONSOLE_NOT_IN: Message
CONSOLE_PASSWORD: Message
CONSOLE_WAIT: Message
CONSOLE_EXPIRED: Message
CONSOLE_SECOND_SECRET: Message
CONSOLE_NO_LOGIN: Message
CONSOLE_BUSY: Message


def _read() -> dict[str, Message]:
    rows = json.loads(Path(__file__).with_name("messages.json").read_bytes())
    return {
        name: Message(row["code"], row["what"], row["remedy"],
                      ExitCode[row.get("exit_code", "ERROR")], row.get("state"))
        for name, row in rows.items()
    }  # fmt: skip


MESSAGES = _read()
globals().update(MESSAGES)
# The name that stands for what has none comes last and shares its code with UNEXPECTED.
_BY_CODE = {message.code: message for message in (*MESSAGES.values(), MESSAGES["UNEXPECTED"])}


def message_of(code: str) -> Message | None:
    """Return what a code says; None for one that is not known here."""
    return _BY_CODE.get(code)
