"""What an approval is bound to, taken from the site as it is now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from ncen_updater.agent.approvals.model import ApprovalBasis
from ncen_updater.agent.journal.wordings import Wordings
from ncen_updater.common.canonical_json import canonical_json, sha256_hex

if TYPE_CHECKING:
    from ncen_updater.agent.journal.journal import Journal
    from ncen_updater.agent.site import Site

__all__ = ["basis_from_json", "basis_now", "basis_to_json"]

#: The tables of the configuration that an upgrade depends on. Where the feed is, and when the
#: service works, may change without anybody approving again: what is installed is signed.
TABLES = ("site", "paths", "databases", "application", "soak", "keep")


def configuration_digest(site: Site) -> str:
    """Return the digest of the settings that an upgrade depends on."""
    data = site.config.model_dump(mode="json", include=set(TABLES))
    return sha256_hex(canonical_json(data))


def basis_now(
    site: Site, journal: Journal, plan: str, rehearsal: str, at: datetime | None
) -> ApprovalBasis:
    """Return what would be approved now; reads the live databases.

    Args:
        site: The site.
        journal: Its journal: a schema that a restore worded anew is still the same.
        plan: Digest of the plan.
        rehearsal: What names a rehearsal and its report; empty where there is none.
        at: When it was rehearsed or planned.

    Raises:
        UpdaterError: If a database cannot be read.
    """
    from ncen_updater.agent.databases.base import Live

    engine, wordings = site.engine, Wordings.of(journal)
    return ApprovalBasis(
        plan=plan,
        schemas={n: wordings.first(n, engine.fingerprint(Live(n))) for n in engine.names},
        configuration=configuration_digest(site),
        rehearsal=rehearsal,
        sizes={facts.name: facts.size_bytes for facts in engine.describe()},
        at=at,
    )


def basis_to_json(basis: ApprovalBasis) -> dict[str, object]:
    """Return a basis as the journal keeps it."""
    return {
        "plan": basis.plan,
        "schemas": dict(basis.schemas),
        "configuration": basis.configuration,
        "rehearsal": basis.rehearsal,
        "sizes": dict(basis.sizes),
        "at": basis.at.isoformat() if basis.at else None,
    }


def basis_from_json(data: Mapping[str, object]) -> ApprovalBasis:
    """Read a basis as the journal keeps it.

    Raises:
        ValueError, KeyError, TypeError: If it is none; readers of the journal call it unreadable.
    """
    schemas, sizes, at = data["schemas"], data["sizes"], data["at"]
    if not isinstance(schemas, dict) or not isinstance(sizes, dict):
        raise TypeError("a basis without tables of schemas and sizes")
    return ApprovalBasis(
        plan=str(data["plan"]),
        schemas={str(name): str(value) for name, value in schemas.items()},
        configuration=str(data["configuration"]),
        rehearsal=str(data["rehearsal"]),
        sizes={str(name): int(value) for name, value in sizes.items()},
        at=datetime.fromisoformat(str(at)) if at is not None else None,
    )
