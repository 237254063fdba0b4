"""Errors of trust and network. Codes 2001 to 2199; those of the path are in ``feed/errors.py``.

None of them means "there is no update", and none of them changes anything at the site.
"""

from __future__ import annotations

from ncen_updater.common.errors import ExitCode, UpdaterError
from ncen_updater.common.i18n import N_

__all__ = [
    "BadSignature",
    "CaptivePortal",
    "ClockWrong",
    "DocumentMismatch",
    "FeedCut",
    "FeedError",
    "FeedProxy",
    "FeedRefused",
    "FeedTls",
    "FeedTooLong",
    "FeedTooSlow",
    "FeedUnreachable",
    "LocalStoreFailed",
    "MetadataDamaged",
    "MixedVersions",
    "NotProved",
    "OfferChanged",
    "OfferHalted",
    "OfferInvalid",
    "OfferWithdrawn",
    "OfficersRoleExpired",
    "ProductNotInFeed",
    "ReaderFailed",
    "ReaderOverdue",
    "ReaderUnitAway",
    "RoleExpired",
    "RollbackRefused",
    "RootChainBroken",
    "RootsHidden",
    "TargetMissing",
    "TreeMismatch",
    "TrustError",
    "TrustedRootMissing",
    "ViewDamaged",
    "WrongDigest",
    "WrongProduct",
    "WrongRole",
]

ASK = N_("Nothing was changed. Tell the Secretariat, and try again later.")
MIRROR = N_(
    "Nothing was changed. Try again; if it stays so, tell the Secretariat which feed address "
    "this site uses: a copy of the feed may be incomplete or altered."
)


class TrustError(UpdaterError):
    """What the feed says could not be verified."""

    code = "NU-2001"
    exit_code = ExitCode.TRUST
    what = N_("The signed lists of the feed could not be verified.")
    remedy = ASK


class TrustedRootMissing(TrustError):
    """Neither the stored nor the installed trusted root can be used."""

    code = "NU-2002"
    what = N_("The trusted root {path} is missing or damaged; no signature can be checked.")
    remedy = N_(
        "Copy root.json again from the installation medium of the agent and compare its digest "
        "with the one that the Secretariat gave by another way."
    )


class BadSignature(TrustError):
    """Fewer valid signatures than the threshold."""

    code = "NU-2003"
    what = N_("The list '{role}' of the feed does not bear enough valid signatures.")
    remedy = MIRROR


class RollbackRefused(TrustError):
    """Older than what this site has already seen."""

    code = "NU-2004"
    what = N_("The feed offered an older list '{role}' than this site has already seen.")
    remedy = MIRROR


class MetadataDamaged(TrustError):
    """Not in the form of signed metadata."""

    code = "NU-2005"
    what = N_("The list '{role}' of the feed cannot be read.")
    remedy = MIRROR


class WrongDigest(TrustError):
    """Other bytes than the signed digest says."""

    code = "NU-2006"
    what = N_("'{name}' arrived with other bytes than were signed.")
    remedy = MIRROR


class RoleExpired(TrustError):
    """A list that the Secretariat's server renews by itself, and did not."""

    code = "NU-2007"
    exit_code = ExitCode.FEED_STALE
    what = N_(
        "The list '{role}' of the feed lapsed on {since}: the Secretariat's server did not renew "
        "it in time, or this site is shown an old copy."
    )
    remedy = N_(
        "Nothing was changed and the site goes on working. Tell the Secretariat that its server "
        "has to renew '{role}'; check also that this server's date, {now}, is right."
    )


class OfficersRoleExpired(RoleExpired):
    """A list that officers sign by hand, and did not sign again in time."""

    code = "NU-2023"
    what = N_(
        "The list '{role}' of the feed lapsed on {since}: the officers of the Secretariat did not "
        "sign it again in time."
    )
    remedy = N_(
        "Nothing was changed and the site goes on working. Tell the Secretariat that its officers "
        "have to sign '{role}' again; check also that this server's date, {now}, is right."
    )


class ClockWrong(TrustError):
    """The site's own clock is the likely cause."""

    code = "NU-2008"
    what = N_(
        "This server's clock seems to be wrong: it says {now}, the feed's server says {server}."
    )
    remedy = N_("Set the clock (see 'timedatectl'), then try again. Nothing was changed.")


class MixedVersions(TrustError):
    """Lists that do not belong together."""

    code = "NU-2009"
    what = N_("The list '{role}' of the feed does not belong to the others.")
    remedy = MIRROR


class RootChainBroken(TrustError):
    """A root in the chain is missing or is not the next one."""

    code = "NU-2010"
    what = N_("The chain of trusted roots is broken after version {version}.")
    remedy = MIRROR


class RootsHidden(RootChainBroken):
    """The feed says that there is a newer root, and does not give it."""

    code = "NU-2021"
    what = N_(
        "The feed keeps back trusted roots: its newest is {newest}, and {version} is the last "
        "that it gave."
    )


class WrongRole(TrustError):
    """Good signatures on a list that was signed for another role."""

    code = "NU-2022"
    what = N_("In place of the list '{role}' the feed gave the list '{other}'.")
    remedy = MIRROR


class ProductNotInFeed(TrustError):
    """No delegation for the product of this site."""

    code = "NU-2011"
    what = N_("The feed does not carry the product '{product}'.")
    remedy = N_("Check the product and the feed address in the agent's configuration.")


class OfferInvalid(TrustError):
    """A signed offer that contradicts itself or cannot be understood."""

    code = "NU-2012"
    what = N_("The feed's entry '{name}' is not valid.")
    remedy = N_(
        "Nothing was changed. If the agent is old, update it; otherwise tell the Secretariat."
    )


class WrongProduct(OfferInvalid):
    """An offer of one product in the list of another."""

    code = "NU-2024"
    what = N_("The feed's entry '{name}' is for the product '{found}', not for '{product}'.")
    remedy = ASK


class OfferChanged(TrustError):
    """The release that was chosen is not the one that is offered now."""

    code = "NU-2013"
    what = N_("Release {version} is no longer offered as it was.")
    remedy = N_("Make the plan again.")


class OfferHalted(TrustError):
    """Halted between choice and download."""

    code = "NU-2041"
    exit_code = ExitCode.HELD
    what = N_("Release {version} was halted by the Secretariat: {reason}")
    remedy = N_("Wait until it is opened again; 'ncen-updater check' says when that is so.")


class OfferWithdrawn(TrustError):
    """Taken back between choice and download."""

    code = "NU-2014"
    what = N_("Release {version} was withdrawn by the Secretariat: {reason}")
    remedy = N_("Make the plan again; it will choose another release if there is one.")


class DocumentMismatch(TrustError):
    """The release document and the signed list contradict each other."""

    code = "NU-2015"
    what = N_("The release document of {version} contradicts the signed list.")
    remedy = ASK


class TreeMismatch(TrustError):
    """The tree is not the one that the release document pins."""

    code = "NU-2016"
    what = N_("The tree of release {version} is not the one that was signed.")
    remedy = ASK


class ViewDamaged(TrustError):
    """The stored copy of the last verified list cannot be read."""

    code = "NU-2017"
    exit_code = ExitCode.ERROR
    what = N_("The stored copy of the last verified list, {path}, cannot be read.")
    remedy = N_("Run 'ncen-updater check' while the feed can be reached; it writes it anew.")


class TargetMissing(TrustError):
    """A file that should be in the signed list is not."""

    code = "NU-2018"
    what = N_("'{name}' is not in the signed list of the product.")
    remedy = ASK


class NotProved(TrustError):
    """No chain of signatures leads from the installed root to what the reading process left."""

    code = "NU-2042"
    what = N_(
        "What was downloaded of release {version} does not follow from the root that was installed "
        "with the agent; it is not used."
    )
    remedy = N_(
        "Nothing was changed. Run 'ncen-updater check', then try again. If it stays so, have this "
        "server examined, since what talks to the network may have been tampered with, and tell "
        "the Secretariat."
    )


class LocalStoreFailed(TrustError):
    """The agent's own files cannot be read or written."""

    code = "NU-2019"
    exit_code = ExitCode.ERROR
    what = N_("The agent's own files could not be read or written.")
    remedy = N_("Check free space and permissions of the agent's state directory.")


class FeedError(UpdaterError):
    """Base of what the network fails to do."""

    code = "NU-2101"
    exit_code = ExitCode.NETWORK
    what = N_("The feed could not be reached.")
    remedy = N_(
        "Check the network, the proxy and the feed address. The site goes on working; "
        "status, history and rollback need no feed."
    )


class FeedUnreachable(FeedError):
    """No server answered."""

    code = "NU-2102"
    what = N_("No server of the feed answered ('{name}').")


class FeedTls(FeedError):
    """The encrypted connection was refused by one of both sides."""

    code = "NU-2103"
    what = N_("The encrypted connection to the feed failed ('{name}').")
    remedy = N_(
        "Check this server's clock, the certificate file in the agent's configuration, and "
        "whether a firewall opens encrypted connections."
    )


class CaptivePortal(FeedError):
    """A web page in place of the file."""

    code = "NU-2104"
    what = N_("A web page came in place of '{name}': a log-in page of the network, or a proxy.")
    remedy = N_("Log in to the network, or set the proxy, then try again.")


class FeedTooSlow(FeedError):
    """Less than the smallest rate, for longer than the window."""

    code = "NU-2105"
    what = N_("The feed answers too slowly ('{name}').")
    remedy = N_("Try again later; downloads go on where they stopped.")


class FeedRefused(FeedError):
    """An HTTP status other than success."""

    code = "NU-2106"
    what = N_("The feed's server answered '{name}' with status {status}.")


class FeedCut(FeedError):
    """The connection ended too early, again and again."""

    code = "NU-2107"
    what = N_("The connection to the feed broke while '{name}' was read.")
    remedy = N_("Try again; downloads go on where they stopped.")


class FeedTooLong(TrustError):
    """More bytes than were announced; the rest was not read."""

    code = "NU-2108"
    what = N_("The feed sent more bytes for '{name}' than are allowed; the rest was not read.")
    remedy = MIRROR


class FeedProxy(FeedError):
    """The proxy of the configuration did not let us through."""

    code = "NU-2109"
    what = N_("The proxy did not give a way to the feed ('{name}').")
    remedy = N_(
        "Check 'proxy' in the agent's configuration, and that the proxy lets this server reach "
        "the feed."
    )


class ReaderFailed(TrustError):
    """The process that reads the feed died or said nothing that can be understood."""

    code = "NU-2020"
    exit_code = ExitCode.ERROR
    what = N_("The process that reads the feed ended without an answer.")
    remedy = N_(
        "Try again; if it stays so, send the Secretariat what 'ncen-updater "
        "doctor' and 'history' say."
    )


class ReaderOverdue(ReaderFailed):
    """The process that reads the feed was silent, or at work, for longer than it may be."""

    code = "NU-2043"
    what = N_("The process that reads the feed took too long and was ended.")


class ReaderUnitAway(UpdaterError):
    """systemd does not wait at the socket of the process that reads the feed."""

    code = "NU-9501"
    what = N_("The unit that reads the feed cannot be reached at {path}.")
    remedy = N_(
        "Run 'systemctl status ncen-updater-fetch.socket' and 'systemctl start "
        "ncen-updater-fetch.socket'. The site goes on working."
    )
