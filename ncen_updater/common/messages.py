"""Every error that people may meet: stable code, what happened, what to do, exit code; one table.

``docs/messages.md`` is this table printed. The number of a code is never used twice and never
changes its meaning; the thousands say where it comes from. Findings of the preflight and of
``lint`` have codes of their own where they are made.

This module is on the path of ``ncen-updater status`` and imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from ncen_updater.common.i18n import N_


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


@lru_cache(maxsize=1)
def _by_code() -> dict[str, Message]:
    # The name that stands for what has none comes last and shares its code with UNEXPECTED.
    found = [value for value in globals().values() if isinstance(value, Message)]
    return {message.code: message for message in (*found, UNEXPECTED)}


def message_of(code: str) -> Message | None:
    """Return what a code says; None for one that is not known here."""
    return _by_code().get(code)


# ---- 1xxx: command line and configuration ----------------------------------------------------

UNEXPECTED = Message(
    "NU-1000",
    N_("The program met something that it does not know: {kind}"),
    N_(
        "Run the command again with --verbose, and send what it shows to the Secretariat. "
        "'ncen-updater status' shows the site."
    ),
)
UNNAMED = Message(
    "NU-1000",
    N_("Something went wrong that has no name of its own."),
    N_("Send the Secretariat what 'ncen-updater doctor' and 'history' say."),
)
CONFIG_ERROR = Message(
    "NU-1001",
    N_("The configuration {path} cannot be used."),
    N_("Correct the file; docs/configuration.md explains every setting."),
)
CONFIG_UNREADABLE = Message(
    "NU-1002",
    N_("The configuration {path} cannot be read."),
    N_(
        "Give the right file with --config, and check who may read it. Where there is none yet: "
        "the Debian package brings /usr/share/doc/ncen-updater/examples/agent.toml, to be copied "
        "to /etc/ncen-updater/agent.toml and filled in."
    ),
)
CONFIG_TOO_LARGE = Message(
    "NU-1003",
    N_("The configuration {path} is larger than {limit_bytes}."),
    N_("Check that this is the agent's configuration and not another file."),
)
CONFIG_NOT_TOML = Message(
    "NU-1004",
    N_("The configuration {path} cannot be understood at {place}."),
    N_("Look there for a missing quote, bracket or equals sign, or a name given twice."),
)
CONFIG_INVALID = Message(
    "NU-1005",
    N_("The configuration {path} has mistakes: {count}."),
    N_("Correct each place that is named; docs/configuration.md explains every setting."),
)
CONFIG_EXPOSED = Message(
    "NU-1006",
    N_("Every user of this machine may change the configuration {path}."),
    N_("Run: chmod o-w {path}"),
)
RUNNER_DOES_NOT_FIT = Message(
    "NU-1007",
    N_(
        "The unit of this service has no network and no database, and {path} lets the service do"
        " the work itself."
    ),
    N_('Write runner = "systemd" below [service]: the units of the package do the work then.'),
)
CONFIG_QUOTES = Message(
    "NU-1008",
    N_("The configuration {path} has typographic quotes at {place}: {quotes}"),
    N_('Write straight ones: "...". Programs for letters change them; use a plain text editor.'),
)
CONFIG_TWICE = Message(
    "NU-1009",
    N_("The configuration {path} gives the same name a second time at {place}."),
    N_("Keep one of the two and remove the other."),
)
CONFIG_NOT_TEXT = Message(
    "NU-1010",
    N_("The configuration {path} is not UTF-8 text at {place}."),
    N_("Save it in the editor as UTF-8, in Windows' Notepad under 'Encoding', then try again."),
)
BAD_USAGE = Message(
    "NU-1101",
    N_("The command line cannot be understood."),
    N_("'{command} --help' shows what is possible."),
    ExitCode.USAGE,
)
NEEDS_YES = Message(
    "NU-1102",
    N_("This asks a question, and there is no terminal to answer it at."),
    N_("Run it in a terminal, or give --yes to answer the question beforehand."),
    ExitCode.USAGE,
)
DECLINED = Message(
    "NU-1103",
    N_("You did not agree, so nothing was begun."),
    N_("Run the command again when you are ready."),
    ExitCode.APPROVAL_MISSING,
)
BAD_VERSION = Message(
    "NU-1104",
    N_("'{text}' is not a version."),
    N_("Write a version such as 3.3.0; 'ncen-updater check' shows what is on offer."),
    ExitCode.USAGE,
)
BAD_TIME = Message(
    "NU-1105",
    N_("'{text}' is not a time."),
    N_("Write it as 2027-01-31 or 2027-01-31T18:00, in the time of the site."),
    ExitCode.USAGE,
)
UNKNOWN_CHANGE = Message(
    "NU-1106",
    N_("The journal knows no change '{change}'."),
    N_("'ncen-updater history' lists every change with its id."),
    ExitCode.USAGE,
)
TIME_PASSED = Message(
    "NU-1107",
    N_("'{text}' is not a time in the future."),
    N_(
        "Write a later one, such as 2027-01-31T18:00; without a zone it is in the time of the site."
    ),
    ExitCode.USAGE,
)
STOPPED = Message(
    "NU-1108",
    N_("The command was stopped ({signal})."),
    N_("Run it again when you are ready."),
)
UNWRITTEN = Message(
    "NU-1109",
    N_("What the command had to say could not be written: {reason}"),
    N_("Make room where the output goes, then ask again with 'status' or 'history'."),
)
NOT_A_MEMBER = Message(
    "NU-1120",
    N_("{user} is not in the group {group}, and may not look at {path}."),
    N_(
        "Ask an administrator of this machine to run 'sudo usermod -aG {group} {user}'; then log"
        " out and in again."
    ),
)
LOG_IN_AGAIN = Message(
    "NU-1121",
    N_("{user} was added to the group {group} after logging in, and may not look at {path} yet."),
    N_("Log out and in again."),
)
MEMBER_NEEDS_ROOT = Message(
    "NU-1122",
    N_("{user} is in the group {group}, but this needs {path}, which only the agent itself reads."),
    N_(
        "Where the service runs ('systemctl status ncen-updater'), this is nothing that it does: "
        "type the command again with sudo. Where it does not, members see nothing more until "
        "'sudo systemctl start ncen-updater'."
    ),
)
UNKNOWN_COMMAND = Message(
    "NU-1123",
    N_("There is no command '{name}'."),
    N_("Did you mean '{close}'? '{program} --help' shows every command."),
    ExitCode.USAGE,
)
NO_VERSION_TAKEN = Message(
    "NU-1124",
    N_("'{command}' takes no version, and {version} was given."),
    N_(
        "Type it without one. 'ncen-updater rollback' goes back to the release before, which"
        " 'ncen-updater rollback --dry-run' names; 'plan', 'rehearse' and 'upgrade' take a version."
    ),
    ExitCode.USAGE,
)
CONFIG_OF_NO_GROUP = Message(
    "NU-1125",
    N_("{user} is in the group {group}, but {path} is not given to that group."),
    N_(
        "Whoever manages this machine types 'sudo chgrp {group} {path} && sudo chmod g+r {path}'. "
        "It counts at once; an editor may have taken it away."
    ),
)

# ---- 2xxx: trust and the feed ----------------------------------------------------------------

TRUST_ERROR = Message(
    "NU-2001",
    N_("The signed lists of the feed could not be verified."),
    N_("Nothing was changed. Tell the Secretariat, and try again later."),
    ExitCode.TRUST,
)
TRUSTED_ROOT_MISSING = Message(
    "NU-2002",
    N_("The trusted root {path} is missing or damaged; no signature can be checked."),
    N_(
        "Copy root.json again from the installation medium of the agent and compare its digest "
        "with the one that the Secretariat gave by another way."
    ),
    ExitCode.TRUST,
)
FEED_BAD_SIGNATURE = Message(
    "NU-2003",
    N_("The list '{role}' of the feed does not bear enough valid signatures."),
    N_(
        "Nothing was changed. Try again. If it stays so, the trusted root.json here may be that of"
        " another feed: compare its digest with the one that the Secretariat tells you. Or a copy"
        " of the feed is incomplete or altered: tell the Secretariat which address this site uses."
    ),
    ExitCode.TRUST,
)
ROLLBACK_REFUSED = Message(
    "NU-2004",
    N_("The feed offered an older list '{role}' than this site has already seen."),
    N_(
        "Nothing was changed. Try again; if it stays so, tell the Secretariat which feed address "
        "this site uses: a copy of the feed may be incomplete or altered."
    ),
    ExitCode.TRUST,
)
METADATA_DAMAGED = Message(
    "NU-2005",
    N_("The list '{role}' of the feed cannot be read."),
    N_(
        "Nothing was changed. Try again; if it stays so, tell the Secretariat which feed address "
        "this site uses: a copy of the feed may be incomplete or altered."
    ),
    ExitCode.TRUST,
)
WRONG_DIGEST = Message(
    "NU-2006",
    N_("'{name}' arrived with other bytes than were signed."),
    N_(
        "Nothing was changed. Try again; if it stays so, tell the Secretariat which feed address "
        "this site uses: a copy of the feed may be incomplete or altered."
    ),
    ExitCode.TRUST,
)
ROLE_EXPIRED = Message(
    "NU-2007",
    N_(
        "The list '{role}' of the feed lapsed on {since}: the Secretariat's server did not renew "
        "it in time, or this site is shown an old copy."
    ),
    N_(
        "Nothing was changed and the site goes on working. Tell the Secretariat that its server "
        "has to renew '{role}'; check also that this server's date, {now}, is right."
    ),
    ExitCode.FEED_STALE,
)
CLOCK_WRONG = Message(
    "NU-2008",
    N_("This server's clock seems to be wrong: it says {now}, the feed's server says {server}."),
    N_("Set the clock (see 'timedatectl'), then try again. Nothing was changed."),
    ExitCode.TRUST,
)
MIXED_VERSIONS = Message(
    "NU-2009",
    N_("The list '{role}' of the feed does not belong to the others."),
    N_(
        "Nothing was changed. Try again; if it stays so, tell the Secretariat which feed address "
        "this site uses: a copy of the feed may be incomplete or altered."
    ),
    ExitCode.TRUST,
)
ROOT_CHAIN_BROKEN = Message(
    "NU-2010",
    N_("The chain of trusted roots is broken after version {version}."),
    N_(
        "Nothing was changed. Try again; if it stays so, tell the Secretariat which feed address "
        "this site uses: a copy of the feed may be incomplete or altered."
    ),
    ExitCode.TRUST,
)
PRODUCT_NOT_IN_FEED = Message(
    "NU-2011",
    N_("The feed does not carry the product '{product}'."),
    N_("Check the product and the feed address in the agent's configuration."),
    ExitCode.TRUST,
)
OFFER_INVALID = Message(
    "NU-2012",
    N_("The feed's entry '{name}' is not valid."),
    N_("Nothing was changed. If the agent is old, update it; otherwise tell the Secretariat."),
    ExitCode.TRUST,
)
OFFER_CHANGED = Message(
    "NU-2013",
    N_("Release {version} is no longer offered as it was."),
    N_("Make the plan again."),
    ExitCode.TRUST,
)
OFFER_WITHDRAWN = Message(
    "NU-2014",
    N_("Release {version} was withdrawn by the Secretariat: {reason}"),
    N_("Make the plan again; it will choose another release if there is one."),
    ExitCode.TRUST,
)
DOCUMENT_MISMATCH = Message(
    "NU-2015",
    N_("The release document of {version} contradicts the signed list."),
    N_("Nothing was changed. Tell the Secretariat, and try again later."),
    ExitCode.TRUST,
)
TREE_MISMATCH = Message(
    "NU-2016",
    N_("The tree of release {version} is not the one that was signed."),
    N_("Nothing was changed. Tell the Secretariat, and try again later."),
    ExitCode.TRUST,
)
VIEW_DAMAGED = Message(
    "NU-2017",
    N_("The stored copy of the last verified list, {path}, cannot be read."),
    N_("Run 'ncen-updater check' while the feed can be reached; it writes it anew."),
)
FEED_TARGET_MISSING = Message(
    "NU-2018",
    N_("'{name}' is not in the signed list of the product."),
    N_("Nothing was changed. Tell the Secretariat, and try again later."),
    ExitCode.TRUST,
)
LOCAL_STORE_FAILED = Message(
    "NU-2019",
    N_("The agent's own files could not be read or written."),
    N_("Check free space and permissions of the agent's state directory."),
)
READER_FAILED = Message(
    "NU-2020",
    N_("The process that reads the feed ended without an answer."),
    N_(
        "Try again; if it stays so, send the Secretariat what 'ncen-updater "
        "doctor' and 'history' say."
    ),
)
ROOTS_HIDDEN = Message(
    "NU-2021",
    N_(
        "The feed keeps back trusted roots: its newest is {newest}, and {version} is the last "
        "that it gave."
    ),
    N_(
        "Nothing was changed. Try again; if it stays so, tell the Secretariat which feed address "
        "this site uses: a copy of the feed may be incomplete or altered."
    ),
    ExitCode.TRUST,
)
WRONG_ROLE = Message(
    "NU-2022",
    N_("In place of the list '{role}' the feed gave the list '{other}'."),
    N_(
        "Nothing was changed. Try again; if it stays so, tell the Secretariat which feed address "
        "this site uses: a copy of the feed may be incomplete or altered."
    ),
    ExitCode.TRUST,
)
OFFICERS_ROLE_EXPIRED = Message(
    "NU-2023",
    N_(
        "The list '{role}' of the feed lapsed on {since}: the officers of the Secretariat did not "
        "sign it again in time."
    ),
    N_(
        "Nothing was changed and the site goes on working. Tell the Secretariat that its officers "
        "have to sign '{role}' again; check also that this server's date, {now}, is right."
    ),
    ExitCode.FEED_STALE,
)
WRONG_PRODUCT = Message(
    "NU-2024",
    N_("The feed's entry '{name}' is for the product '{found}', not for '{product}'."),
    N_("Nothing was changed. Tell the Secretariat, and try again later."),
    ExitCode.TRUST,
)
OFFER_HALTED = Message(
    "NU-2041",
    N_("Release {version} was halted by the Secretariat: {reason}"),
    N_("Wait until it is opened again: 'ncen-updater check' and 'status' say when that is so."),
    ExitCode.HELD,
)
NOT_PROVED = Message(
    "NU-2042",
    N_(
        "What was downloaded of release {version} does not follow from the root that was installed "
        "with the agent; it is not used."
    ),
    N_(
        "Nothing was changed. Run 'ncen-updater check', then try again. If it stays so, have this "
        "server examined, since what talks to the network may have been tampered with, and tell "
        "the Secretariat."
    ),
    ExitCode.TRUST,
)
READER_OVERDUE = Message(
    "NU-2043",
    N_("The process that reads the feed took too long and was ended."),
    N_(
        "Try again; if it stays so, send the Secretariat what 'ncen-updater "
        "doctor' and 'history' say."
    ),
)
PROVED_OLDER = Message(
    "NU-2044",
    N_("The list '{role}' is version {version}; version {known} was proved here before."),
    N_(
        "Nothing was changed. Run 'ncen-updater check' (a site without a network: import the "
        "newest bundle), then try again. If it stays so, have this server examined, since what "
        "talks to the network may have been tampered with, and tell the Secretariat."
    ),
    ExitCode.TRUST,
)
PROVED_DAMAGED = Message(
    "NU-2045",
    N_("What was proved here before cannot be read: {path} is damaged."),
    N_(
        "Nothing was changed; going back still works. Restore the file from a backup, or ask the "
        "Secretariat which lists are the newest and move it away: it is built anew from them."
    ),
    ExitCode.TRUST,
)
LIST_NOT_PROVED = Message(
    "NU-2046",
    N_("The lists of the feed do not follow from the roots that were proved here; none is used."),
    N_(
        "Nothing was changed. Run 'ncen-updater check', then try again. If it stays so, have this "
        "server examined, since what talks to the network may have been tampered with, and tell "
        "the Secretariat."
    ),
    ExitCode.TRUST,
)
READER_FILLS_DISK = Message(
    "NU-2047",
    N_(
        "The process that reads the feed left more in {path} than anything that was signed weighs "
        "({size_bytes} in {names} files and directories), and was ended."
    ),
    N_(
        "The site goes on working. Have this server examined, since what talks to the network may "
        "have been tampered with, and tell the Secretariat; then empty that directory and run "
        "'ncen-updater check'."
    ),
    ExitCode.TRUST,
)
FEED_ERROR = Message(
    "NU-2101",
    N_("The feed could not be reached."),
    N_(
        "Check the network, the proxy and the feed address. The site goes on working; "
        "status, history and rollback need no feed."
    ),
    ExitCode.NETWORK,
)
FEED_UNREACHABLE = Message(
    "NU-2102",
    N_("No server of the feed answered ('{name}')."),
    N_(
        "Check the network, the proxy and the feed address. The site goes on working; "
        "status, history and rollback need no feed."
    ),
    ExitCode.NETWORK,
)
FEED_TLS = Message(
    "NU-2103",
    N_("The encrypted connection to the feed failed ('{name}')."),
    N_(
        "Check this server's clock, the certificate file in the agent's configuration, and "
        "whether a firewall opens encrypted connections."
    ),
    ExitCode.NETWORK,
)
CAPTIVE_PORTAL = Message(
    "NU-2104",
    N_("A web page came in place of '{name}': a log-in page of the network, or a proxy."),
    N_("Log in to the network, or set the proxy, then try again."),
    ExitCode.NETWORK,
)
FEED_TOO_SLOW = Message(
    "NU-2105",
    N_("The feed answers too slowly ('{name}')."),
    N_("Try again later; downloads go on where they stopped."),
    ExitCode.NETWORK,
)
FEED_REFUSED = Message(
    "NU-2106",
    N_("The feed's server answered '{name}' with status {status}."),
    N_(
        "Check the network, the proxy and the feed address. The site goes on working; "
        "status, history and rollback need no feed."
    ),
    ExitCode.NETWORK,
)
FEED_CUT = Message(
    "NU-2107",
    N_("The connection to the feed broke while '{name}' was read."),
    N_("Try again; downloads go on where they stopped."),
    ExitCode.NETWORK,
)
FEED_TOO_LONG = Message(
    "NU-2108",
    N_("The feed sent more bytes for '{name}' than are allowed; the rest was not read."),
    N_(
        "Nothing was changed. Try again; if it stays so, tell the Secretariat which feed address "
        "this site uses: a copy of the feed may be incomplete or altered."
    ),
    ExitCode.TRUST,
)
FEED_PROXY = Message(
    "NU-2109",
    N_("The proxy did not give a way to the feed ('{name}')."),
    N_(
        "Check 'proxy' in the agent's configuration, and that the proxy lets this server reach "
        "the feed."
    ),
    ExitCode.NETWORK,
)
FEED_REDIRECTED = Message(
    "NU-2121",
    N_("The feed redirects '{name}' to another server."),
    N_(
        "Log in to the network if it asks for that; a server that belongs to the feed must stand "
        "in 'urls' of the agent's configuration."
    ),
    ExitCode.NETWORK,
)
PATH_ERROR = Message(
    "NU-2201",
    N_("Release {version} cannot be installed here."),
    N_("Run 'ncen-updater check' to see what is offered to this site."),
    ExitCode.BLOCKED,
)
TARGET_UNKNOWN = Message(
    "NU-2202",
    N_("The feed does not offer a release {version}."),
    N_("Run 'ncen-updater check' to see what is offered to this site."),
    ExitCode.BLOCKED,
)
TARGET_FOR_OTHER_COUNTRY = Message(
    "NU-2203",
    N_("Release {version} is for other countries ({countries}), not for {country}."),
    N_("Run 'ncen-updater check' to see what is offered to this site."),
    ExitCode.BLOCKED,
)
TARGET_OTHER_CHANNEL = Message(
    "NU-2204",
    N_("Release {version} is in the channel '{channel}', which this site does not follow."),
    N_("Change 'channel' in the agent's configuration if you want such releases."),
    ExitCode.BLOCKED,
)
TARGET_WITHDRAWN = Message(
    "NU-2205",
    N_("Release {version} was withdrawn by the Secretariat: {reason}"),
    N_("Run 'ncen-updater check' to see what is offered to this site."),
    ExitCode.BLOCKED,
)
TARGET_NEEDS_NEWER_AGENT = Message(
    "NU-2206",
    N_("Release {version} needs another version of this agent: {agent}."),
    N_("Update the agent first."),
    ExitCode.BLOCKED,
)
TARGET_BAD = Message(
    "NU-2207",
    N_("Release {version} failed at this site before."),
    N_(
        "Read 'ncen-updater history'; to try it again, "
        "run 'ncen-updater upgrade {version} --retry'. Where two people have to approve it, first "
        "'ncen-updater rehearse {version} --retry', then each types 'ncen-updater approve "
        "{version}'."
    ),
    ExitCode.BLOCKED,
)
TARGET_NOT_NEWER = Message(
    "NU-2208",
    N_("Release {version} is not newer than what runs here ({current})."),
    N_("To go back, use 'ncen-updater rollback'."),
    ExitCode.BLOCKED,
)
NO_PATH_TO_TARGET = Message(
    "NU-2209",
    N_("There is no way from {current} to release {version}: {reason}"),
    N_("Run 'ncen-updater check' to see what is offered to this site."),
    ExitCode.BLOCKED,
)
TARGET_HALTED = Message(
    "NU-2210",
    N_("Release {version} was halted by the Secretariat: {reason}"),
    N_("Wait until it is opened again: 'ncen-updater check' and 'status' say when that is so."),
    ExitCode.HELD,
)
TARGET_RUNS_HERE = Message(
    "NU-2211",
    N_("Release {version} is what runs here."),
    N_("Nothing has to be done; 'ncen-updater status' says what is on offer."),
    ExitCode.BLOCKED,
)
NOT_A_BUNDLE = Message(
    "NU-2302",
    N_("{path} is not a bundle."),
    N_("Give the file that 'ncen-publisher export' wrote (*.ncen)."),
    ExitCode.TRUST,
)
BUNDLE_CUT = Message(
    "NU-2303",
    N_("The bundle {path} is not whole: it was copied only in part."),
    N_(
        "Nothing was kept. Copy the bundle again from where you got it, compare its size, and try "
        "again."
    ),
    ExitCode.TRUST,
)
BUNDLE_ALTERED = Message(
    "NU-2304",
    N_("The bundle was altered or damaged: '{name}' is not what it should be."),
    N_(
        "Nothing was kept. Copy the bundle again from where you got it, compare its size, and try "
        "again."
    ),
    ExitCode.TRUST,
)
BUNDLE_UNSAFE = Message(
    "NU-2305",
    N_("The file holds what no bundle holds: {name}: {reason}."),
    N_("Nothing was kept. Do not use this medium; tell the Secretariat where the file came from."),
    ExitCode.TRUST,
)
BUNDLE_INCOMPLETE = Message(
    "NU-2306",
    N_("The bundle lacks '{name}'."),
    N_("Nothing was kept. Ask the Secretariat for a new bundle for this site."),
    ExitCode.TRUST,
)
BUNDLE_NOT_SIGNED = Message(
    "NU-2307",
    N_("The list '{role}' in the bundle does not bear enough valid signatures."),
    N_(
        "Nothing was kept. The bundle is not from the Secretariat's feed, or was altered: tell the "
        "Secretariat where it came from."
    ),
    ExitCode.TRUST,
)
BUNDLE_OLDER = Message(
    "NU-2308",
    N_("This bundle is older than what this site has already seen (list '{role}')."),
    N_("Nothing was kept. Use the newest bundle that you were given."),
    ExitCode.TRUST,
)
BUNDLE_TOO_OLD = Message(
    "NU-2309",
    N_(
        "The bundle is too old: its list '{role}' lapsed on {since}, and this site accepts bundles "
        "for {days} days after that."
    ),
    N_(
        "Nothing was kept. Ask the Secretariat for a new bundle; check also that this server's "
        "date, {now}, is right."
    ),
    ExitCode.FEED_STALE,
)
BUNDLE_OTHER_PRODUCT = Message(
    "NU-2310",
    N_("The bundle is for {products}, and this site runs {product}."),
    N_("Nothing was kept. Ask the Secretariat for a new bundle for this site."),
    ExitCode.TRUST,
)
BUNDLE_OTHER_COUNTRY = Message(
    "NU-2311",
    N_("The bundle is for other countries ({countries}), not for {country}."),
    N_("Nothing was kept. Ask the Secretariat for a new bundle for this site."),
    ExitCode.TRUST,
)
BUNDLE_DOES_NOT_FIT = Message(
    "NU-2312",
    N_(
        "The bundle does not lead on from {current}, which runs here: to reach {version} it lacks "
        "{missing}."
    ),
    N_(
        "Nothing was kept. Ask the Secretariat for a bundle from {current}, and tell them that "
        "this is what runs here."
    ),
    ExitCode.TRUST,
)
BUNDLE_UNREADABLE = Message(
    "NU-2313",
    N_("{path} cannot be read."),
    N_(
        "Check that the medium is there and mounted, and that you may read what you name; then try"
        " again. Nothing was kept."
    ),
)
NOT_IMPORTED = Message(
    "NU-2319",
    N_("'{name}' was not imported, and there is no feed that could be asked."),
    N_(
        "Import a bundle that holds this release, or name one that was imported; "
        "'ncen-updater history' shows them."
    ),
    ExitCode.NETWORK,
)
NOTHING_IMPORTED = Message(
    "NU-2320",
    N_("This site has no feed, and no bundle was imported yet."),
    N_("Run 'ncen-updater import FILE' with a bundle from the Secretariat."),
    ExitCode.NETWORK,
)
LISTS_BUSY = Message(
    "NU-2321",
    N_("Another process is reading the feed or importing a bundle."),
    N_("Wait until it has ended, then try again."),
    ExitCode.BUSY,
)
MIRROR_BUSY = Message(
    "NU-2322",
    N_("Another process is renewing the mirror {path}."),
    N_("Wait until it has ended, then try again."),
    ExitCode.BUSY,
)
MIRROR_NOT_OURS = Message(
    "NU-2323",
    N_("{path} is neither empty nor a whole mirror of this feed."),
    N_("Give an empty directory, or one that this command made. Nothing was changed."),
)
PACK_UNUSABLE = Message(
    "NU-2324",
    N_(
        "Release {version} was imported as a delta pack only, and that cannot be used here"
        " ({code})."
    ),
    N_(
        "If 'ncen-updater verify' names files of the installed release, restore them as they were"
        " released, import the bundle again, and try again. Else ask the Secretariat for a bundle"
        " with whole archives."
    ),
    ExitCode.NETWORK,
)
NO_FEED_TO_MIRROR = Message(
    "NU-2325",
    N_("This site has no feed that could be copied."),
    N_("Name a bundle with --from-bundle; the mirror then holds what is in it."),
    ExitCode.NETWORK,
)
MIRROR_FORBIDDEN = Message(
    "NU-2326",
    N_("The user {user} may not write to the mirror {path}."),
    N_(
        "The feed is read, and the mirror written, by a user of few rights: give the directory to"
        " that user ('chown'), or name a new one, which is made for them."
    ),
)
MIRROR_OLDER = Message(
    "NU-2327",
    N_("The mirror {path} holds older lists than this site has already seen (list '{role}')."),
    N_("The bundle is not the newest: make the mirror again from the newest, or from the feed."),
    ExitCode.TRUST,
    state=N_("The mirror was written, with these older lists; this site is as it was."),
)

# ---- 3xxx: releases, transfer and slots ------------------------------------------------------

BAD_MANIFEST = Message(
    "NU-3001",
    N_("The manifest {source} is not valid."),
    N_("Correct the places that are named and build the release again."),
)
BAD_RELEASE = Message(
    "NU-3002",
    N_("The release document {source} is not valid."),
    N_("Do not install this release; tell the Secretariat which one it is."),
    ExitCode.TRUST,
)
BAD_TREE = Message(
    "NU-3003",
    N_("The tree {source} is not valid."),
    N_("Do not install this release; tell the Secretariat which one it is."),
    ExitCode.TRUST,
)
TRANSFER_ERROR = Message(
    "NU-3100",
    N_("A file could not be moved or unpacked."),
    N_("Check the disk and try again."),
)
SPACE_SHORT = Message(
    "NU-3101",
    N_("Too little space in {path}: {needed_bytes} are needed, {free_bytes} are free."),
    N_("Free at least {missing_bytes} there, then try again."),
    ExitCode.SPACE,
)
DOWNLOAD_DAMAGED = Message(
    "NU-3102",
    N_("'{name}' arrived again and again with other bytes than were signed."),
    N_("Try another feed address or a medium, and tell the Secretariat."),
    ExitCode.TRUST,
)
ARCHIVE_MISMATCH = Message(
    "NU-3103",
    N_("The archive {archive} does not hold what was signed."),
    N_("Do not install this release; tell the Secretariat which one it is."),
    ExitCode.TRUST,
)
ARCHIVE_DAMAGED = Message(
    "NU-3104",
    N_("The archive {archive} is damaged."),
    N_("Try again; it is fetched anew. If it stays so, tell the Secretariat which release it is."),
    ExitCode.TRUST,
)
DESTINATION_IN_USE = Message(
    "NU-3105",
    N_("{path} is not an empty directory."),
    N_("Remove it if it is left over from an interrupted attempt."),
)
DISK_FULL = Message(
    "NU-3110",
    N_("The disk is full, and {path} could not be written."),
    N_("Make room on that disk, then give the command again."),
    ExitCode.SPACE,
)
DELTA_ERROR = Message(
    "NU-3150",
    N_("The delta pack {pack} could not be applied."),
    N_("Nothing needs to be done: the whole archive is fetched instead."),
)
DELTA_DAMAGED = Message(
    "NU-3151",
    N_("The delta pack {pack} is damaged."),
    N_("Nothing needs to be done: the whole archive is fetched instead."),
    ExitCode.TRUST,
)
DELTA_FOR_ANOTHER_BASE = Message(
    "NU-3152",
    N_("The delta pack {pack} is not for the release that is installed here."),
    N_("Nothing needs to be done: the whole archive is fetched instead."),
    ExitCode.TRUST,
)
DELTA_PATH_REFUSED = Message(
    "NU-3153",
    N_("The delta pack {pack} names a path that no release may have."),
    N_("Nothing needs to be done: the whole archive is fetched instead."),
    ExitCode.TRUST,
)
DELTA_OVER_LIMIT = Message(
    "NU-3154",
    N_("The delta pack {pack} takes more than was signed for it."),
    N_("Nothing needs to be done: the whole archive is fetched instead."),
    ExitCode.TRUST,
)
DELTA_RANGE_REFUSED = Message(
    "NU-3155",
    N_("The delta pack {pack} refers to places that do not exist."),
    N_("Nothing needs to be done: the whole archive is fetched instead."),
    ExitCode.TRUST,
)
DELTA_UNSUPPORTED = Message(
    "NU-3156",
    N_("The delta pack {pack} needs what this machine cannot do: {needs}."),
    N_("Nothing needs to be done: the whole archive is fetched instead."),
)
OLD_FILE_ALTERED = Message(
    "NU-3157",
    N_("The installed file {path} was altered, so a delta pack cannot start from it."),
    N_("The whole archive is fetched instead. 'ncen-updater verify' says what else was altered."),
)
DELTA_NOT_MADE = Message(
    "NU-3160",
    N_("No delta pack could be made."),
    N_("Publish the release without this delta pack; sites fetch the whole archive."),
)
DELTA_NOT_POSSIBLE = Message(
    "NU-3161",
    N_("No delta pack can lead to this release."),
    N_("Publish the release without this delta pack; sites fetch the whole archive."),
)
DELTA_NOT_PROVED = Message(
    "NU-3162",
    N_("The delta pack was made but does not give the new release; it was not kept."),
    N_(
        "Check that nothing changes the releases while packs are made, and try again. If it stays, "
        "publish without this pack and tell the makers of ncen-publisher."
    ),
)
SLOT_ERROR = Message(
    "NU-3200",
    N_("The installed releases in {path} cannot be read."),
    N_("Check that the directory exists and that the agent may read it."),
)
CURRENT_ASTRAY = Message(
    "NU-3201",
    N_("{current} does not lead to an installed release, but to {target}."),
    N_(
        "Check 'current' and 'slots' below [paths] in agent.toml first. If they are right, make"
        " {current} a link to one of the directories in {slots}, then try again."
    ),
    ExitCode.NEEDS_PERSON,
)
SLOT_MISSING = Message(
    "NU-3202",
    N_("Release {version} is not installed in {slots}."),
    N_("Run the upgrade to that release again; it installs what is missing."),
)
RECORD_UNUSABLE = Message(
    "NU-3203",
    N_("The record of release {version} in {path} is missing or damaged."),
    N_(
        "Restore the record from a backup, or send the Secretariat what "
        "'ncen-updater doctor' and 'history' say."
    ),
    ExitCode.NEEDS_PERSON,
)
SLOT_IN_USE = Message(
    "NU-3204",
    N_("Release {version} is in use and cannot be removed or replaced."),
    N_("Go to another release first."),
)
SLOT_DIFFERS = Message(
    "NU-3205",
    N_("The files in {path} are not those of release {version}: {count} differences."),
    N_(
        "Put back what was changed or removed, and take out what is extra: settings, compiled files"
        " and manifest.toml do not belong there. Where nothing runs from the directory, move it"
        " away instead, and the release is put there anew."
    ),
    ExitCode.BLOCKED,
)
SLOT_NOT_WRITTEN = Message(
    "NU-3206",
    N_("Release {version} could not be written to {path}."),
    N_("Check the disk and the rights of the directory, then try again."),
)
SLOT_NO_SPACE = Message(
    "NU-3207",
    N_("There is not enough space in {path} for release {version}."),
    N_("Free space on that disk, then try again."),
    ExitCode.SPACE,
)
OVERLAY_NOT_WRITTEN = Message(
    "NU-3301",
    N_("What was merged of the country's texts and settings could not be written to {path}."),
    N_("Check the disk and the rights of the directory, then try again."),
    ExitCode.SPACE,
)
OVERLAY_FILE_UNUSABLE = Message(
    "NU-3302",
    N_("{path} cannot be used: {why}."),
    N_("Look at the file and at its name, then try again."),
)
OVERLAY_NOT_SET = Message(
    "NU-3303",
    N_("This site has no place for texts and settings of its own."),
    N_("Name a directory in the table [overlay] of agent.toml; see docs/translations.md."),
)
NOTHING_CARRIED = Message(
    "NU-3304",
    N_("Release {version} names no translations in the language '{language}'."),
    N_("Look at 'ncen-updater translations report' for the languages and files that it names."),
    ExitCode.USAGE,
)
OVERLAY_WHICH_FILE = Message(
    "NU-3305",
    N_("There are several files of translations in the language '{language}': {files}."),
    N_("Name one of them with --file."),
    ExitCode.USAGE,
)

# ---- 4xxx: databases and migrations ----------------------------------------------------------

DATABASE_ERROR = Message(
    "NU-4001",
    N_("The database server refused an operation on {database}."),
    N_("Read the server's message and its log, then try again."),
)
DATABASE_UNREACHABLE = Message(
    "NU-4002",
    N_("The database {database} cannot be reached."),
    N_("Check that the database server runs and that the agent's settings are right. Where it says"
       " 'Peer authentication failed' or names pg_hba.conf, its rules do not let root in as the"
       " agent's role: the lines to write are in section 3 of installation.md."),
)  # fmt: skip
FENCE_FAILED = Message(
    "NU-4003",
    N_("{count} sessions in {database} could not be ended."),
    N_("Stop the programs that hold them, then try again."),
)
COPY_FAILED = Message(
    "NU-4004",
    N_("The database {database} could not be copied."),
    N_("Read the server's message; the original was not touched."),
)
MIGRATION_REFUSED = Message(
    "NU-4005",
    N_("The migrations of {database} do not continue its history: {reason}"),
    N_("Do not upgrade; send the Secretariat what 'ncen-updater doctor' and 'history' say."),
    ExitCode.BLOCKED,
)
MIGRATION_FAILED = Message(
    "NU-4006",
    N_("Migration {migration} of {database} failed."),
    N_(
        "Send the Secretariat what 'ncen-updater doctor' and 'history' say; "
        "the site can go on working."
    ),
)
VERIFY_FAILED = Message(
    "NU-4007",
    N_("Migration {migration} of {database} did not verify: {count} rows are wrong."),
    N_(
        "Send the Secretariat what 'ncen-updater doctor' and 'history' say; "
        "the site can go on working."
    ),
)
CUT_OVER_FAILED = Message(
    "NU-4008",
    N_("The cut-over of the databases could not be made."),
    N_("Read the server's message, stop what holds sessions, and try again."),
)
MARKERS_DISAGREE = Message(
    "NU-4009",
    N_("The databases do not belong together: {reason}"),
    N_(
        "Change nothing at the application. If these databases were restored from a backup on "
        "purpose, 'ncen-updater accept-restore' takes them as the release that they belong to; if "
        "not, ask the database administrator what was done to them."
    ),
    ExitCode.NEEDS_PERSON,
)
QUERY_FAILED = Message(
    "NU-4010",
    N_("A question to {database} could not be answered: {sql}"),
    N_("Send the Secretariat what 'ncen-updater doctor' and 'history' say."),
)
REFERENCES_BROKEN = Message(
    "NU-4011",
    N_("Migration {migration} of {database} left {count} rows that refer to nothing."),
    N_(
        "Send the Secretariat what 'ncen-updater doctor' and 'history' say; "
        "the site can go on working."
    ),
)
FENCED_BY_OTHER = Message(
    "NU-4012",
    N_("The databases are closed by the change {other}, so {change} does not touch them."),
    N_("Bring the change {other} to its end first, with the agent that began it."),
    ExitCode.NEEDS_PERSON,
)
LEDGER_UNREADABLE = Message(
    "NU-4014",
    N_("The record of migrations inside a database cannot be understood: {reason}."),
    N_("Do not upgrade; send the Secretariat what 'ncen-updater doctor' and 'history' say."),
    ExitCode.NEEDS_PERSON,
)
OFFICERS_WERE_IN = Message(
    "NU-4015",
    N_("The change {change} was committed, so the databases are not cut back."),
    N_(
        "The journal is older than the databases; send the Secretariat what "
        "'ncen-updater doctor' and 'history' say."
    ),
    ExitCode.NEEDS_PERSON,
)
DATABASE_CLOSED = Message(
    "NU-4016",
    N_("The database {database} refuses sessions."),
    N_("Open it unless that is on purpose: ALTER DATABASE {database} ALLOW_CONNECTIONS true."),
    ExitCode.NEEDS_PERSON,
)
DATABASE_OPENED = Message(
    "NU-4020",
    N_(
        "While {database} was closed for the change, somebody opened it or altered its owner, "
        "rights or properties: records may have been entered that the change would lose."
    ),
    N_(
        "Ask the database administrators who did ALTER DATABASE or GRANT on it, let them leave it "
        "alone for the time of the change, and begin again."
    ),
)
ROWS_UNREADABLE = Message(
    "NU-4027",
    N_("The rows of {table} in {database} cannot be counted: the role {role} may not read it."),
    N_(
        "Nothing was changed. Run as a superuser in {database}: GRANT SELECT ON {table} TO {role};"
        " where row security hides rows, ALTER ROLE {role} BYPASSRLS; instead."
    ),
)
TABLESPACE_CLOSED = Message(
    "NU-4028",
    N_("The role {role} may make nothing in the tablespace {tablespace} of {database}."),
    N_("Run as a superuser: GRANT CREATE ON TABLESPACE {tablespace} TO {role};"),
)
ROLES_LOCKED_OUT = Message(
    "NU-4032",
    N_("None of the application's roles ({role}) may log in to the database {database}."),
    N_("Run: GRANT CONNECT ON DATABASE {database} TO {role}; and ALTER ROLE ... LOGIN;"),
    ExitCode.NEEDS_PERSON,
)
SERVER_LOST = Message(
    "NU-4060",
    N_(
        "While migration {migration} of {database} ran, the database server ended the session or"
        " went away."
    ),
    N_(
        "The release is not to blame. Look in the server's log why; when it runs, begin the upgrade"
        " again."
    ),
)
DATABASE_DISK_FAILED = Message(
    "NU-4061",
    N_(
        "While migration {migration} of {database} ran, the database had no room or its disk"
        " failed."
    ),
    N_(
        "The release is not to blame. Make room on the disk of the databases, or let somebody look"
        " after it; then begin the upgrade again."
    ),
    ExitCode.SPACE,
)
ROLE_UNKNOWN = Message(
    "NU-4062",
    N_("The database server runs, but does not know a role that agent.toml names."),
    N_(
        "Correct 'user' ({user}) or 'owner' below [databases.postgresql] in agent.toml, or let the"
        " database administrator make the role."
    ),
)
PASSWORD_REFUSED = Message(
    "NU-4063",
    N_("The database server runs, but refuses the password of the role {user}."),
    N_(
        "Write the right password into the password file, a line host:port:database:user:password,"
        " and keep the file 0600."
    ),
)
PASSWORD_MISSING = Message(
    "NU-4064",
    N_("The database server runs and wants a password of the role {user}, and none was found."),
    N_(
        "Name a password file below [databases.postgresql] as password_file. It has a line"
        " host:port:database:user:password, such as *:*:*:{user}:secret, and mode 0600; a password"
        " alone in the file is not found."
    ),
)
DATABASE_UNKNOWN = Message(
    "NU-4065",
    N_("The database server runs, but has no database {database}."),
    N_(
        "Correct the names below [databases.names] in agent.toml. If they are right, let the"
        " database administrator find out what became of it; do not start the application before."
    ),
    ExitCode.NEEDS_PERSON,
)
OWNER_REFUSED = Message(
    "NU-4066",
    N_("The database server runs, but does not let the agent log in as the application's role"
       " {user}."),
    N_(
        "Look at the lines for {user} in pg_ident.conf and pg_hba.conf, or in the password file, as"
        " installation.md says in section 3; 'ncen-updater doctor' says it once more."
    ),
)  # fmt: skip
PREPARED_TRANSACTIONS = Message(
    "NU-4101",
    N_("{count} prepared transactions are open in {database}."),
    N_("End each of them: COMMIT PREPARED or ROLLBACK PREPARED with the name shown."),
)
SET_INCOMPLETE = Message(
    "NU-4102",
    N_("The database {database} is missing or not whole, so the set cannot be used."),
    N_("Do not start the application; ask the database administrator what happened to it."),
    ExitCode.NEEDS_PERSON,
)
ATTRIBUTES_DIFFER = Message(
    "NU-4103",
    N_("Owner, grants or settings of {database} could not be carried over."),
    N_("Give the agent's role the rights that are named."),
)
WAY_BACK_MISSING = Message(
    "NU-4104",
    N_("The kept copy of {database} that leads back is not there."),
    N_("Restore {database} from the site's own backup; ask the database administrator."),
    ExitCode.NEEDS_PERSON,
)
DUMP_FAILED = Message(
    "NU-4106",
    N_("The program {program} failed on {database}."),
    N_("Read its message; check bin_directory and the space left."),
)
ORPHAN_DIRECTORY = Message(
    "NU-4107",
    N_("An interrupted copy of {database} left the directory base/{oid} in the server."),
    N_(
        "Stop the server's administrator account from using it and remove the directory base/{oid}"
        " below the data directory; no database has this number."
    ),
)
PROGRAMS_DIFFER = Message(
    "NU-4108",
    N_("The program {program} has to be of PostgreSQL {major}, as the server is; {which}."),
    N_(
        "Install the client programs of PostgreSQL {major} on this machine, or correct "
        "bin_directory below [databases.postgresql] in agent.toml; without it they are looked for "
        "where packages put them."
    ),
)
APPLICATION_SHUT_OUT = Message(
    "NU-4170",
    N_("PostgreSQL no longer lets the user {user} log in as {role}."),
    N_("Add 'ncen {user} {role}' to pg_ident.conf, then 'sudo systemctl reload postgresql'."),
    ExitCode.BLOCKED,
)
MIGRATION_FILE_BAD = Message(
    "NU-4200",
    N_("The migration file {path} of release {release} cannot be used: {reason}"),
    N_("Build the release's directory again from the feed; nothing was changed."),
    ExitCode.TRUST,
)
CHECK_MISSHAPEN = Message(
    "NU-4201",
    N_("The check '{check}' on {database} answered {shape} values instead of one."),
    N_(
        "Send the Secretariat what 'ncen-updater doctor' and 'history' say: "
        "the release's check is wrong."
    ),
)
MIGRATOR_MISSING = Message(
    "NU-4202",
    N_("The application's migrator {program} cannot be started."),
    N_("Build the release's directory again from the feed, then try again."),
)
MIGRATOR_FAILED = Message(
    "NU-4203",
    N_("The application's own migrator {program} failed on {database}: {how}"),
    N_(
        "Send the Secretariat what 'ncen-updater doctor' and 'history' say; "
        "the site can go on working."
    ),
)
MIGRATOR_NOBODY = Message(
    "NU-4204",
    N_("The agent is root, and no user is known for the application's migrator: {user}."),
    N_("Say in agent.toml as whom the application runs: 'user' of the table [application]."),
    ExitCode.BLOCKED,
)
MIGRATOR_OUTSIDE = Message(
    "NU-4205",
    N_("The application's migrator {program} is no program of the release."),
    N_("Nothing was run. Tell the Secretariat: the program has to lie in the release itself."),
    ExitCode.BLOCKED,
)
EXPAND_FAILED = Message(
    "NU-4206",
    N_("The program of {version} failed on the databases while {current} went on working: {cause}"),
    N_(
        "What it did until then stays; {version} says that {current} does not see it, and that it"
        " may be run once more. {cause_remedy}"
    ),
    ExitCode.ROLLED_BACK,
)
EXPAND_UNDER_WAY = Message(
    "NU-4207",
    N_("A program of a release has been at work on the databases for {seconds} s."),
    N_(
        "It was started by an agent that ended meanwhile: end it, try again. 'ps' shows it, or the"
        " server, among its sessions (application_name 'ncen-updater-migrator')."
    ),
    ExitCode.BUSY,
)
CONTRACT_FAILED = Message(
    "NU-4208",
    N_(
        "The program that brings the migrations of {product} {version} to their end failed: {cause}"
    ),
    N_(
        "{version} runs on, and no record is lost. It is tried again by the service, or by"
        " 'ncen-updater resume'; 'ncen-updater confirm' leaves it so. {cause_remedy}"
    ),
)
NOT_A_SET = Message(
    "NU-4220",
    N_("{database} is a plain directory, not a link to a set of databases."),
    N_("Stop the application and let the agent adopt the databases once, then try again."),
    ExitCode.BLOCKED,
)
SET_MISSING = Message(
    "NU-4221",
    N_("The databases {database} are not there."),
    N_("Do not start the application; look for the files or restore the backup."),
    ExitCode.NEEDS_PERSON,
)
FILES_WRITTEN = Message(
    "NU-4222",
    N_("Another program wrote to {files} of {database} while the databases were closed."),
    N_(
        "Nothing that it wrote is lost: the site goes on with these files. Find the program, for "
        "example with 'fuser -v' on them as root, stop it, then try again."
    ),
)
NOTE_UNREADABLE = Message(
    "NU-4223",
    N_("What the database files were when they were closed cannot be read: {database}."),
    N_("Nothing was changed by this. Look after the disk of the state directory, try again."),
)
NOT_PLAIN = Message(
    "NU-4224",
    N_("{database} is not a plain file or directory with one name: {detail}."),
    N_(
        "The agent follows nothing there and changed nothing of it. Find out who put it there: "
        "whoever may write to the databases may. Remove it or put the database in its place, start "
        "and stop the application once where a journal was left, then try again."
    ),
    ExitCode.BLOCKED,
)
FILES_NOT_KEPT = Message(
    "NU-4301",
    N_("What is in {directory} could not be kept before the change: {reason}."),
    N_("Give the agent's user the right to read and write there, then try again."),
)
FILES_NOT_PUT_BACK = Message(
    "NU-4302",
    N_("What was in {directory} before the change could not be put back: {reason}."),
    N_(
        "Put right what is named, then run 'ncen-updater resume'. What was there lies in {place};"
        " leave it there."
    ),
    ExitCode.NEEDS_PERSON,
)
PLACE_NOT_OURS = Message(
    "NU-4303",
    N_("{place} is not a directory of the agent's own that nobody else may enter."),
    N_("Find out who made it, move it away, and try again."),
)
INDEX_UNUSABLE = Message(
    "NU-4304",
    N_("The list of what was in {directory} before the change is damaged."),
    N_("Do not remove {place}: the files lie there. Call the Secretariat."),
    ExitCode.NEEDS_PERSON,
)

# ---- 5xxx: the application and its health ----------------------------------------------------

APPLICATION_ERROR = Message(
    "NU-5001",
    N_("The application could not be controlled."),
    N_("Try the commands of the table [application] by hand, and correct them."),
)
COMMAND_FAILED = Message(
    "NU-5002",
    N_("The command to {action} the application failed: {reason}"),
    N_("Run {command} by hand and read what it says."),
)
STOP_FAILED = Message(
    "NU-5003",
    N_("The application did not stop within {seconds} seconds."),
    N_("Stop it by hand, find out what holds it, then try again."),
)
STATE_UNKNOWN = Message(
    "NU-5004",
    N_("It is not known whether the application runs: {reason}"),
    N_("Run {command} by hand; it must say clearly whether the application runs."),
)
DOOR_STUCK = Message(
    "NU-5005",
    N_("The file {path}, which keeps officers out, could not be changed."),
    N_("Check that its directory exists and that the agent may write there."),
)
HEALTH_SETTINGS_WRONG = Message(
    "NU-5006",
    N_("The address {url} of the application's health cannot be used: {reason}"),
    N_("Correct health_url and health_path in the table [application]."),
)
ORDER_UNDER_WAY = Message(
    "NU-5007",
    N_("A command that starts or stops the application has been at work for {seconds} s."),
    N_("It is a child of an agent, which may have ended: see 'ps', end it, try again."),
)
PART_STOP_FAILED = Message(
    "NU-5008",
    N_("The part '{part}' of the application did not stop within {seconds} seconds."),
    N_("Stop it by hand, find out what holds it, then try again."),
)
ANOTHER_ANSWERS = Message(
    "NU-5009",
    N_("Every part of the application is stopped, and yet version {version} answers at {url}."),
    N_(
        "Find the program that listens there and end it: the commands of the table [application] "
        "do not know of it."
    ),
)
NEVER_ANSWERED = Message(
    "NU-5010",
    N_(
        "{product} {version} was started twice and could not be judged; the first time: {first}; "
        "the second time: {second}"
    ),
    N_(
        "The release is not called bad. See the application's own log; end what else stops or "
        "starts it, or keeps its address; then try again."
    ),
)
FRONT_LETS_IN = Message(
    "NU-5011",
    N_("The web server in front, {url}, does not keep officers out: {reason}"),
    N_(
        "It has to answer with status 503 while the file {path} is there. Compare that path with "
        "the one in its configuration, and see that it may enter the directory; then try again."
    ),
    ExitCode.BLOCKED,
)
HEALTH_TOKEN_MISSING = Message(
    "NU-5090",
    N_("The token that the application is asked with, {path}, cannot be read: {reason}"),
    N_("Put the token alone into that file, mode 0600, owned by the agent's user; then try again."),
    ExitCode.BLOCKED,
)
HEALTH_TOKEN_EXPOSED = Message(
    "NU-5091",
    N_("The token that the application is asked with, {path}, can be read by others."),
    N_("Run: chmod 600 {path}"),
    ExitCode.BLOCKED,
)
HEALTH_TOKEN_BAD = Message(
    "NU-5092",
    N_("{path} does not hold one token: a single word that can stand in a header."),
    N_("Put the token alone into that file, without the word that goes before it."),
    ExitCode.BLOCKED,
)
COMMAND_SAYS_ANOTHER = Message(
    "NU-5093",
    N_(
        "Every part of the application is stopped, and yet {url} answers well, and '{command}' "
        "says that version {version} runs."
    ),
    N_(
        "Find the program that listens there and end it: the commands of the table [application] "
        "do not know of it. If it is no release of it, correct version_command, which must not "
        "tell a version while nothing runs."
    ),
)
HEALTH_REFUSED = Message(
    "NU-5094",
    N_("With what this site sends along, nobody can ask how the application is: {problems}"),
    N_(
        "Renew the token, or correct health_token_scheme and health_headers in the table "
        "[application]; then try again. No release could be judged without."
    ),
    ExitCode.BLOCKED,
)

# ---- 6xxx: the upgrade, journal and recovery -------------------------------------------------

JOURNAL_MISSING = Message(
    "NU-6001",
    N_("There is no journal at {path}."),
    N_(
        "On a new site run 'ncen-updater adopt'. On a site that was upgraded before, "
        "restore the journal from the backup; do not make a new one."
    ),
    ExitCode.NEEDS_PERSON,
)
JOURNAL_UNREADABLE = Message(
    "NU-6002",
    N_("The journal {path} cannot be trusted: {reason}"),
    N_(
        "All automatic work has stopped. Keep the file, restore it from the backup, "
        "and run 'ncen-updater doctor'."
    ),
    ExitCode.NEEDS_PERSON,
)
JOURNAL_UNWRITABLE = Message(
    "NU-6003",
    N_("The journal {path} cannot be written: {reason}"),
    N_(
        "Let the disk be mounted writable and its owner be right, then give the command again;"
        " where 'ncen-updater status' shows a change that has not come to its end, run"
        " 'ncen-updater resume'."
    ),
)
BUSY = Message(
    "NU-6004",
    N_("Another ncen-updater is at work here ({holder})."),
    N_("Wait until it has finished; 'ncen-updater status' shows what it does."),
    ExitCode.BUSY,
)
OPEN_CHANGE = Message(
    "NU-6005",
    N_("The change {change} ({kind} to {version}) has not come to its end."),
    N_(
        "Run 'ncen-updater resume' first; where officers work and the release is only watched yet,"
        " 'ncen-updater confirm' ends that."
    ),
    ExitCode.BUSY,
)
STEP_DID_NOT_HOLD = Message(
    "NU-6006",
    N_("The step '{step}' ended, but what it should have done is not there."),
    N_("Send the Secretariat what 'ncen-updater doctor' and 'history' say."),
)
CHECKS_FAILED = Message(
    "NU-6007",
    N_("The data do not check after the migrations: {problems}"),
    N_(
        "Do not try this release again; send the Secretariat what "
        "'ncen-updater doctor' and 'history' say."
    ),
)
UNHEALTHY = Message(
    "NU-6008",
    N_("{product} {version} did not become healthy in {seconds} seconds: {problems}"),
    N_("Send the Secretariat what 'ncen-updater doctor' and 'history' say."),
)
SOAK_FAILED = Message(
    "NU-6009",
    N_("{product} {version} turned bad in the watched time: {problems}"),
    N_("Send the Secretariat what 'ncen-updater doctor' and 'history' say."),
    ExitCode.ROLLED_BACK,
)
INTERRUPTED = Message(
    "NU-6010",
    N_("The change was interrupted ({signal})."),
    N_(
        "Where a release is in its watched time, officers go on working and only the watching has"
        " ended: 'ncen-updater resume' goes on with it, 'ncen-updater confirm' ends it. Else give"
        " the same command again when you are ready."
    ),
)
CHANGE_FAILED = Message(
    "NU-6011",
    N_("The {kind} to {version} failed in the step '{step}' and was undone: {cause}"),
    N_("{cause_remedy}"),
    ExitCode.ROLLED_BACK,
)
GOING_BACK_FAILED = Message(
    "NU-6012",
    N_("Undoing the change stopped in the step '{step}': {cause}"),
    N_("Mend what is named, then run 'ncen-updater resume'. {cause_remedy}"),
    ExitCode.NEEDS_PERSON,
)
NEEDS_PERSON = Message(
    "NU-6013",
    N_("The agent does not touch this site any more: {reason}"),
    N_("Keep the application as it is, run 'ncen-updater doctor', and call the Secretariat."),
    ExitCode.NEEDS_PERSON,
)
NOTHING_TO_ROLL_BACK = Message(
    "NU-6014",
    N_("There is no earlier release to go back to."),
    N_("'ncen-updater history' shows what was done here."),
)
RECORDS_WOULD_BE_LOST = Message(
    "NU-6015",
    N_(
        "{way} It would lose at least {count} records entered or changed since ({tables}); what was"
        " deleted since would come back."
    ),
    N_(
        "Release {current} cannot go back keeping them ({reason}). To go back all the same, "
        "run 'ncen-updater rollback --accept-loss {count}', with a larger number "
        "while officers are still entering records. Where people have to approve it, they give "
        "that number first: 'ncen-updater approve --rollback --accept-loss {count}'."
    ),
    ExitCode.APPROVAL_MISSING,
)
NOTHING_TO_CONFIRM = Message(
    "NU-6016",
    N_("No release is in its watched time."),
    N_("'ncen-updater status' shows what runs."),
)
JOURNAL_EXISTS = Message(
    "NU-6017",
    N_("This site already has a journal at {path}."),
    N_("Nothing is to be done; 'ncen-updater status' shows the site."),
)
GUARD_BLOCKS = Message(
    "NU-6018",
    N_("The preflight blocks this change: {problems}"),
    N_("{remedies}"),
    ExitCode.BLOCKED,
)
RELEASE_NOT_ON_OFFER = Message(
    "NU-6019",
    N_("Release {version} is not on offer, or was not fetched whole."),
    N_(
        "Run 'ncen-updater check', then try again. If it is not on the list then, ask the "
        "Secretariat to publish it, or for a bundle with it."
    ),
)
HELD = Message(
    "NU-6020",
    N_("Upgrades are on hold since {since}, set by {by}: {reason}"),
    N_("Speak with {by}; 'ncen-updater unhold' lifts the hold."),
    ExitCode.HELD,
)
LOCK_UNUSABLE = Message(
    "NU-6021",
    N_("The lock {path} cannot be taken: {reason}"),
    N_("Make room on the disk, or give the agent's user its state directory; then try again."),
)
WINDOW_CLOSED = Message(
    "NU-6022",
    N_("The cut-over had to begin before {until}; it was not ready in time."),
    N_("Nothing to do: the service tries again in the next window."),
    ExitCode.HELD,
)
APPROVAL_MISSING = Message(
    "NU-6023",
    N_("Release {version} has to be approved by {missing} more (of {needed})."),
    N_("Let each of them look at it and type 'ncen-updater approve {version}', then try again."),
    ExitCode.APPROVAL_MISSING,
)
NOT_REHEARSED = Message(
    "NU-6024",
    N_("Release {version} has passed no rehearsal at this site."),
    N_(
        "'ncen-updater history' says whether one failed, and of what. Who may operate runs "
        "'ncen-updater rehearse'."
    ),
    ExitCode.REHEARSAL_STALE,
)
REHEARSAL_OUTDATED = Message(
    "NU-6025",
    N_("What was rehearsed or approved for {version} no longer holds: {reasons}"),
    N_("Run 'ncen-updater rehearse', and let it be approved again."),
    ExitCode.REHEARSAL_STALE,
)
REHEARSAL_FAILED = Message(
    "NU-6026",
    N_("The rehearsal of {version} failed: {cause} ({cause_code})"),
    N_(
        "Nothing of the site was touched; once the cause is mended, run 'ncen-updater rehearse'"
        " again. {cause_remedy}"
    ),
    ExitCode.BLOCKED,
)
NOTHING_TO_APPROVE = Message(
    "NU-6027",
    N_("Nothing is on offer that could be approved; {current} runs here."),
    N_("'ncen-updater check' and 'status' say why a release on the list cannot be taken now."),
)
LATER_HOP_FAILED = Message(
    "NU-6028",
    N_(
        "The {kind} to {version} failed in the step '{step}' and was undone; "
        "release {stays}, reached before it, stays: {cause}"
    ),
    N_("{cause_remedy}"),
    ExitCode.ROLLED_BACK,
)
ROOT_IS_NOBODY = Message(
    "NU-6029",
    N_("Two people have to approve here, and {who} may be any of them."),
    N_(
        "Approve as yourself: without sudo, from your own account, as a member of the group of "
        "approvers."
    ),
    ExitCode.APPROVAL_MISSING,
)
JOURNAL_FORBIDDEN = Message(
    "NU-6031",
    N_("You may not read the journal {path}."),
    N_("Use sudo; where the service runs, members of its group need no right to the file."),
)
REHEARSAL_LIMITED = Message(
    "NU-6032",
    N_(
        "The rehearsal of {version} failed, on copies without what a dump by the application's"
        " role does not carry ({objects}): {cause} ({cause_code})"
    ),
    N_(
        "Nothing of the site was touched, and the release is not called bad: an upgrade works on"
        " whole copies. Where it failed for want of these objects, set rehearse = false."
        " {cause_remedy}"
    ),
    ExitCode.BLOCKED,
)
NOT_AS_KEPT = Message(
    "NU-6035",
    N_(
        "The structure of {database} as it would be restored is not the one that was recorded of"
        " {version}."
    ),
    N_(
        "Nothing was cut over. Find out who changed the kept databases; send the Secretariat what"
        " 'ncen-updater doctor' and 'history' say."
    ),
    ExitCode.NEEDS_PERSON,
)
UNTOLD_LOSS = Message(
    "NU-6036",
    N_(
        "The way back from {version} to {origin} loses values in {objects}, and the release does"
        " not say so: they were written on trial, and were not there after going back and forward."
    ),
    N_(
        "Send the Secretariat these columns: the way down has to park them, or the release has to"
        " declare them in 'loses'."
    ),
    ExitCode.BLOCKED,
)
RELEASE_NOT_HERE = Message(
    "NU-6040",
    N_("Release {version} is not on this site's disk."),
    N_("On the disk are: {versions}. Name the one that the databases belong to."),
)
RESTORED_IS_OTHER = Message(
    "NU-6041",
    N_("The database {database} is not one of release {version}: {reason}"),
    N_(
        "Name the release that ran when the backup was made, or let all databases be restored "
        "from one moment."
    ),
    ExitCode.BLOCKED,
)
STOP_APPLICATION_FIRST = Message(
    "NU-6042",
    N_("{product} {current} is running, and the databases are to be taken as {version}."),
    N_("Stop the application, then run the command again."),
    ExitCode.BLOCKED,
)
JOURNAL_TORN = Message(
    "NU-6043",
    N_("The last record of the journal {path} was torn, and you may not clear that."),
    N_("Run 'sudo ncen-updater status', or wait until the service has begun again."),
)
WAY_BACK_CHANGED = Message(
    "NU-6044",
    N_("A rollback would do something else now: from {current} to {version}."),
    N_("Look at it again with 'ncen-updater rollback --dry-run', then decide anew."),
    ExitCode.BLOCKED,
)
VALUES_WOULD_BE_LOST = Message(
    "NU-6050",
    N_("{way} Entered there since {current} came, and lost: {objects} rows, {count} together."),
    N_(
        "Look at them first. A copy stays in the databases of {current}, which are kept for {days}"
        " days. To go back all the same, run 'ncen-updater rollback --accept-loss {count}', with a"
        " larger number while officers are still entering records. Where people have to approve it,"
        " they give that number first: 'ncen-updater approve --rollback --accept-loss {count}'."
    ),
    ExitCode.APPROVAL_MISSING,
)
BACK_NEEDS_APPROVAL = Message(
    "NU-6056",
    N_(
        "Going back to {version} has to be approved by {missing} more (of {needed}); by now: {who}."
    ),
    N_(
        "Let them run 'ncen-updater approve --rollback{loss}', then try again. What cannot wait, "
        "and loses no record, goes by 'ncen-updater rollback --emergency --reason TEXT', of which "
        "everybody is told."
    ),
    ExitCode.APPROVAL_MISSING,
)
EMERGENCY_WITHOUT_REASON = Message(
    "NU-6057",
    N_("An emergency was not given a reason."),
    N_("Nothing was changed. Say with --reason why it cannot wait."),
    ExitCode.USAGE,
)
ADOPTED_IS_OTHER = Message(
    "NU-6060",
    N_("{url} says that {said} runs here, not {version}."),
    N_("Run 'ncen-updater adopt {said}', or with the release that reports {said}."),
    ExitCode.BLOCKED,
)
DATABASES_ARE_OTHER = Message(
    "NU-6061",
    N_("The database {database} is not one of {version}: {reason}"),
    N_(
        "Find out which release is installed, and run 'ncen-updater adopt' with that one. If it is"
        " {version}, something was changed by hand: send the Secretariat this message."
    ),
    ExitCode.BLOCKED,
)
RELEASE_NOT_TOLD = Message(
    "NU-6062",
    N_("{url} does not say which release runs here ({problem})."),
    N_(
        "Start the application and try again. If it cannot run now, look in its directory whether"
        " {version} is installed, and run 'ncen-updater adopt {version} --application-is-down'."
    ),
    ExitCode.BLOCKED,
)
CURRENT_IS_OTHER = Message(
    "NU-6063",
    N_("The link {link} leads to {current}, not to {version}."),
    N_("Run 'ncen-updater adopt {current}' if that is what runs; else correct the link first."),
    ExitCode.BLOCKED,
)
DATABASES_KNOW = Message(
    "NU-6064",
    N_("There is no journal at {path}, but an agent has changed these databases before: {sign}."),
    N_(
        "Restore the journal from the backup; do not make a new one. If it is older than the"
        " databases, run 'ncen-updater accept-restore' with the release that is installed"
        " afterwards. If there is no backup of it, call the Secretariat."
    ),
    ExitCode.NEEDS_PERSON,
)
TAKEN_OVER_ALREADY = Message(
    "NU-6065",
    N_("This site was taken over with {current}, and more has happened since."),
    N_(
        "An adoption can be corrected only while nothing followed it. 'ncen-updater status' shows"
        " the site; if {current} is wrong, change nothing and call the Secretariat."
    ),
)
JOURNAL_NO_ROOM = Message(
    "NU-6066",
    N_("The disk is full, and the journal {path} takes no record."),
    N_("Make room on that disk, then give the command again."),
    ExitCode.SPACE,
)
WATCHED_WITHOUT_DATABASES = Message(
    "NU-6067",
    N_(
        "The databases have been away for {minutes} minutes while {product} {version} is watched;"
        " that is not held against it."
    ),
    N_(
        "The release stays, and its watched time is not over. Bring the database server back:"
        " then the service watches on by itself, and without it 'ncen-updater resume' does."
    ),
)
FEED_NEVER_READ = Message(
    "NU-6068",
    N_("The feed was never read here, so that it is not known which releases there are."),
    N_(
        "Run 'ncen-updater check'; on a site without a network, 'ncen-updater import' takes them"
        " from a bundle. Then give the command again."
    ),
    ExitCode.BLOCKED,
)
WATCHED_ON_FULL_DISK = Message(
    "NU-6069",
    N_(
        "The disk of {path} has been full for {minutes} minutes while {product} {version} is"
        " watched; that is not held against it."
    ),
    N_(
        "The release stays, and its watched time is not over. Make room on that disk: then the"
        " service watches on by itself, and without it 'ncen-updater resume' does. If the disk"
        " fills again at once, see whether {version} itself is what writes so much (its log, its"
        " files): then go back, by 'ncen-updater rollback'."
    ),
)
LOSS_NOT_AGREED = Message(
    "NU-6070",
    N_(
        "Going back to {version} would lose more (records: {count}) than was agreed to ({agreed} "
        "at most; approved by: {who})."
    ),
    N_(
        "If no more than that is lost, run 'ncen-updater rollback --accept-loss {agreed}'. Else "
        "let each of them run 'ncen-updater approve --rollback --accept-loss {count}' and try "
        "again, or somebody who may approve run 'ncen-updater rollback --accept-loss {count}'."
    ),
    ExitCode.APPROVAL_MISSING,
)
WATCHED_FIRST = Message(
    "NU-6071",
    N_(
        "There is nothing to approve yet: {version} is in use and is watched until {until}. What "
        "that comes to is to be seen first."
    ),
    N_(
        "Look again then. Where the release is good, 'ncen-updater confirm' ends the watching at "
        "once."
    ),
    ExitCode.BUSY,
)
RELEASE_NOT_WHOLE = Message(
    "NU-6072",
    N_("Release {version} on this site's disk is not as it was signed: {files}"),
    N_("Put these files back as they were ('ncen-updater verify' lists all), then try again."),
)
APPLICATION_UNWELL = Message(
    "NU-6074",
    N_("The application does not work now ({problems})."),
    N_("Find out why, and type 'ncen-updater adopt {version}' again once users can work."),
    ExitCode.BLOCKED,
)
SMOKE_FAILED = Message(
    "NU-6076",
    N_("{version} does not work on copies of this site's databases: its {program}: {how}"),
    N_(
        "Send the Secretariat what 'ncen-updater doctor' and 'history' say; "
        "the site can go on working."
    ),
)
OUTSIDE_UNIT = Message(
    "NU-6346",
    N_("{path} lies outside of what the units of the agent may write to."),
    N_("Type 'sudo systemctl daemon-reload': the units then follow agent.toml."),
    ExitCode.BLOCKED,
)

# ---- 7xxx: the publisher ---------------------------------------------------------------------

BAD_KEY_FILE = Message(
    "NU-7002",
    N_("The key file {path} cannot be used."),
    N_("Give a key file made by 'ncen-publisher keys new', unchanged."),
)
WRONG_PASSPHRASE = Message(
    "NU-7003",
    N_("The private key {path} does not open with this passphrase."),
    N_("Check that it is the right key and type its passphrase again."),
    ExitCode.USAGE,
)
DUPLICATE_KEY = Message(
    "NU-7004",
    N_("The same key stands twice for {role}: {first} and {second}."),
    N_("Every officer makes a key of their own; take one of the two away."),
    ExitCode.TRUST,
)
BAD_CEREMONY = Message(
    "NU-7005",
    N_("The ceremony file {path} is not valid."),
    N_("Correct the places that are named; docs/release-officer.md shows an example."),
    ExitCode.USAGE,
)
FEED_BROKEN = Message(
    "NU-7006",
    N_("The feed in {path} is not whole: {reason}"),
    N_("Restore the feed directory from its backup; never delete or edit its files."),
    ExitCode.TRUST,
)
BAD_EVENT = Message(
    "NU-7007",
    N_("The signing event {path} is not valid."),
    N_("Copy it again from the person who drafted it, or draft it anew."),
)
DIGEST_MISMATCH = Message(
    "NU-7008",
    N_("The draft of {role} is not the one with the digest {expected}."),
    N_("Do not sign. Ask the person who drafted it, by another way, which digest is right."),
    ExitCode.TRUST,
)
KEY_NOT_ALLOWED = Message(
    "NU-7009",
    N_("The key {key} may not sign {role}."),
    N_("Sign with a key that 'show' lists for this role."),
    ExitCode.TRUST,
)
PUBLISHER_BAD_SIGNATURE = Message(
    "NU-7010",
    N_("The signature {path} does not fit the draft of {role}."),
    N_("Delete this file and ask the officer to sign the draft again."),
    ExitCode.TRUST,
)
BELOW_THRESHOLD = Message(
    "NU-7011",
    N_("{role} is signed by {signed} of {threshold} officers that are needed."),
    N_("Ask {missing} to sign, merge the signatures and publish again."),
    ExitCode.APPROVAL_MISSING,
)
STALE_EVENT = Message(
    "NU-7012",
    N_("The feed changed since this event was drafted: {role} is at version {found}."),
    N_("Draft the change again on top of the feed as it is now."),
)
ALREADY_PUBLISHED = Message(
    "NU-7013",
    N_("{product} {version} was published before."),
    N_("Give the release a new version number; a published one never changes."),
)
PUBLISHER_TARGET_MISSING = Message(
    "NU-7014",
    N_("The file {target} is missing or is not the one that was signed."),
    N_("Give the staging directory that 'build' wrote, unchanged, with --staging."),
)
BUILD_REFUSED = Message(
    "NU-7015",
    N_("The release in {path} cannot be built: {reason}"),
    N_("Correct it, run 'ncen-publisher lint' and build again."),
)
FEED_BUSY = Message(
    "NU-7017",
    N_("Another publisher is writing to {path}."),
    N_("Wait until it has ended, then try again."),
    ExitCode.BUSY,
)
UNKNOWN_RELEASE = Message(
    "NU-7018",
    N_("The feed has no release {version} of {product}."),
    N_("See 'ncen-publisher status' for the releases that it has."),
    ExitCode.USAGE,
)
NOTHING_TO_DO = Message(
    "NU-7019",
    N_("There is nothing to draft: {reason}."),
    N_("See 'ncen-publisher status' for what the feed holds."),
    ExitCode.USAGE,
)
FEED_EXISTS = Message(
    "NU-7020",
    N_("There is something in {path} already."),
    N_("Name an empty or new directory."),
    ExitCode.USAGE,
)
NOT_ATOMIC = Message(
    "NU-7021",
    N_("This change of keys cannot be published in one step: {reason}"),
    N_(
        "Let the old keys sign the new versions as well. If they are lost or stolen, publish with"
        " --accept-interruption: clients that ask in between fail once and try again."
    ),
    ExitCode.BLOCKED,
)
BAD_PASSPHRASE_SOURCE = Message(
    "NU-7022",
    N_("The passphrase cannot be taken from {source}."),
    N_(
        "Use a file that only you may read (chmod 600), with one line for all keys, or one a key "
        "in the order in which they are named; or a descriptor, or the prompt."
    ),
    ExitCode.USAGE,
)
ROLE_LAPSED = Message(
    "NU-7023",
    N_("{role} expired on {expires}."),
    N_(
        "Draft one renewal of all that is named ('ncen-publisher renew'), let the officers sign,"
        " and publish that first."
    ),
    ExitCode.FEED_STALE,
)
UNKNOWN_PRODUCT = Message(
    "NU-7024",
    N_("The feed has no role '{product}'; it has {products}."),
    N_("Name one of these (a product with --product). A new one needs a changed ceremony file."),
    ExitCode.USAGE,
)
WRITE_FAILED = Message(
    "NU-7025",
    N_("The feed could not be written to the end."),
    N_("Make room or repair the disk, then run the same command again; it completes."),
)
DIGEST_SHORT = Message(
    "NU-7026",
    N_("A digest of {count} digits was typed; at least {needed} are compared."),
    N_("Type the eight words of it, or its first four groups of eight digits, as you were told."),
    ExitCode.USAGE,
)
LINT_REFUSES = Message(
    "NU-7027",
    N_("lint refuses {name}: {what}"),
    N_("Mend it until 'ncen-publisher lint' says of nothing that it blocks; then do this again."),
    ExitCode.BLOCKED,
)
ONE_SIGNATURE = Message(
    "NU-7028",
    N_("With this ceremony one person alone could sign for {roles}."),
    N_("Let two or more sign ('threshold'). Say --one-signature only if you mean exactly that."),
    ExitCode.BLOCKED,
)
PRODUCT_NEEDED = Message(
    "NU-7029",
    N_("No product was named, and the feed has several: {products}."),
    N_("Name one with --product."),
    ExitCode.USAGE,
)
PASSPHRASE_SHORT = Message(
    "NU-7030",
    N_("The passphrase for {path} has {count} characters, and {needed} are needed."),
    N_("Take a longer one, or let 'keys new' make one of six words with --generate."),
    ExitCode.USAGE,
)
KEY_EXISTS = Message(
    "NU-7031",
    N_("There is a key file {path} already, and keys are never written over."),
    N_("Give another name or another directory."),
    ExitCode.USAGE,
)
KEY_READABLE = Message(
    "NU-7032",
    N_("Others than its owner may read the private key {path} (mode {mode})."),
    N_(
        "Keep it on a disk of your own, with 'chmod 600'. If others could have had it, make another"
        " key and change the ceremony."
    ),
    ExitCode.TRUST,
)
SIGNED_ANOTHER = Message(
    "NU-7033",
    N_("You signed another draft of {role} version {version} before: '{title}', on {at}."),
    N_(
        "Do not sign before you know why there are two: both would be true, and different countries"
        " could be shown different ones. If the first was given up, let its signatures be"
        " destroyed, then say --second-draft."
    ),
    ExitCode.TRUST,
)
LEDGER_BROKEN = Message(
    "NU-7034",
    N_("The list of what you signed, {path}, cannot be read."),
    N_("Restore it from a copy of yours. It tells whether a second draft is put before you."),
    ExitCode.TRUST,
)
HISTORY_BROKEN = Message(
    "NU-7035",
    N_("The history of lists {path} cannot be followed (line {line})."),
    N_(
        "Nothing was added. Compare it with a copy that somebody else keeps: a line in the middle "
        "was changed, taken away or put in."
    ),
    ExitCode.TRUST,
)
RELEASE_NOT_EMPTY = Message(
    "NU-7036",
    N_("{path} is there already."),
    N_("Change that manifest by hand, or move it away to have another one written."),
)
NO_DESK_SITE = Message(
    "NU-7037",
    N_("{path} is no site on which a release can be tried: {reason}"),
    N_(
        "Make a copy of a site that may be lost; docs/using-your-own-application.md shows how, and"
        " what its agent.toml has to say."
    ),
)
KEY_NAME = Message(
    "NU-7038",
    N_("'{name}' cannot be the name of a key."),
    N_(
        "Give the name of its owner alone, such as amina: '.pem' is added to it. --directory says"
        " where the files go."
    ),
    ExitCode.USAGE,
)
PASSPHRASE_UNASKED = Message(
    "NU-7039",
    N_("A passphrase or PIN is needed for {name}, and there is no terminal to type it at."),
    N_(
        "Run it in a terminal, or name a place of it with --passphrase-file or --passphrase-fd; for"
        " a new key, --generate makes one."
    ),
    ExitCode.USAGE,
)
UNSOUND_DRAFT = Message(
    "NU-7040",
    N_("The draft of {role} is not sound: {reason}"),
    N_("Do not sign. Show it to the Secretariat, and draft the change anew."),
    ExitCode.TRUST,
)
BAD_DATES = Message(
    "NU-7041",
    N_("The draft of {role} has dates that were not agreed on: {reason}"),
    N_("Do not sign. Compare the clock of this machine, and draft the change anew."),
    ExitCode.TRUST,
)
UNTRUSTED_BASE = Message(
    "NU-7042",
    N_("The event stands on a feed that is not the one you know: {reason}"),
    N_("Do not sign. Get the event anew, from the feed that sites read."),
    ExitCode.TRUST,
)
TOKEN_UNUSABLE = Message(
    "NU-7043",
    N_("The token '{label}' cannot be used."),
    N_(
        "Check that it is plugged in, its label, the id of the key, and the driver (--module); with"
        " two tokens of the same label, unplug one. Tokens sign with ECDSA P-256 or P-384 only."
    ),
    state=N_("Nothing was signed."),
)
WRONG_PIN = Message(
    "NU-7044",
    N_("The token '{label}' refuses the PIN."),
    N_("It was tried once. Be sure of the PIN before you try again: the token locks itself."),
    ExitCode.USAGE,
    state=N_("Nothing was signed."),
)
NO_TOKEN_SUPPORT = Message(
    "NU-7045",
    N_("This installation cannot use tokens."),
    N_("Install the extra 'hsm' of ncen-updater (PyKCS11 and asn1crypto)."),
)
TOKEN_LOCKED = Message(
    "NU-7049",
    N_("The token '{label}' is locked after too many wrong PINs."),
    N_(
        "No PIN opens it now. Unlock it with its PUK and the tool of its maker; if nobody has that,"
        " let the other officers put another key in its place ('ncen-publisher rekey')."
    ),
    ExitCode.BLOCKED,
    state=N_("Nothing was signed."),
)
PUBLISHER_BUNDLE_EXISTS = Message(
    "NU-7050",
    N_("{path} is there already."),
    N_("Give another name, or remove it."),
    ExitCode.USAGE,
)
NOTHING_TO_EXPORT = Message(
    "NU-7051",
    N_("The feed holds no release for {site} after {origin}."),
    N_("Check country, site, channel and release of the site with its operator."),
    ExitCode.BLOCKED,
)
UNUSABLE_BUNDLE = Message(
    "NU-7053",
    N_("The bundle would be refused by {site} ({code}: {why}), so it was not kept."),
    N_(
        "Renew what has lapsed ('ncen-publisher status'), or correct what was asked for, and "
        "export again."
    ),
    ExitCode.TRUST,
)
RELEASE_NOT_FOR_SITE = Message(
    "NU-7054",
    N_("Release {version} cannot go to {site}: {reason}"),
    N_(
        "Check --for-site, --from, --channel, --agent and --to with the operator of that site;"
        " 'ncen-publisher status' shows whom each release is for."
    ),
    ExitCode.BLOCKED,
)
FILE_TOO_LARGE = Message(
    "NU-7056",
    N_("The file system of {path} cannot hold a file of {bytes}."),
    N_("Nothing was written. Format the medium as exFAT, then run 'ncen-publisher export' again."),
    ExitCode.SPACE,
)
PLACE_INVALID = Message(
    "NU-7060",
    N_("{place} is no place that a feed can be copied to."),
    N_("Name a directory, or s3://BUCKET/PREFIX; for that, install the extra 's3'."),
    ExitCode.USAGE,
)
PLACE_FAILED = Message(
    "NU-7061",
    N_("{place} could not be read or written."),
    N_("Look at the detail, then run the same command again; it completes."),
    ExitCode.NETWORK,
    state=N_("Clients see what was there before, or the whole new feed."),
)
OTHER_FEED = Message(
    "NU-7062",
    N_("In {place} lies another feed: its first root is not that of {feed}."),
    N_("Check both names. A place that sites already use is never given another feed."),
    ExitCode.TRUST,
)
PLACE_AHEAD = Message(
    "NU-7063",
    N_("{place} is ahead: {reason}."),
    N_("Use the newest copy of the feed; an older one would look like an attack to sites."),
    ExitCode.TRUST,
)
PLACE_DIFFERS = Message(
    "NU-7064",
    N_("{name} in {place} is not what was written there."),
    N_("Look whether anything changes files on the way, then run the same command again."),
    state=N_("The timestamp was not renewed, so clients see what was there before."),
)
PLACE_NO_CREDENTIALS = Message(
    "NU-7065",
    N_("This machine has no credentials for {place}, or not all of them."),
    N_(
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE and ~/.aws/credentials,"
        " for the user who runs this; then run the same command again."
    ),
    ExitCode.USAGE,
    state=N_("Clients see what was there before."),
)
SBOM_INVALID = Message(
    "NU-7070",
    N_("The SBOM {path} cannot be used."),
    N_("Give a CycloneDX file in JSON (1.4 to 1.6) of this very release, or 'auto'."),
)
PROVENANCE_INVALID = Message(
    "NU-7071",
    N_("The provenance {path} does not hold: {reason}"),
    N_("Do not sign. Let the builder build the release again, and compare the digests."),
    ExitCode.TRUST,
)
BUILDER_KEY_MISSING = Message(
    "NU-7072",
    N_("{path} is signed by a builder, and no builder's key was given to compare it with."),
    N_("Give the builder's public file, NAME.pub.json, with --builder-key."),
    ExitCode.USAGE,
)
PAPERS_MISSING = Message(
    "NU-7073",
    N_("The event does not hold {name} as it would be signed."),
    N_(
        "Do not sign. Get the event anew from whoever drafted it, whole; or give the files of the"
        " release with --staging, and the published feed with --feed."
    ),
    ExitCode.TRUST,
)
BRAKE_SPENT = Message(
    "NU-7074",
    N_("{owner} braked {product} {version} before (until {until})."),
    N_(
        "A key brakes a release once. Let another officer brake it, or halt it"
        " ('ncen-publisher halt'), which as many officers sign as a release."
    ),
    ExitCode.USAGE,
)
BRAKE_NOT_SET = Message(
    "NU-7075",
    N_("{product} {version} is not braked, and nothing was changed."),
    N_("See 'ncen-publisher status' for what the feed offers and who brakes what."),
    ExitCode.USAGE,
)
BRAKES_FULL = Message(
    "NU-7076",
    N_("This key brakes {count} newer releases, as many as a site reads of one key."),
    N_(
        "Lift one with 'ncen-publisher brake --lift', or halt the release with"
        " 'ncen-publisher halt'."
    ),
    ExitCode.USAGE,
)
OFFICER_FILE_BAD = Message(
    "NU-7080",
    N_("The officer's file {path} is not in order."),
    N_("Correct what is named; docs/release-officer.md shows the file."),
    ExitCode.USAGE,
)
OFFICER_FILE_OPEN = Message(
    "NU-7081",
    N_(
        "Others than the officer may read or write {path} (mode {mode}), on which the officer "
        "relies."
    ),
    N_("Look whether it is still as you had it, then give it to yourself and say 'chmod 600'."),
    ExitCode.TRUST,
)
OFFICER_FILE_SECRET = Message(
    "NU-7082",
    N_("The officer's file {path} holds '{name}', which belongs in no file."),
    N_("Take it out, and choose another passphrase or PIN if somebody else could have read it."),
    ExitCode.USAGE,
)
OWN_ROOT_UNUSABLE = Message(
    "NU-7083",
    N_("Your own copy of the root, {path}, cannot be used."),
    N_(
        "Correct its name, or take it from a backup of yours. Do not take it from the medium or "
        "from whoever drafted the event: with it you look whether they tell the truth. Where none "
        "is left, read the digest of another officer's to each other ('ncen-publisher keys show')."
    ),
    ExitCode.USAGE,
)
FEED_AWAY = Message(
    "NU-7084",
    N_("There is no feed at {path}: no such directory."),
    N_("Look at the name, and at the directory that this was typed in."),
    ExitCode.USAGE,
)

# ---- 9xxx: the service and the agent itself --------------------------------------------------

DOSSIER_UNWRITTEN = Message(
    "NU-9201",
    N_("The dossier could not be written to {path}: {reason}"),
    N_("Name a file in a directory that exists and has room, with --output."),
)
SOCKET_UNUSABLE = Message(
    "NU-9301",
    N_("The service cannot listen at {path}: {reason}"),
    N_("Correct the place, or 'socket' in the table [service] of the configuration."),
)
SOCKET_TAKEN = Message(
    "NU-9302",
    N_("Another service listens at {path}."),
    N_("Give each site a 'socket' of its own in the table [service]."),
    ExitCode.BUSY,
)
NO_SERVICE = Message(
    "NU-9303",
    N_("No service answers at {path}."),
    N_(
        "Start it ('systemctl start ncen-updater'), or ask to be made a member of the group "
        "that may read from it."
    ),
)
SERVICE_SILENT = Message(
    "NU-9304",
    N_("The service no longer answers: {reason}"),
    N_(
        "What was ordered is written down and is brought to its end when the service runs again; "
        "'ncen-updater status' shows it."
    ),
)
ORDER_TORN = Message(
    "NU-9305",
    N_("Order {order} was cut off: the service, or what worked for it, was ended by force."),
    N_(
        "Wait a minute: the service brings what was left to its end. 'ncen-updater status' shows"
        " whether it has, and 'ncen-updater history' how it ended."
    ),
)
NO_SUCH_THING = Message(
    "NU-9310",
    N_("The service knows nothing at {path}."),
    N_("docs/api.md lists what can be asked; 'ncen-updater history' lists the changes."),
    ExitCode.USAGE,
)
METHOD_NOT_ALLOWED = Message(
    "NU-9311",
    N_("{path} takes {allowed} only."),
    N_("docs/api.md lists what can be asked."),
    ExitCode.USAGE,
)
BAD_REQUEST = Message(
    "NU-9312",
    N_("The request cannot be understood: {reason}"),
    N_("docs/api.md lists what can be asked."),
    ExitCode.USAGE,
)
TOO_LARGE = Message(
    "NU-9313",
    N_("The request is larger than {limit_bytes}."),
    N_("docs/api.md lists what can be asked."),
    ExitCode.USAGE,
)
NOT_ALLOWED = Message(
    "NU-9314",
    N_("{who} may not do this here; that is for members of the group '{group}'."),
    N_(
        "Members: {members}. Ask one of them to do it, or whoever manages this machine to add you "
        "to that group."
    ),
)
BINDING_CHANGED = Message(
    "NU-9315",
    N_("What you saw is no longer what would be done."),
    N_("Look at it again with 'ncen-updater approve --dry-run', then decide anew."),
    ExitCode.REHEARSAL_STALE,
)
NOT_ASSESSED = Message(
    "NU-9316",
    N_("The service does not know yet what comes next here."),
    N_("Wait until what it does now has ended; 'ncen-updater status' shows it."),
    ExitCode.BUSY,
)
NOT_NEXT = Message(
    "NU-9317",
    N_("Release {version} does not come next here; {target} does."),
    N_(
        "Who may operate runs 'ncen-updater rehearse {version}' first; then it can be approved. Or "
        "leave the version out."
    ),
    ExitCode.BLOCKED,
)
ALREADY_ORDERED = Message(
    "NU-9318",
    N_("This was ordered already: order {order}, by {who}."),
    N_("'ncen-updater watch' follows it."),
    ExitCode.BUSY,
)
TOO_MANY_ORDERS = Message(
    "NU-9319",
    N_("{count} orders wait already."),
    N_("Wait until some of them have been carried out."),
    ExitCode.BUSY,
)
TOO_MANY_STREAMS = Message(
    "NU-9320",
    N_("{count} listeners follow the service already."),
    N_("End one of them, or ask again later."),
    ExitCode.BUSY,
)
ORDER_TOO_OLD = Message(
    "NU-9321",
    N_("Order {order} waited for more than {hours} hours and was not carried out."),
    N_("Nothing was changed. Give the order again if it is still wanted."),
    ExitCode.BUSY,
)
TOO_MANY_CONNECTIONS = Message(
    "NU-9322",
    N_("One user may hold {count} connections, and all together so many as are served."),
    N_("End one of your programs that follow the service, or ask again in some seconds."),
    ExitCode.BUSY,
)
NOT_PREPARED = Message(
    "NU-9323",
    N_("Release {version} is not prepared here yet, so that nothing more is known of it."),
    N_(
        "The service prepares what comes next by itself; somebody who may operate can type "
        "'ncen-updater plan'. Then ask again."
    ),
    ExitCode.BLOCKED,
)
TOO_MANY_INSPECTIONS = Message(
    "NU-9324",
    N_("{count} inspections are under way already; one is made at a time."),
    N_("Ask again when one of them has ended."),
    ExitCode.BUSY,
)
INSPECTION_GAVE_WAY = Message(
    "NU-9325",
    N_("The inspection gave way to work that begins or goes on at this site."),
    N_("Ask again once that has ended; 'ncen-updater status' shows it."),
    ExitCode.BUSY,
)
INSPECTION_OVERDUE = Message(
    "NU-9326",
    N_("The inspection took longer than {seconds} s, and was ended."),
    N_("Ask again when this machine has less to do. Root has no such limit: sudo, with --alone."),
)
INSPECTION_TOO_LARGE = Message(
    "NU-9327",
    N_("What the inspection found is larger than {limit_bytes}, which the service gives nobody."),
    N_("Root has no such limit: sudo, with --alone."),
)
INSPECTION_FAILED = Message(
    "NU-9328",
    N_("What inspects the site ended without a result: {reason}"),
    N_("Ask again; the log of the service says more ('journalctl -u ncen-updater')."),
)
INSPECTION_GOES_ON = Message(
    "NU-9329",
    N_("Inspection {number} is still under way."),
    N_("Ask for it by its number: /v1/inspections/{number}."),
    ExitCode.BUSY,
)
WATCHING_ENDED_BY_ORDER = Message(
    "NU-9331",
    N_("The watching of the release ended, since {who} ordered to go back (order {order})."),
    N_("The release was installed before; 'ncen-updater watch' shows how it is taken back."),
)
TOO_MANY_ACTS = Message(
    "NU-9332",
    N_("You changed more things in a short time than the service writes down for one person."),
    N_(
        "Ask again in half a minute; root is not counted. If it was not you, ask who uses your "
        "account."
    ),
    ExitCode.BUSY,
)
TRAY_UNUSABLE = Message(
    "NU-9333",
    N_("The tray {path} cannot be used: {reason}."),
    N_(
        "Let root make it as the package does: 'sudo systemd-tmpfiles --create"
        " ncen-updater.conf'. Or let root import the file from where it is."
    ),
    ExitCode.BLOCKED,
)
TRAY_FILE = Message(
    "NU-9334",
    N_("'{name}' is not taken from the tray: {reason}."),
    N_(
        "Lay the bundle down as yourself, a file for each part, by a name that nobody else has laid"
        " there: 'ncen-updater import FILE' does."
    ),
    ExitCode.BLOCKED,
)
LOSS_FOR_APPROVERS = Message(
    "NU-9335",
    N_(
        "Going back may lose records, up to {count}, and {who} may not agree to that alone; that "
        "is for members of the group '{group}'."
    ),
    N_(
        "Members: {members}. One of them runs 'ncen-updater rollback --accept-loss {count}'. What "
        "loses no record, you may do yourself while the release is watched."
    ),
)
NOT_REHEARSED_BY_NAME = Message(
    "NU-9336",
    N_("Release {version} cannot be approved: it has passed no rehearsal here, or is not offered."),
    N_(
        "Who may operate runs 'ncen-updater rehearse {version}': it says what stands in the way. "
        "Once it passed, it can be approved."
    ),
    ExitCode.BLOCKED,
)
ORDER_UNKNOWN = Message(
    "NU-9337",
    N_("There is no order {order} here."),
    N_("Its number stands where it was given; without one, 'watch' follows what is at work now."),
    ExitCode.USAGE,
)
SEQUENCE_DAMAGED = Message(
    "NU-9401",
    N_("{path} is damaged: {reason}"),
    N_("Start the agent's service again: it is written anew from the slots that are there."),
)
SEQUENCE_UNWRITABLE = Message(
    "NU-9402",
    N_("The choice of the agent in {path} cannot be written: {reason}"),
    N_("Make room on that disk, or let the agent's user write there."),
    ExitCode.SPACE,
)
AGENT_NOT_FROM_SLOT = Message(
    "NU-9403",
    N_("This agent does not run from a slot in {path} that was chosen there."),
    N_("Install it from its release with 'ncen-updater install', or renew it by hand."),
    ExitCode.USAGE,
)
AGENT_ON_TRIAL = Message(
    "NU-9404",
    N_("Agent {version} is still on trial here."),
    N_("Wait until it has confirmed itself or was given up; start the service if it stands."),
    ExitCode.BUSY,
)
AGENT_SLOT_FAILED = Message(
    "NU-9405",
    N_("The slot of agent {version} cannot be made: {reason}"),
    N_("The agent that runs goes on. Look at the reason, then try 'self-update' again."),
)
AGENT_NOT_CONFIRMED = Message(
    "NU-9406",
    N_("Agent {version} did not confirm itself within {seconds} seconds."),
    N_("Nothing: it is tried once more, and then the previous agent comes back by itself."),
)
AGENT_RELEASE_UNUSABLE = Message(
    "NU-9407",
    N_("{path} is no release of the agent that can be installed: {reason}"),
    N_("Unpack the archive of an agent release whole, and name that directory."),
    ExitCode.USAGE,
)
ROOT_UNUSABLE = Message(
    "NU-9408",
    N_("{path} cannot be used as the trusted root: {reason}"),
    N_("Take the file 'root.json' that the Secretariat handed over, and compare its digest."),
    ExitCode.TRUST,
)
ROOT_ALREADY_INSTALLED = Message(
    "NU-9409",
    N_("There is another trusted root at {path}."),
    N_("Nothing was replaced. Follow docs/trust.md if the root has to be another one."),
    ExitCode.TRUST,
)
INSTALL_FAILED = Message(
    "NU-9410",
    N_("'{part}' was refused: {reason}"),
    N_("Mend the reason and run the command again: what was done already is left as it is."),
)
CHANGE_STILL_OPEN = Message(
    "NU-9411",
    N_("Change {change} has not come to its end."),
    N_("Run 'ncen-updater resume' first; without the agent nothing could finish it."),
    ExitCode.BUSY,
)
WHEELS_UNUSABLE = Message(
    "NU-9412",
    N_("The wheels in {path} do not make a release of the agent: {reason}"),
    N_("Make them anew with script/agent-release, from a checkout that is unchanged."),
)
SERVICE_STILL_RUNS = Message(
    "NU-9413",
    N_("The service of ncen-updater runs."),
    N_("Stop it first ('systemctl stop ncen-updater'), then run the command again."),
    ExitCode.BUSY,
)
CAME_WITH_PACKAGE = Message(
    "NU-9414",
    N_("The agent came with a package of this system: {path} belongs to it."),
    N_(
        "Let the package take it away: 'sudo apt remove ncen-updater'. Without its files the "
        "package's units would keep the application from starting."
    ),
    ExitCode.BLOCKED,
)
READER_UNIT_AWAY = Message(
    "NU-9501",
    N_("The unit that reads the feed cannot be reached at {path}."),
    N_(
        "Run 'systemctl status ncen-updater-fetch.socket' and 'systemctl start "
        "ncen-updater-fetch.socket'. The site goes on working."
    ),
)
NOTIFY_ERROR = Message(
    "NU-9601",
    N_("A message could not be delivered."),
    N_("The message waits and is sent again by itself. Correct the table [notify] if need be."),
    ExitCode.NETWORK,
)
MAIL_UNREACHABLE = Message(
    "NU-9602",
    N_("The mail server {host}:{port} cannot be reached."),
    N_("The message waits and is sent again by itself. Correct the table [notify] if need be."),
    ExitCode.NETWORK,
)
MAIL_REFUSED = Message(
    "NU-9603",
    N_("The mail server {host}:{port} did not take the message (answer {status})."),
    N_("The message waits and is sent again by itself. Correct the table [notify] if need be."),
    ExitCode.NETWORK,
)
WRONG_PASSWORD = Message(
    "NU-9604",
    N_("The mail server {host}:{port} does not accept the user or the password."),
    N_("Correct the user or the password file in the table [notify.mail]."),
    ExitCode.NETWORK,
)
TELLING_TLS = Message(
    "NU-9605",
    N_("{host}:{port} could not prove who it is; nothing was sent."),
    N_("Check the name and the certificate of the server, or give its ca_file."),
    ExitCode.NETWORK,
)
WEBHOOK_UNREACHABLE = Message(
    "NU-9606",
    N_("The webhook {host}:{port} cannot be reached."),
    N_("The message waits and is sent again by itself. Correct the table [notify] if need be."),
    ExitCode.NETWORK,
)
WEBHOOK_REFUSED = Message(
    "NU-9607",
    N_("The webhook {host}:{port} did not take the message (status {status})."),
    N_("The message waits and is sent again by itself. Correct the table [notify] if need be."),
    ExitCode.NETWORK,
)
SECRET_MISSING = Message(
    "NU-9608",
    N_("The secret {name} of the table [notify] cannot be read: {reason}"),
    N_("Make the file with the secret alone in it, mode 0600, owned by the agent's user."),
    ExitCode.NETWORK,
)
SECRET_EXPOSED = Message(
    "NU-9609",
    N_("The secret {name} can be read by others; nothing was sent."),
    N_("Run: chmod 600 {name}"),
    ExitCode.NETWORK,
)
SENDER_FAILED = Message(
    "NU-9610",
    N_("The process that sends messages failed."),
    N_("The message waits and is sent again by itself. Correct the table [notify] if need be."),
    ExitCode.NETWORK,
)
BAD_ORDER = Message(
    "NU-9611",
    N_("There is no such message to send."),
    N_("The message waits and is sent again by itself. Correct the table [notify] if need be."),
    ExitCode.NETWORK,
)
BUNDLE_LEAKS = Message(
    "NU-9651",
    N_("No bundle was written: a value of {column} stands in the part {part}."),
    N_(
        "Look at it with --dry-run --show {part}. Leave the part out with --leave-out {part}, and "
        "tell the Secretariat that it was."
    ),
    ExitCode.BLOCKED,
)
BUNDLE_UNWRITABLE = Message(
    "NU-9652",
    N_("The file {path} cannot be written: {reason}"),
    N_("Choose another place with --output."),
)
SUPPORT_BUNDLE_EXISTS = Message(
    "NU-9653",
    N_("There is something at {path} already; it was left alone."),
    N_("Choose another name with --output."),
)
UNKNOWN_PART = Message(
    "NU-9654",
    N_("A bundle has no part {part}."),
    N_("The parts are: {parts}."),
    ExitCode.USAGE,
)

# ---- 97xx: the web console ----------------------------------------------------------------------

CONSOLE_KEY = Message(
    "NU-9701",
    N_("This link was used already, or it is older than a minute."),
    N_("Press Enter in the terminal in which the console runs: it shows a new link."),
)
CONSOLE_NO_SESSION = Message(
    "NU-9702",
    N_("This browser has no session here, or its session has ended."),
    N_(
        "Press Enter in the terminal in which the console runs, and open the link that it shows. "
        "The browser must keep cookies of this address."
    ),
)
CONSOLE_FOREIGN = Message(
    "NU-9703",
    N_("The request did not come from a page of this console."),
    N_("Open the page here, and use what stands on it."),
)
CONSOLE_FORM = Message(
    "NU-9704",
    N_("What was sent cannot be taken: {reason}"),
    N_("Go back, load the page once more, and send it again."),
    ExitCode.USAGE,
)
CONSOLE_NO_PAGE = Message(
    "NU-9705",
    N_("There is no page at {path}."),
    N_("Choose one of the pages that are named above."),
    ExitCode.USAGE,
)
CONSOLE_PORT = Message(
    "NU-9706",
    N_("Port {port} of this machine cannot be used: {reason}"),
    N_("Leave --port out, so that a free one is taken, or name another."),
)
CONSOLE_BLIND = Message(
    "NU-9707",
    N_("This machine does not tell whose a connection is."),
    N_("Use the commands instead: 'ncen-updater status' says how the site is."),
)
CONSOLE_TOO_MUCH = Message(
    "NU-9708",
    N_("This session has done more than one session may."),
    N_("Come in once more, by a new link of the terminal (Enter shows one) or by your password."),
    ExitCode.BUSY,
)
CONSOLE_COUNT = Message(
    "NU-9709",
    N_("What was typed is not the number of records that would be lost."),
    N_("Read the number on the page, and type it as it stands there."),
    ExitCode.USAGE,
)
CONSOLE_NOT_IN = Message(
    "NU-9710",
    N_("You are not in, or your session has ended."),
    N_("Come in with the name and the password of your account of this server."),
)
CONSOLE_PASSWORD = Message(
    "NU-9711",
    N_("The name or the password is wrong, or this account may not come in here."),
    N_(
        "Type both again. If that fails, ask the administrator of the server: 'journalctl -t "
        "ncen-updater-login' shows the reason."
    ),
)
CONSOLE_WAIT = Message(
    "NU-9712",
    N_("This name was tried with wrong passwords too often."),
    N_("Wait {wait}, then try once more."),
    ExitCode.BUSY,
)
CONSOLE_EXPIRED = Message(
    "NU-9713",
    N_("The password, or the account, has expired."),
    N_("Renew it on the server itself ('passwd'), or ask who keeps the server."),
)
CONSOLE_SECOND_SECRET = Message(
    "NU-9714",
    N_("This server asks for more than a password, which this page cannot give."),
    N_("Log in over SSH and type 'ncen-updater console'."),
)
CONSOLE_NO_LOGIN = Message(
    "NU-9716",
    N_("Passwords cannot be looked at just now: {reason}"),
    N_(
        "On the server 'systemctl status ncen-updater-login.socket' says whether it listens, and "
        "'ncen-updater doctor' what is missing. 'ncen-updater console' needs neither."
    ),
)
CONSOLE_BUSY = Message(
    "NU-9718",
    N_("The console is busy: too much is asked of it at the same time."),
    N_("Wait a few seconds, then load the page again."),
    ExitCode.BUSY,
)
