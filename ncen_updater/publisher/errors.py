"""Errors of the publisher. Codes 7001 to 7099; findings of ``lint`` are 7101 to 7199."""

from __future__ import annotations

import errno

from ncen_updater.common.errors import ExitCode, UpdaterError
from ncen_updater.common.i18n import N_, Text

__all__ = [
    "AlreadyPublished",
    "BadCeremony",
    "BadDates",
    "BadEvent",
    "BadKeyFile",
    "BadPassphraseSource",
    "BadSignature",
    "BelowThreshold",
    "BuildRefused",
    "BundleExists",
    "DigestMismatch",
    "DuplicateKey",
    "FeedBroken",
    "FeedBusy",
    "FeedExists",
    "KeyNotAllowed",
    "MediaTooSmall",
    "NoTokenSupport",
    "NotAtomic",
    "NothingToDo",
    "NothingToExport",
    "PublisherError",
    "RoleLapsed",
    "StaleEvent",
    "TargetMissing",
    "TokenUnusable",
    "UnknownProduct",
    "UnknownRelease",
    "UnsoundDraft",
    "UntrustedBase",
    "UnusableBundle",
    "WriteFailed",
    "WrongPassphrase",
    "WrongPin",
]


class PublisherError(UpdaterError):
    """Base of what the publisher refuses or fails to do."""

    code = "NU-7001"
    what = N_("The publisher could not do what was asked.")
    remedy = N_("Read the detail; the published feed is as it was.")


class BadKeyFile(PublisherError):
    """A key file that cannot be used."""

    code = "NU-7002"
    what = N_("The key file {path} cannot be used.")
    remedy = N_("Give a key file made by 'ncen-publisher keys new', unchanged.")


class WrongPassphrase(PublisherError):
    """A private key that does not open."""

    code = "NU-7003"
    exit_code = ExitCode.TRUST
    what = N_("The private key {path} does not open with this passphrase.")
    remedy = N_("Check that it is the right key and type its passphrase again.")


class DuplicateKey(PublisherError):
    """One public key under two names; it would count twice towards a threshold."""

    code = "NU-7004"
    exit_code = ExitCode.TRUST
    what = N_("The same key stands twice for {role}: {first} and {second}.")
    remedy = N_("Every officer makes a key of their own; take one of the two away.")


class BadCeremony(PublisherError):
    """A ceremony file that is not valid."""

    code = "NU-7005"
    exit_code = ExitCode.USAGE
    what = N_("The ceremony file {path} is not valid.")
    remedy = N_("Correct the places that are named; docs/release-officer.md shows an example.")


class FeedBroken(PublisherError):
    """A published feed that a client would refuse, or that has a hole."""

    code = "NU-7006"
    exit_code = ExitCode.TRUST
    what = N_("The feed in {path} is not whole: {reason}")
    remedy = N_("Restore the feed directory from its backup; never delete or edit its files.")


class BadEvent(PublisherError):
    """A signing event that cannot be read or does not agree with itself."""

    code = "NU-7007"
    what = N_("The signing event {path} is not valid.")
    remedy = N_("Copy it again from the person who drafted it, or draft it anew.")


class DigestMismatch(PublisherError):
    """What lies on the disk is not what was agreed on."""

    code = "NU-7008"
    exit_code = ExitCode.TRUST
    what = N_("The draft of {role} has the digest {found}, not {expected}.")
    remedy = N_("Do not sign. Ask the person who drafted it which digest is right.")


class KeyNotAllowed(PublisherError):
    """A key that may not sign any of the drafts."""

    code = "NU-7009"
    exit_code = ExitCode.TRUST
    what = N_("The key {key} may not sign {role}.")
    remedy = N_("Sign with a key that 'show' lists for this role.")


class BadSignature(PublisherError):
    """A signature that does not verify."""

    code = "NU-7010"
    exit_code = ExitCode.TRUST
    what = N_("The signature {path} does not fit the draft of {role}.")
    remedy = N_("Delete this file and ask the officer to sign the draft again.")


class BelowThreshold(PublisherError):
    """Too few signatures."""

    code = "NU-7011"
    exit_code = ExitCode.APPROVAL_MISSING
    what = N_("{role} is signed by {signed} of {threshold} officers that are needed.")
    remedy = N_("Ask {missing} to sign, merge the signatures and publish again.")


class StaleEvent(PublisherError):
    """The feed moved on since the draft was made."""

    code = "NU-7012"
    what = N_("The feed changed since this event was drafted: {role} is at version {found}.")
    remedy = N_("Draft the change again on top of the feed as it is now.")


class AlreadyPublished(PublisherError):
    """A release whose number was used before."""

    code = "NU-7013"
    what = N_("{product} {version} was published before.")
    remedy = N_("Give the release a new version number; a published one never changes.")


class TargetMissing(PublisherError):
    """A file that the metadata name and that is not there, or is another."""

    code = "NU-7014"
    what = N_("The file {target} is missing or is not the one that was signed.")
    remedy = N_("Give the staging directory that 'build' wrote, unchanged, with --staging.")


class BuildRefused(PublisherError):
    """A release directory that cannot be built."""

    code = "NU-7015"
    what = N_("The release in {path} cannot be built: {reason}")
    remedy = N_("Correct it, run 'ncen-publisher lint' and build again.")


class FeedBusy(PublisherError):
    """Two publishers at once."""

    code = "NU-7017"
    exit_code = ExitCode.BUSY
    what = N_("Another publisher is writing to {path}.")
    remedy = N_("Wait until it has ended, then try again.")


class UnknownRelease(PublisherError):
    """A release that the feed does not carry."""

    code = "NU-7018"
    exit_code = ExitCode.USAGE
    what = N_("The feed has no release {version} of {product}.")
    remedy = N_("See 'ncen-publisher status' for the releases that it has.")


class NothingToDo(PublisherError):
    """A draft that would change nothing."""

    code = "NU-7019"
    exit_code = ExitCode.USAGE
    what = N_("There is nothing to draft: {reason}")
    remedy = N_("See 'ncen-publisher status' for what the feed holds.")


class FeedExists(PublisherError):
    """A ceremony over a feed that already lives."""

    code = "NU-7020"
    exit_code = ExitCode.USAGE
    what = N_("There is something in {path} already.")
    remedy = N_("Name an empty or new directory.")


class NotAtomic(PublisherError):
    """A change of keys that clients would see half of for a moment."""

    code = "NU-7021"
    exit_code = ExitCode.BLOCKED
    what = N_("This change of keys cannot be published in one step: {reason}")
    remedy = N_(
        "Let the old keys sign the new versions as well. If they are lost or stolen, publish with"
        " --accept-interruption: clients that ask in between fail once and try again."
    )


class BadPassphraseSource(PublisherError):
    """A passphrase from a place that others can read."""

    code = "NU-7022"
    exit_code = ExitCode.USAGE
    what = N_("The passphrase cannot be taken from {source}.")
    remedy = N_("Use a file that only you may read (chmod 600), a descriptor, or the prompt.")


class RoleLapsed(PublisherError):
    """Metadata that no client would take any more."""

    code = "NU-7023"
    exit_code = ExitCode.FEED_STALE
    what = N_("{role} expired on {expires}.")
    remedy = N_(
        "Draft one renewal of all that is named ('ncen-publisher renew'), let the officers sign,"
        " and publish that first."
    )


class UnknownProduct(PublisherError):
    """A product without a role."""

    code = "NU-7024"
    exit_code = ExitCode.USAGE
    what = N_("The feed has no role for the product {product}.")
    remedy = N_("Add the product to the ceremony file and let the officers sign the change.")


class WriteFailed(PublisherError):
    """The disk or the file system under the feed."""

    code = "NU-7025"
    what = N_("The feed could not be written to the end.")
    remedy = N_("Make room or repair the disk, then run the same command again; it completes.")

    def __init__(self, cause: OSError) -> None:
        super().__init__(
            state=Text(N_("Clients see the feed as it was, or the whole new one.")),
            detail=str(cause),
        )
        if cause.errno == errno.ENOSPC:
            self.exit_code = ExitCode.SPACE


class UnsoundDraft(PublisherError):
    """A draft that breaks a rule which no signature may lift."""

    code = "NU-7040"
    exit_code = ExitCode.TRUST
    what = N_("The draft of {role} is not sound: {reason}")
    remedy = N_("Do not sign. Show it to the Secretariat, and draft the change anew.")


class BadDates(PublisherError):
    """A draft that would last too long, or that would push the clocks of all sites ahead."""

    code = "NU-7041"
    exit_code = ExitCode.TRUST
    what = N_("The draft of {role} has dates that were not agreed on: {reason}")
    remedy = N_("Do not sign. Compare the clock of this machine, and draft the change anew.")


class UntrustedBase(PublisherError):
    """An event that stands on metadata which the officers never signed."""

    code = "NU-7042"
    exit_code = ExitCode.TRUST
    what = N_("The event stands on a feed that is not the one you know: {reason}")
    remedy = N_("Do not sign. Get the event anew, from the feed that sites read.")


class BundleExists(PublisherError):
    """A file with the name of the bundle."""

    code = "NU-7050"
    exit_code = ExitCode.USAGE
    what = N_("{path} is there already.")
    remedy = N_("Give another name, or remove it.")


class NothingToExport(PublisherError):
    """A site that would not go anywhere."""

    code = "NU-7051"
    exit_code = ExitCode.BLOCKED
    what = N_("The feed holds no release for {site} after {origin}.")
    remedy = N_("Check country, site, channel and release of the site with its operator.")


class MediaTooSmall(PublisherError):
    """More parts than anybody would carry."""

    code = "NU-7052"
    exit_code = ExitCode.USAGE
    what = N_("A bundle of {bytes} bytes does not fit on media of {media} bytes.")
    remedy = N_("Give larger media; a bundle has at most 999 parts.")


class UnusableBundle(PublisherError):
    """A bundle that a site would refuse."""

    code = "NU-7053"
    exit_code = ExitCode.TRUST
    what = N_("The bundle would be refused by {site} ({code}: {why}), so it was not kept.")
    remedy = N_(
        "Renew what has lapsed ('ncen-publisher status'), or correct what was asked for, and "
        "export again."
    )


class TokenUnusable(PublisherError):
    """A token, its driver or its key that cannot be used."""

    code = "NU-7043"
    what = N_("The token '{label}' cannot be used.")
    remedy = N_(
        "Check that it is plugged in, its label, the id of the key, and the driver (--module); with"
        " two tokens of the same label, unplug one. Tokens sign with ECDSA P-256 or P-384 only."
    )


class WrongPin(PublisherError):
    """A token that refuses the PIN; never tried again, since it would lock itself."""

    code = "NU-7044"
    exit_code = ExitCode.TRUST
    what = N_("The token '{label}' refuses the PIN.")
    remedy = N_(
        "It was tried once. Be sure of the PIN before you try again: the token locks itself."
    )


class NoTokenSupport(PublisherError):
    """A program without the libraries for tokens."""

    code = "NU-7045"
    what = N_("This installation cannot use tokens.")
    remedy = N_("Install the extra 'hsm' of ncen-updater (PyKCS11 and asn1crypto).")
