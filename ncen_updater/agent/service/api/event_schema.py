"""What events of the journal hold, by name: one name means one thing in all of them.

The test of ``event_words`` finds every name that an event is written with; that of this module sees
that each of them is described here.
"""

from __future__ import annotations

from collections.abc import Mapping

from ncen_updater.agent.service.api.record_schemas import FIGURE, FLAG, NUMBER, TEXT, TIME, Schema

SCALAR: Schema = {"type": ["string", "number", "boolean", "null"]}
_LIST: Schema = {"type": "array", "items": SCALAR}
_TABLE: Schema = {"type": "object", "additionalProperties": SCALAR}
#: What stands in a place of a sentence, and what an agent of another version says: one thing, or a
#: list or a table of things.
VALUE: Schema = {
    "anyOf": [
        SCALAR,
        {"type": "array", "items": {"anyOf": [SCALAR, _LIST, _TABLE]}},
        {"type": "object", "additionalProperties": {"anyOf": [SCALAR, _LIST, _TABLE]}},
    ]
}
VALUES: Schema = {"type": "object", "additionalProperties": VALUE}
_NAMES: Schema = {"type": "array", "items": TEXT}
_TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_DESCRIBED: Mapping[str, Schema] = {
    "accept_loss": NUMBER, "action": TEXT, "after": _TEXTS, "agent": _or_null(TEXT),
    "agents": _NAMES, "application": _or_null(TEXT), "aside": NUMBER, "before": _TEXTS,
    "binding": TEXT, "brought": NUMBER, "by": {"anyOf": [TEXT, _NAMES]}, "changes": _NAMES,
    "code": TEXT, "corrects": TEXT, "count": NUMBER, "data": VALUES,
    "databases": {"anyOf": [TEXT, _NAMES]}, "emergency": TEXT, "error": TEXT,
    "error_code": _or_null(TEXT), "exit_code": _or_null(NUMBER), "file": TEXT,
    "fingerprints": _TEXTS, "from_version": TEXT, "full": TEXT, "generation": NUMBER,
    "given": NUMBER, "gone": NUMBER, "held": FLAG, "high_s": FIGURE, "imported_at": TIME,
    "kind": TEXT, "language": _or_null(TEXT), "lost": NUMBER, "low_s": FIGURE,
    "merged": TEXT, "mode": TEXT, "name": TEXT, "needed": NUMBER, "not_before": TIME,
    "order": NUMBER, "origin": TEXT, "pack": TEXT, "path": TEXT, "place": TEXT, "product": TEXT,
    "reaches": _or_null(TEXT),
    "real_s": FIGURE, "reason": TEXT, "reasons": _NAMES, "rehearsal": TEXT, "release": TEXT,
    "releases": _NAMES, "restored": NUMBER,
    "schema_kinds": {"type": "object", "additionalProperties": _TEXTS},
    "slots": _NAMES, "step": TEXT, "taken_over_by": TEXT, "timestamp": NUMBER, "times": NUMBER,
    "to_version": TEXT, "uid": NUMBER, "undoes": TEXT, "until": _or_null(TEXT),
    "usable_until": TIME, "version": TEXT, "vouched": FLAG, "what": TEXT, "who": TEXT,
    "why": TEXT, "words": TEXT, "written": NUMBER,
}  # fmt: skip
EVENT_DATA: Schema = {
    "type": "object", "properties": dict(_DESCRIBED), "additionalProperties": VALUE,
}  # fmt: skip
