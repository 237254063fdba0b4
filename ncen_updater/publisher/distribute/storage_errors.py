"""Errors of publication to places elsewhere. Codes 7060 to 7069."""

from __future__ import annotations

from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_
from ncen_updater.publisher.errors import PublisherError

__all__ = ["OtherFeed", "PlaceAhead", "PlaceDiffers", "PlaceFailed", "PlaceInvalid"]


class PlaceInvalid(PublisherError):
    """An address of no kind that can be written to."""

    code = "NU-7060"
    exit_code = ExitCode.USAGE
    what = N_("{place} is no place that a feed can be copied to.")
    remedy = N_("Name a directory, or s3://BUCKET/PREFIX; for that, install the extra 's3'.")


class PlaceFailed(PublisherError):
    """The store said no, or was not there."""

    code = "NU-7061"
    exit_code = ExitCode.NETWORK
    what = N_("{place} could not be read or written.")
    remedy = N_(
        "Clients see what was there before, or the whole new feed. Look at the detail, then run "
        "the same command again; it completes."
    )


class OtherFeed(PublisherError):
    """A place that holds a feed which began otherwise."""

    code = "NU-7062"
    exit_code = ExitCode.TRUST
    what = N_("In {place} lies another feed: its first root is not that of {feed}.")
    remedy = N_("Check both names. A place that sites already use is never given another feed.")


class PlaceAhead(PublisherError):
    """A place that holds what the feed does not: the feed is an old copy."""

    code = "NU-7063"
    exit_code = ExitCode.TRUST
    what = N_("{place} is ahead: {reason}.")
    remedy = N_("Use the newest copy of the feed; an older one would look like an attack to sites.")


class PlaceDiffers(PublisherError):
    """What was read back is not what was written."""

    code = "NU-7064"
    what = N_("{name} in {place} is not what was written there.")
    remedy = N_(
        "The timestamp was not renewed, so clients see what was there before. Look whether "
        "anything changes files on the way, then run the same command again."
    )
