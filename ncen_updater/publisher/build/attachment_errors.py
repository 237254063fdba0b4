"""Errors of the papers that go with a release: SBOM and provenance. Codes 7070 to 7079."""

from __future__ import annotations

from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_
from ncen_updater.publisher.errors import PublisherError

__all__ = ["BuilderKeyMissing", "PapersMissing", "ProvenanceInvalid", "SbomInvalid"]


class SbomInvalid(PublisherError):
    """A list of parts that is none, or of something else."""

    code = "NU-7070"
    what = N_("The SBOM {path} cannot be used.")
    remedy = N_("Give a CycloneDX file in JSON (1.4 to 1.6) of this very release, or 'auto'.")


class ProvenanceInvalid(PublisherError):
    """A statement of the builder that does not hold."""

    code = "NU-7071"
    exit_code = ExitCode.TRUST
    what = N_("The provenance {path} does not hold: {reason}")
    remedy = N_("Do not sign. Let the builder build the release again, and compare the digests.")


class BuilderKeyMissing(PublisherError):
    """A statement that nobody compares with a key is worth nothing."""

    code = "NU-7072"
    exit_code = ExitCode.USAGE
    what = N_("{path} is signed by a builder, and no builder's key was given to compare it with.")
    remedy = N_("Give the builder's public file, NAME.pub.json, with --builder-key.")


class PapersMissing(PublisherError):
    """An event that an officer cannot read to the end."""

    code = "NU-7073"
    exit_code = ExitCode.TRUST
    what = N_("The event does not hold {name} as it would be signed.")
    remedy = N_(
        "Do not sign. Get the event anew from whoever drafted it, whole; or give the files of the"
        " release with --staging."
    )
