"""Errors of bundles and mirrors. Codes 2301 to 2399."""

from __future__ import annotations

from ncen_updater.common.errors import ExitCode, UpdaterError
from ncen_updater.common.i18n import N_

__all__ = [
    "BundleAltered",
    "BundleCut",
    "BundleDoesNotFit",
    "BundleError",
    "BundleIncomplete",
    "BundleNotSigned",
    "BundleOlder",
    "BundleOtherCountry",
    "BundleOtherProduct",
    "BundleTooOld",
    "BundleUnreadable",
    "BundleUnsafe",
    "ListsBusy",
    "MirrorBusy",
    "MirrorForbidden",
    "MirrorNotOurs",
    "NoFeedToMirror",
    "NotABundle",
    "NotImported",
    "NothingImported",
    "PackUnusable",
    "PartAltered",
    "PartCut",
    "PartForeign",
    "PartMissing",
    "PartTwice",
]

COPY_AGAIN = N_(
    "Nothing was kept. Copy the bundle again from where you got it, compare its size, and try "
    "again."
)
ASK_ANOTHER = N_("Nothing was kept. Ask the Secretariat for a new bundle for this site.")


class BundleError(UpdaterError):
    """Base of what is wrong with a bundle. Whatever it is, nothing of the bundle was kept."""

    code = "NU-2301"
    exit_code = ExitCode.TRUST
    what = N_("The bundle could not be used.")
    remedy = ASK_ANOTHER


class NotABundle(BundleError):
    """Some other file."""

    code = "NU-2302"
    what = N_("{path} is not a bundle.")
    remedy = N_("Give the file or files that 'ncen-publisher export' wrote (*.ncen).")


class BundleCut(BundleError):
    """Its end is missing, or something follows it."""

    code = "NU-2303"
    what = N_("The bundle {path} is not whole: it was copied only in part.")
    remedy = COPY_AGAIN


class BundleAltered(BundleError):
    """Other bytes than were written or signed."""

    code = "NU-2304"
    what = N_("The bundle was altered or damaged: '{name}' is not what it should be.")
    remedy = COPY_AGAIN


class BundleUnsafe(BundleError):
    """A form that no bundle of ours has."""

    code = "NU-2305"
    what = N_("The file holds what no bundle holds: {name}: {reason}.")
    remedy = N_(
        "Nothing was kept. Do not use this medium; tell the Secretariat where the file came from."
    )


class BundleIncomplete(BundleError):
    """A file is missing that the lists in it name."""

    code = "NU-2306"
    what = N_("The bundle lacks '{name}'.")


class BundleNotSigned(BundleError):
    """Lists without enough valid signatures, or of another feed."""

    code = "NU-2307"
    what = N_("The list '{role}' in the bundle does not bear enough valid signatures.")
    remedy = N_(
        "Nothing was kept. The bundle is not from the Secretariat's feed, or was altered: tell the "
        "Secretariat where it came from."
    )


class BundleOlder(BundleError):
    """Older than what the site has seen, by cable or by another bundle."""

    code = "NU-2308"
    what = N_("This bundle is older than what this site has already seen (list '{role}').")
    remedy = N_("Nothing was kept. Use the newest bundle that you were given.")


class BundleTooOld(BundleError):
    """Beyond the grace."""

    code = "NU-2309"
    exit_code = ExitCode.FEED_STALE
    what = N_(
        "The bundle is too old: its list '{role}' lapsed on {since}, and this site accepts bundles "
        "for {days} days after that."
    )
    remedy = N_(
        "Nothing was kept. Ask the Secretariat for a new bundle; check also that this server's "
        "date, {now}, is right."
    )


class BundleOtherProduct(BundleError):
    """For another product."""

    code = "NU-2310"
    what = N_("The bundle is for {products}, and this site runs {product}.")


class BundleOtherCountry(BundleError):
    """For other countries."""

    code = "NU-2311"
    what = N_("The bundle is for other countries ({countries}), not for {country}.")


class BundleDoesNotFit(BundleError):
    """It leads from another release than the one that runs here."""

    code = "NU-2312"
    what = N_(
        "The bundle does not lead on from {current}, which runs here: to reach {version} it lacks "
        "{missing}."
    )
    remedy = N_(
        "Nothing was kept. Ask the Secretariat for a bundle from {current}, and tell them that "
        "this is what runs here."
    )


class BundleUnreadable(BundleError):
    """The medium does not give its bytes."""

    code = "NU-2313"
    exit_code = ExitCode.ERROR
    what = N_("{path} cannot be read.")
    remedy = N_("Check that the medium is there and mounted, then try again. Nothing was kept.")


class PartMissing(BundleError):
    """Not every part was given."""

    code = "NU-2314"
    what = N_("Of the {parts} parts of the bundle these are missing: {missing}.")
    remedy = N_(
        "Give all parts in one call, in any order. If they cannot all be mounted at once, copy "
        "them to a disk first; that takes {bytes} bytes. Nothing was kept."
    )


class PartTwice(BundleError):
    """The same part a second time."""

    code = "NU-2315"
    what = N_("Part {part} of the bundle was given twice: {path} and {other}.")
    remedy = N_("Give each part once. Nothing was kept.")


class PartForeign(BundleError):
    """A part of another bundle."""

    code = "NU-2316"
    what = N_("{path} is a part of another bundle than {other}.")
    remedy = N_("Give the parts of one bundle only. Nothing was kept.")


class PartCut(BundleError):
    """A part that was copied only in part."""

    code = "NU-2317"
    what = N_("Part {part} of the bundle, {path}, is not whole: it was copied only in part.")
    remedy = N_("Copy this part again; the others may stay. Nothing was kept.")


class PartAltered(BundleError):
    """A part with other bytes than were written."""

    code = "NU-2318"
    what = N_("Part {part} of the bundle, {path}, was altered or damaged.")
    remedy = N_("Copy this part again; the others may stay. Nothing was kept.")


class NotImported(UpdaterError):
    """A file of a release that is on the list and not on the disk, and no feed to ask."""

    code = "NU-2319"
    exit_code = ExitCode.NETWORK
    what = N_("'{name}' was not imported, and there is no feed that could be asked.")
    remedy = N_(
        "Import a bundle that holds this release, or name one that was imported; "
        "'ncen-updater history' shows them."
    )


class PackUnusable(UpdaterError):
    """A release that came as a delta pack only, which did not give it here."""

    code = "NU-2324"
    exit_code = ExitCode.NETWORK
    what = N_(
        "Release {version} was imported as a delta pack only, and that cannot be used here"
        " ({code})."
    )
    remedy = N_(
        "If 'ncen-updater verify' names files of the installed release, restore them as they were"
        " released, import the bundle again, and try again. Else ask the Secretariat for a bundle"
        " with whole archives."
    )


class NoFeedToMirror(UpdaterError):
    """A site without a feed is told to copy it."""

    code = "NU-2325"
    exit_code = ExitCode.NETWORK
    what = N_("This site has no feed that could be copied.")
    remedy = N_("Name a bundle with --from-bundle; the mirror then holds what is in it.")


class MirrorForbidden(UpdaterError):
    """A directory that the process which reads the feed may not write to."""

    code = "NU-2326"
    what = N_("The user {user} may not write to the mirror {path}.")
    remedy = N_(
        "The feed is read, and the mirror written, by a user of few rights: give the directory to"
        " that user ('chown'), or name a new one, which is made for them."
    )


class NothingImported(UpdaterError):
    """A site without a network that has no list yet."""

    code = "NU-2320"
    exit_code = ExitCode.NETWORK
    what = N_("This site has no feed, and no bundle was imported yet.")
    remedy = N_("Run 'ncen-updater import FILE' with a bundle from the Secretariat.")


class ListsBusy(UpdaterError):
    """An import, or a look at the feed, is going on."""

    code = "NU-2321"
    exit_code = ExitCode.BUSY
    what = N_("Another process is reading the feed or importing a bundle.")
    remedy = N_("Wait until it has ended, then try again.")


class MirrorBusy(UpdaterError):
    """Another run works on the same mirror."""

    code = "NU-2322"
    exit_code = ExitCode.BUSY
    what = N_("Another process is renewing the mirror {path}.")
    remedy = N_("Wait until it has ended, then try again.")


class MirrorNotOurs(UpdaterError):
    """A directory that holds something else, or a damaged mirror."""

    code = "NU-2323"
    what = N_("{path} is neither empty nor a whole mirror of this feed.")
    remedy = N_("Give an empty directory, or one that this command made. Nothing was changed.")
