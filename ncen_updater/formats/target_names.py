"""Names and sizes that the feed and its readers agree on; the publisher uses them too."""

from __future__ import annotations

#: Below the feed's address: signed metadata, and the files that they name.
METADATA_PREFIX = "metadata/"
TARGETS_PREFIX = "targets/"

#: The product that the agent itself is; a feed may carry it beside the application.
AGENT_PRODUCT = "ncen-updater"

#: Below the directory of the lists: every root since the installed one.
ROOT_HISTORY = "root_history"

#: Custom field of the target of a release document that holds its offer.
OFFER_FIELD = "ncen"

#: First part of the names of release documents.
RELEASES_PREFIX = "releases/"

#: The most bytes of a release document.
MAX_DOCUMENT_BYTES = 5_000_000

#: First part of the names of delta packs.
DELTAS_PREFIX = "deltas/"


#: Field of ``targets`` and product roles: when the signers signed (UTC, ISO 8601). The clock floor
#: comes from here, never from an online role: anyone who holds an online key could push it ahead.
ISSUE_TIME_FIELD = "x-ncen-issued"

#: Field of ``timestamp``: the newest root. A mirror that hides newer roots is found by it.
ROOT_VERSION_FIELD = "x-ncen-root"

#: Field of every role: its own name. The format of targets does not say which role a file is for:
#: where the same signers hold two roles, their signature under one would fit the other as well.
ROLE_FIELD = "x-ncen-role"


WHEELS, REQUIREMENTS = "wheels", "requirements.txt"
