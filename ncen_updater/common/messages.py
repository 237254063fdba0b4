"""Table of all errors: stable code, title, state, remedy, exit code.

The table is ``messages.toml``. ``script/messages`` compiles it to ``messages.json``, which is quick
to read, and prints it as ``docs/reference/messages.md``; the names that may be imported stand
below. The number of a code is never used twice and never changes its meaning; the thousands say
where it comes from. Findings of the preflight and of ``lint`` have codes of their own where they
are made.

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
    OUTSIDE_WINDOW_OR_HELD = 5
    TRUST = 6
    NETWORK = 7
    SPACE = 8
    BUSY = 9
    UPDATE_AVAILABLE = 10
    ROLLED_BACK = 11
    INTERVENTION_NEEDED = 12
    REHEARSAL_STALE = 13
    FEED_STALE = 14


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """What an error says.

    Attributes:
        code: ``NU-`` and four digits.
        title: Template of what happened, English; its ``{places}`` are filled when it is raised.
        remedy: Template of what to do.
        exit_code: What a command ends with.
        state: Template of the state now, where the error alone says what that is; None where it is
            asked for when the error is shown.
    """

    code: str
    title: str
    remedy: str
    exit_code: ExitCode = ExitCode.ERROR
    state: str | None = None


UNEXPECTED: ErrorMessage
UNNAMED: ErrorMessage
CONFIG_ERROR: ErrorMessage
CONFIG_UNREADABLE: ErrorMessage
CONFIG_TOO_LARGE: ErrorMessage
CONFIG_NOT_TOML: ErrorMessage
CONFIG_INVALID: ErrorMessage
CONFIG_EXPOSED: ErrorMessage
RUNNER_UNIT_MISMATCH: ErrorMessage
CONFIG_TYPOGRAPHIC_QUOTES: ErrorMessage
CONFIG_DUPLICATE_KEY: ErrorMessage
CONFIG_NOT_TEXT: ErrorMessage
CONFIG_MISSING: ErrorMessage
BAD_USAGE: ErrorMessage
CONFIRMATION_NEEDED: ErrorMessage
CONFIRMATION_DECLINED: ErrorMessage
BAD_VERSION: ErrorMessage
BAD_TIME: ErrorMessage
UNKNOWN_CHANGE: ErrorMessage
TIME_PASSED: ErrorMessage
COMMAND_INTERRUPTED: ErrorMessage
OUTPUT_LOST: ErrorMessage
NOT_A_MEMBER: ErrorMessage
LOG_IN_AGAIN: ErrorMessage
MEMBER_NEEDS_ROOT: ErrorMessage
UNKNOWN_COMMAND: ErrorMessage
VERSION_NOT_ACCEPTED: ErrorMessage
CONFIG_GROUP_MISMATCH: ErrorMessage
SETUP_NOT_ROOT: ErrorMessage
SETUP_NOT_FOUND: ErrorMessage
SETUP_ANSWERS_NEEDED: ErrorMessage
SETUP_FINGERPRINT_MISMATCH: ErrorMessage
SETUP_CONFIGURED: ErrorMessage
SETUP_FILE_UNSAFE: ErrorMessage
SETUP_FILE_CHANGED: ErrorMessage
SETUP_STEP_FAILED: ErrorMessage
SETUP_LOGIN_BROKEN: ErrorMessage
SETUP_UNDO_FAILED: ErrorMessage
SETUP_IN_USE: ErrorMessage
SETUP_RECORD_DAMAGED: ErrorMessage
SETUP_NOTHING_TO_UNDO: ErrorMessage
SETUP_COMMAND_FAILED: ErrorMessage
SETUP_DATABASE_REFUSED: ErrorMessage
SETUP_UNIT_UNFIT: ErrorMessage
SETUP_UNHEALTHY: ErrorMessage
SETUP_UNDONE_UNHEALTHY: ErrorMessage
SETUP_OTHER_CONFIG: ErrorMessage
SETUP_RECORD_NEWER: ErrorMessage
SETUP_LOGINS_DIFFER: ErrorMessage
SETUP_PAGE_NOT_SHOWN: ErrorMessage
SETUP_ROOT_UNUSABLE: ErrorMessage
SETUP_ACCOUNT_MISSING: ErrorMessage
SETUP_GROUP_MISSING: ErrorMessage
SETUP_VERSION_UNKNOWN: ErrorMessage
TRUST_ERROR: ErrorMessage
TRUSTED_ROOT_MISSING: ErrorMessage
FEED_BAD_SIGNATURE: ErrorMessage
ROLLBACK_REFUSED: ErrorMessage
METADATA_DAMAGED: ErrorMessage
WRONG_DIGEST: ErrorMessage
ROLE_EXPIRED: ErrorMessage
CLOCK_WRONG: ErrorMessage
MIXED_VERSIONS: ErrorMessage
ROOT_CHAIN_BROKEN: ErrorMessage
PRODUCT_NOT_IN_FEED: ErrorMessage
OFFER_INVALID: ErrorMessage
OFFER_CHANGED: ErrorMessage
OFFER_WITHDRAWN: ErrorMessage
DOCUMENT_MISMATCH: ErrorMessage
TREE_MISMATCH: ErrorMessage
VIEW_DAMAGED: ErrorMessage
FEED_TARGET_MISSING: ErrorMessage
LOCAL_STORE_FAILED: ErrorMessage
READER_FAILED: ErrorMessage
ROOTS_HIDDEN: ErrorMessage
WRONG_ROLE: ErrorMessage
OFFLINE_ROLE_EXPIRED: ErrorMessage
WRONG_PRODUCT: ErrorMessage
OFFER_HALTED: ErrorMessage
DOWNLOAD_NOT_VERIFIED: ErrorMessage
READER_TIMED_OUT: ErrorMessage
METADATA_OLDER_THAN_TRUSTED: ErrorMessage
TRUST_STATE_DAMAGED: ErrorMessage
METADATA_NOT_VERIFIED: ErrorMessage
READER_FILLS_DISK: ErrorMessage
FEED_ERROR: ErrorMessage
FEED_UNREACHABLE: ErrorMessage
FEED_TLS: ErrorMessage
CAPTIVE_PORTAL: ErrorMessage
FEED_TOO_SLOW: ErrorMessage
FEED_STATUS: ErrorMessage
FEED_CONNECTION_LOST: ErrorMessage
FEED_RESPONSE_TOO_LONG: ErrorMessage
FEED_PROXY: ErrorMessage
FEED_REDIRECTED: ErrorMessage
PATH_ERROR: ErrorMessage
TARGET_UNKNOWN: ErrorMessage
TARGET_FOR_OTHER_COUNTRY: ErrorMessage
TARGET_OTHER_CHANNEL: ErrorMessage
TARGET_WITHDRAWN: ErrorMessage
TARGET_NEEDS_NEWER_AGENT: ErrorMessage
TARGET_BAD: ErrorMessage
TARGET_NOT_NEWER: ErrorMessage
NO_PATH_TO_TARGET: ErrorMessage
TARGET_HALTED: ErrorMessage
TARGET_RUNS_HERE: ErrorMessage
NOT_A_BUNDLE: ErrorMessage
BUNDLE_TRUNCATED: ErrorMessage
BUNDLE_ALTERED: ErrorMessage
BUNDLE_UNSAFE: ErrorMessage
BUNDLE_INCOMPLETE: ErrorMessage
BUNDLE_NOT_SIGNED: ErrorMessage
BUNDLE_OLDER: ErrorMessage
BUNDLE_TOO_OLD: ErrorMessage
BUNDLE_OTHER_PRODUCT: ErrorMessage
BUNDLE_OTHER_COUNTRY: ErrorMessage
BUNDLE_DOES_NOT_FIT: ErrorMessage
BUNDLE_UNREADABLE: ErrorMessage
NOT_IMPORTED: ErrorMessage
NOTHING_IMPORTED: ErrorMessage
METADATA_LOCKED: ErrorMessage
MIRROR_BUSY: ErrorMessage
MIRROR_NOT_OURS: ErrorMessage
PACK_UNUSABLE: ErrorMessage
NO_FEED_TO_MIRROR: ErrorMessage
MIRROR_FORBIDDEN: ErrorMessage
MIRROR_OLDER: ErrorMessage
BAD_MANIFEST: ErrorMessage
BAD_RELEASE: ErrorMessage
BAD_TREE: ErrorMessage
TRANSFER_ERROR: ErrorMessage
INSUFFICIENT_SPACE: ErrorMessage
DOWNLOAD_DAMAGED: ErrorMessage
ARCHIVE_MISMATCH: ErrorMessage
ARCHIVE_DAMAGED: ErrorMessage
DESTINATION_IN_USE: ErrorMessage
DISK_FULL: ErrorMessage
DELTA_ERROR: ErrorMessage
DELTA_DAMAGED: ErrorMessage
DELTA_FOR_ANOTHER_BASE: ErrorMessage
DELTA_PATH_REFUSED: ErrorMessage
DELTA_OVER_LIMIT: ErrorMessage
DELTA_RANGE_REFUSED: ErrorMessage
DELTA_UNSUPPORTED: ErrorMessage
OLD_FILE_ALTERED: ErrorMessage
DELTA_BUILD_FAILED: ErrorMessage
DELTA_NOT_POSSIBLE: ErrorMessage
DELTA_NOT_VERIFIED: ErrorMessage
SLOT_ERROR: ErrorMessage
CURRENT_LINK_INVALID: ErrorMessage
SLOT_MISSING: ErrorMessage
RECORD_UNUSABLE: ErrorMessage
SLOT_IN_USE: ErrorMessage
SLOT_DIFFERS: ErrorMessage
SLOT_NOT_WRITTEN: ErrorMessage
SLOT_NO_SPACE: ErrorMessage
OVERLAY_NOT_WRITTEN: ErrorMessage
OVERLAY_FILE_UNUSABLE: ErrorMessage
OVERLAY_NOT_SET: ErrorMessage
OVERLAY_LANGUAGE_UNKNOWN: ErrorMessage
OVERLAY_FILE_AMBIGUOUS: ErrorMessage
DATABASE_ERROR: ErrorMessage
DATABASE_UNREACHABLE: ErrorMessage
FENCE_FAILED: ErrorMessage
COPY_FAILED: ErrorMessage
MIGRATION_REFUSED: ErrorMessage
MIGRATION_FAILED: ErrorMessage
VERIFY_FAILED: ErrorMessage
CUT_OVER_FAILED: ErrorMessage
MARKERS_DISAGREE: ErrorMessage
QUERY_FAILED: ErrorMessage
REFERENCES_BROKEN: ErrorMessage
FENCED_BY_OTHER: ErrorMessage
LEDGER_UNREADABLE: ErrorMessage
ALREADY_COMMITTED: ErrorMessage
DATABASE_CLOSED: ErrorMessage
FENCE_BROKEN: ErrorMessage
ROWS_UNREADABLE: ErrorMessage
TABLESPACE_CLOSED: ErrorMessage
ROLES_LOCKED_OUT: ErrorMessage
SERVER_LOST: ErrorMessage
DATABASE_DISK_FAILED: ErrorMessage
ROLE_UNKNOWN: ErrorMessage
PASSWORD_REFUSED: ErrorMessage
PASSWORD_MISSING: ErrorMessage
DATABASE_UNKNOWN: ErrorMessage
ROLE_LOGIN_REFUSED: ErrorMessage
DATABASE_LOGIN_REFUSED: ErrorMessage
PREPARED_TRANSACTIONS: ErrorMessage
DATABASE_SET_INCOMPLETE: ErrorMessage
ATTRIBUTES_DIFFER: ErrorMessage
PREVIOUS_DATABASE_MISSING: ErrorMessage
DUMP_FAILED: ErrorMessage
ORPHAN_DIRECTORY: ErrorMessage
PROGRAMS_DIFFER: ErrorMessage
APPLICATION_SHUT_OUT: ErrorMessage
MIGRATION_FILE_BAD: ErrorMessage
CHECK_RESULT_INVALID: ErrorMessage
MIGRATOR_MISSING: ErrorMessage
MIGRATOR_FAILED: ErrorMessage
MIGRATOR_USER_UNKNOWN: ErrorMessage
MIGRATOR_OUTSIDE: ErrorMessage
EXPAND_FAILED: ErrorMessage
EXPAND_RUNNING: ErrorMessage
CONTRACT_FAILED: ErrorMessage
NOT_A_DATABASE_SET: ErrorMessage
DATABASE_SET_MISSING: ErrorMessage
FENCED_FILES_CHANGED: ErrorMessage
FENCE_SNAPSHOT_UNREADABLE: ErrorMessage
NOT_A_PLAIN_FILE: ErrorMessage
SITE_FILES_NOT_SAVED: ErrorMessage
SITE_FILES_NOT_RESTORED: ErrorMessage
DIRECTORY_NOT_PRIVATE: ErrorMessage
INDEX_UNUSABLE: ErrorMessage
APPLICATION_ERROR: ErrorMessage
COMMAND_FAILED: ErrorMessage
STOP_FAILED: ErrorMessage
STATE_UNKNOWN: ErrorMessage
MAINTENANCE_FILE_STUCK: ErrorMessage
HEALTH_SETTINGS_WRONG: ErrorMessage
APPLICATION_COMMAND_RUNNING: ErrorMessage
PART_STOP_FAILED: ErrorMessage
STOPPED_BUT_ANSWERS: ErrorMessage
HEALTH_UNDECIDED: ErrorMessage
MAINTENANCE_PAGE_NOT_SHOWN: ErrorMessage
HEALTH_TOKEN_MISSING: ErrorMessage
HEALTH_TOKEN_EXPOSED: ErrorMessage
HEALTH_TOKEN_BAD: ErrorMessage
STOPPED_BUT_REPORTS_VERSION: ErrorMessage
HEALTH_ACCESS_DENIED: ErrorMessage
JOURNAL_MISSING: ErrorMessage
JOURNAL_UNREADABLE: ErrorMessage
JOURNAL_UNWRITABLE: ErrorMessage
BUSY: ErrorMessage
OPEN_CHANGE: ErrorMessage
STEP_NOT_EFFECTIVE: ErrorMessage
CHECKS_FAILED: ErrorMessage
UNHEALTHY: ErrorMessage
SOAK_FAILED: ErrorMessage
INTERRUPTED: ErrorMessage
CHANGE_FAILED: ErrorMessage
REVERT_FAILED: ErrorMessage
INTERVENTION_NEEDED: ErrorMessage
NOTHING_TO_ROLL_BACK: ErrorMessage
RECORDS_WOULD_BE_LOST: ErrorMessage
NOTHING_TO_CONFIRM: ErrorMessage
JOURNAL_EXISTS: ErrorMessage
PREFLIGHT_BLOCKED: ErrorMessage
RELEASE_NOT_ON_OFFER: ErrorMessage
HELD: ErrorMessage
LOCK_UNUSABLE: ErrorMessage
WINDOW_CLOSED: ErrorMessage
APPROVAL_MISSING: ErrorMessage
NOT_REHEARSED: ErrorMessage
REHEARSAL_OUTDATED: ErrorMessage
REHEARSAL_FAILED: ErrorMessage
NOTHING_TO_APPROVE: ErrorMessage
LATER_HOP_FAILED: ErrorMessage
APPROVER_IS_SHARED_ACCOUNT: ErrorMessage
JOURNAL_FORBIDDEN: ErrorMessage
REHEARSAL_INCOMPLETE_COPY: ErrorMessage
PREVIOUS_SCHEMA_CHANGED: ErrorMessage
UNDECLARED_DATA_LOSS: ErrorMessage
RELEASE_NOT_ON_DISK: ErrorMessage
RESTORED_DATABASE_MISMATCH: ErrorMessage
STOP_APPLICATION_FIRST: ErrorMessage
JOURNAL_INTERRUPTED: ErrorMessage
ROLLBACK_PLAN_CHANGED: ErrorMessage
NEW_ROWS_WOULD_BE_LOST: ErrorMessage
ROLLBACK_NEEDS_APPROVAL: ErrorMessage
EMERGENCY_WITHOUT_REASON: ErrorMessage
ADOPT_VERSION_MISMATCH: ErrorMessage
ADOPT_DATABASE_MISMATCH: ErrorMessage
VERSION_NOT_REPORTED: ErrorMessage
CURRENT_LINK_MISMATCH: ErrorMessage
DATABASES_ALREADY_MANAGED: ErrorMessage
ALREADY_ADOPTED: ErrorMessage
JOURNAL_NO_ROOM: ErrorMessage
SOAK_DATABASES_DOWN: ErrorMessage
FEED_NEVER_READ: ErrorMessage
SOAK_DISK_FULL: ErrorMessage
DATA_LOSS_ABOVE_APPROVAL: ErrorMessage
SOAK_NOT_FINISHED: ErrorMessage
RELEASE_FILES_ALTERED: ErrorMessage
APPLICATION_UNWELL: ErrorMessage
SMOKE_FAILED: ErrorMessage
OUTSIDE_UNIT: ErrorMessage
BAD_KEY_FILE: ErrorMessage
WRONG_PASSPHRASE: ErrorMessage
DUPLICATE_KEY: ErrorMessage
BAD_CEREMONY: ErrorMessage
FEED_BROKEN: ErrorMessage
BAD_EVENT: ErrorMessage
DIGEST_MISMATCH: ErrorMessage
KEY_NOT_ALLOWED: ErrorMessage
PUBLISHER_BAD_SIGNATURE: ErrorMessage
BELOW_THRESHOLD: ErrorMessage
STALE_EVENT: ErrorMessage
ALREADY_PUBLISHED: ErrorMessage
PUBLISHER_TARGET_MISSING: ErrorMessage
BUILD_REFUSED: ErrorMessage
FEED_BUSY: ErrorMessage
UNKNOWN_RELEASE: ErrorMessage
NOTHING_TO_DO: ErrorMessage
FEED_EXISTS: ErrorMessage
KEY_CHANGE_NOT_ATOMIC: ErrorMessage
BAD_PASSPHRASE_SOURCE: ErrorMessage
PUBLISHER_ROLE_EXPIRED: ErrorMessage
UNKNOWN_PRODUCT: ErrorMessage
WRITE_FAILED: ErrorMessage
DIGEST_SHORT: ErrorMessage
LINT_REFUSES: ErrorMessage
ONE_SIGNATURE: ErrorMessage
PRODUCT_NEEDED: ErrorMessage
PASSPHRASE_SHORT: ErrorMessage
KEY_EXISTS: ErrorMessage
KEY_READABLE: ErrorMessage
OTHER_DRAFT_SIGNED: ErrorMessage
LEDGER_BROKEN: ErrorMessage
HISTORY_BROKEN: ErrorMessage
RELEASE_NOT_EMPTY: ErrorMessage
SANDBOX_UNUSABLE: ErrorMessage
KEY_NAME: ErrorMessage
NO_TERMINAL_FOR_PASSPHRASE: ErrorMessage
UNSOUND_DRAFT: ErrorMessage
BAD_DATES: ErrorMessage
EVENT_BASE_UNTRUSTED: ErrorMessage
TOKEN_UNUSABLE: ErrorMessage
WRONG_PIN: ErrorMessage
NO_TOKEN_SUPPORT: ErrorMessage
TOKEN_LOCKED: ErrorMessage
PUBLISHER_BUNDLE_EXISTS: ErrorMessage
NOTHING_TO_EXPORT: ErrorMessage
UNUSABLE_BUNDLE: ErrorMessage
RELEASE_NOT_FOR_SITE: ErrorMessage
FILE_TOO_LARGE: ErrorMessage
STORAGE_INVALID: ErrorMessage
STORAGE_FAILED: ErrorMessage
OTHER_FEED: ErrorMessage
STORAGE_AHEAD: ErrorMessage
STORAGE_DIFFERS: ErrorMessage
STORAGE_NO_CREDENTIALS: ErrorMessage
SBOM_INVALID: ErrorMessage
PROVENANCE_INVALID: ErrorMessage
BUILDER_KEY_MISSING: ErrorMessage
REVIEW_FILES_MISSING: ErrorMessage
EMERGENCY_HALT_ALREADY_USED: ErrorMessage
EMERGENCY_HALT_INVALID: ErrorMessage
TOO_MANY_EMERGENCY_HALTS: ErrorMessage
SIGNER_SETTINGS_INVALID: ErrorMessage
SIGNER_SETTINGS_EXPOSED: ErrorMessage
SIGNER_SETTINGS_HOLD_SECRET: ErrorMessage
OWN_ROOT_UNUSABLE: ErrorMessage
FEED_DIRECTORY_MISSING: ErrorMessage
DOSSIER_UNWRITTEN: ErrorMessage
SOCKET_UNUSABLE: ErrorMessage
SOCKET_TAKEN: ErrorMessage
NO_SERVICE: ErrorMessage
SERVICE_SILENT: ErrorMessage
JOB_INTERRUPTED: ErrorMessage
API_PATH_UNKNOWN: ErrorMessage
METHOD_NOT_ALLOWED: ErrorMessage
BAD_REQUEST: ErrorMessage
TOO_LARGE: ErrorMessage
NOT_ALLOWED: ErrorMessage
APPROVAL_SUBJECT_CHANGED: ErrorMessage
NEXT_UPGRADE_UNKNOWN: ErrorMessage
NOT_THE_NEXT_UPGRADE: ErrorMessage
JOB_ALREADY_QUEUED: ErrorMessage
TOO_MANY_JOBS: ErrorMessage
TOO_MANY_STREAMS: ErrorMessage
JOB_EXPIRED: ErrorMessage
TOO_MANY_CONNECTIONS: ErrorMessage
NOT_PREPARED: ErrorMessage
TOO_MANY_INSPECTIONS: ErrorMessage
INSPECTION_PREEMPTED: ErrorMessage
INSPECTION_OVERDUE: ErrorMessage
INSPECTION_TOO_LARGE: ErrorMessage
INSPECTION_FAILED: ErrorMessage
INSPECTION_RUNNING: ErrorMessage
SOAK_ENDED_BY_ROLLBACK: ErrorMessage
TOO_MANY_ACTIONS: ErrorMessage
INBOX_UNUSABLE: ErrorMessage
INBOX_FILE_REJECTED: ErrorMessage
DATA_LOSS_NEEDS_APPROVER: ErrorMessage
RELEASE_NOT_REHEARSED: ErrorMessage
JOB_UNKNOWN: ErrorMessage
SERVICE_OTHER_CONFIGURATION: ErrorMessage
SEQUENCE_DAMAGED: ErrorMessage
SEQUENCE_UNWRITABLE: ErrorMessage
AGENT_NOT_FROM_SLOT: ErrorMessage
AGENT_ON_TRIAL: ErrorMessage
AGENT_SLOT_FAILED: ErrorMessage
AGENT_NOT_CONFIRMED: ErrorMessage
AGENT_RELEASE_UNUSABLE: ErrorMessage
ROOT_UNUSABLE: ErrorMessage
ROOT_ALREADY_INSTALLED: ErrorMessage
INSTALL_FAILED: ErrorMessage
CHANGE_STILL_OPEN: ErrorMessage
WHEELS_UNUSABLE: ErrorMessage
SERVICE_STILL_RUNS: ErrorMessage
INSTALLED_BY_PACKAGE: ErrorMessage
READER_UNIT_UNREACHABLE: ErrorMessage
NOTIFY_ERROR: ErrorMessage
MAIL_UNREACHABLE: ErrorMessage
MAIL_REFUSED: ErrorMessage
WRONG_PASSWORD: ErrorMessage
NOTIFICATION_TLS_FAILED: ErrorMessage
WEBHOOK_UNREACHABLE: ErrorMessage
WEBHOOK_REFUSED: ErrorMessage
SECRET_MISSING: ErrorMessage
SECRET_EXPOSED: ErrorMessage
SENDER_FAILED: ErrorMessage
WORKER_REQUEST_INVALID: ErrorMessage
BUNDLE_LEAKS: ErrorMessage
BUNDLE_UNWRITABLE: ErrorMessage
SUPPORT_BUNDLE_EXISTS: ErrorMessage
UNKNOWN_PART: ErrorMessage
CONSOLE_LINK_EXPIRED: ErrorMessage
CONSOLE_NO_SESSION: ErrorMessage
CONSOLE_CROSS_SITE: ErrorMessage
CONSOLE_FORM: ErrorMessage
CONSOLE_NO_PAGE: ErrorMessage
CONSOLE_PORT: ErrorMessage
CONSOLE_PEER_UNKNOWN: ErrorMessage
CONSOLE_TOO_MUCH: ErrorMessage
CONSOLE_LOSS_COUNT_MISMATCH: ErrorMessage
CONSOLE_NOT_LOGGED_IN: ErrorMessage
CONSOLE_PASSWORD: ErrorMessage
CONSOLE_LOGIN_THROTTLED: ErrorMessage
CONSOLE_EXPIRED: ErrorMessage
CONSOLE_SECOND_SECRET: ErrorMessage
CONSOLE_NO_LOGIN: ErrorMessage
CONSOLE_BUSY: ErrorMessage
RECEIPT_INVALID: ErrorMessage
RECEIPT_KEY_UNUSABLE: ErrorMessage
RECEIPTS_OFF: ErrorMessage
RECEIPT_UNWRITABLE: ErrorMessage
RECEIPT_REPLAYED: ErrorMessage
RECEIPT_CONTRADICTORY: ErrorMessage
RECEIPT_COUNTRY_MISMATCH: ErrorMessage
RECEIPT_RELEASE_UNKNOWN: ErrorMessage
RECEIPT_KEY_MISMATCH: ErrorMessage
FLEET_UNUSABLE: ErrorMessage
FLEET_SITE_UNKNOWN: ErrorMessage
REGIONS_INVALID: ErrorMessage
PUBLICATION_WAITS: ErrorMessage
RECEIPT_ADDRESS_UNKNOWN: ErrorMessage
RECEIPT_NOT_DELIVERED: ErrorMessage
SPOOL_UNUSABLE: ErrorMessage
RECEIPT_TOO_LARGE: ErrorMessage
RECEIPTS_UNCONFIRMED: ErrorMessage


def _read() -> dict[str, ErrorMessage]:
    rows = json.loads(Path(__file__).with_name("messages.json").read_bytes())
    return {
        name: ErrorMessage(row["code"], row["title"], row["remedy"],
                      ExitCode[row.get("exit_code", "ERROR")], row.get("state"))
        for name, row in rows.items()
    }  # fmt: skip


MESSAGES = _read()
globals().update(MESSAGES)
# The name that stands for what has none comes last and shares its code with UNEXPECTED.
_BY_CODE = {message.code: message for message in (*MESSAGES.values(), MESSAGES["UNEXPECTED"])}


def find_message(code: str) -> ErrorMessage | None:
    """Return what a code says; None for one that is not known here."""
    return _BY_CODE.get(code)
