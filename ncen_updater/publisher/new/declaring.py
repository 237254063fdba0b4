"""What a manifest may say of a schema that an application changed by itself on the desk. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ncen_updater.common.i18n import N_, Figure, Text
from ncen_updater.formats.manifest import ChangedItself

#: Of the agent's finding that a schema is not as it was recorded.
SCHEMA_CHANGED = "NU-6106"


def declarations(findings: Sequence[Mapping[str, Any]], version: str) -> Iterator[Text]:
    """Yield by database the line that would cover what changed, or that none does.

    Args:
        findings: As ``verify`` has them for programs.
        version: Of the release that ran.
    """
    declarable = {kind.value for kind in ChangedItself}
    for found in findings:
        figures = found.get("figures", {})
        if found.get("code") != SCHEMA_CHANGED or not figures.get("kinds"):
            continue
        kinds = [str(kind) for kind in figures["kinds"]]
        values = {"database": str(figures.get("database")), "version": version}
        if set(kinds) <= declarable:
            line = f"changes_itself = {json.dumps(kinds)}"
            words = N_(
                "If the application of {version} does this by itself, and is meant to, write below"
                " 'name' of [[databases]] {database} in its manifest: {line}"
            )
            yield Text(words, {**values, "line": Figure(line)})
        else:
            words = N_(
                "Not all of it can be declared: {kinds} of {database} are code, or call some. Let"
                " the program of the release do that, or wait until it has come to its end."
            )
            code = [kind for kind in kinds if kind not in declarable]
            yield Text(words, {**values, "kinds": Figure(", ".join(code))})
