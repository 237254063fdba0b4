"""Names and limits shared by the feed's readers and the publisher."""

from __future__ import annotations

#: Directories below the feed's address: metadata and targets.
METADATA_PREFIX = "metadata/"
TARGETS_PREFIX = "targets/"

#: Product name of the agent itself; a feed may contain it beside the application.
AGENT_PRODUCT = "ncen-updater"

#: Directory below the metadata directory: every root since the installed one.
ROOT_HISTORY = "root_history"

#: Custom field of a release document's target that contains the offer.
OFFER_FIELD = "ncen"

#: Prefix of the target names of release documents.
RELEASES_PREFIX = "releases/"

#: Maximum bytes of a release document.
MAX_DOCUMENT_BYTES = 5_000_000

#: Prefix of the target names of delta packs.
DELTAS_PREFIX = "deltas/"


#: Field of ``targets`` and product roles: issue time (UTC, ISO 8601). The clock floor is taken from
#: it, never from an online role, whose key holder could set a false future time.
ISSUE_TIME_FIELD = "x-ncen-issued"

#: Field of ``timestamp``: version of the newest root. Exposes a mirror that hides newer roots.
ROOT_VERSION_FIELD = "x-ncen-root"

#: Field of every role: its own name. TUF's targets format does not name the role, so that with
#: shared signers a signature for one role would also be valid for another.
ROLE_FIELD = "x-ncen-role"


WHEELS, REQUIREMENTS = "wheels", "requirements.txt"
