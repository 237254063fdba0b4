"""Domain checks read backwards, for a rollback by ``down`` migrations. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ncen_updater.formats.manifest import Check, Compare

__all__ = ["reversed_checks"]

FLIPPED = {
    Compare.EQUAL: Compare.EQUAL,
    Compare.NOT_LESS: Compare.NOT_MORE,
    Compare.NOT_MORE: Compare.NOT_LESS,
}


def reversed_checks(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Return the relations of a release with before and after exchanged.

    Only relations have a meaning backwards: an expected value speaks of the newer schema alone.
    """
    return tuple(
        check.model_copy(
            update={
                "sql": check.sql_after or check.sql,
                "sql_after": check.sql,
                "compare": FLIPPED[check.compare],
            }
        )
        for check in checks
        if check.compare is not None
    )
