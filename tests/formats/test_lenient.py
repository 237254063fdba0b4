"""Tests of documents that were signed for newer agents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version
from pydantic import ValidationError
from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]

from ncen_updater.agent.storage.slots.link import DOCUMENT_FILE
from ncen_updater.agent.storage.slots.records import SlotRecords
from ncen_updater.common.messages import OFFER_INVALID
from ncen_updater.feed.offers import parse_offers
from ncen_updater.formats.errors import ReleaseDocumentError
from ncen_updater.formats.release_document import (
    Offer,
    ReleaseDocument,
    drop_fields,
    parse_leniently,
    parse_release_document,
)
from tests.support.errors import refused

DIGEST = "a" * 64
ARCHIVE = {"target": "ncen-3.3.0.tar.gz", "length": 10, "sha256": DIGEST}
DOCUMENT_OF: dict[str, Any] = {
    "schema": 1,
    "manifest": {
        "schema": 1, "product": "ncen", "version": "3.3.0", "upgrade_from": ">=3.2,<3.3",
        "agent": ">=9", "notes": {"en": {"title": "A title"}},
    },
    "archive": ARCHIVE,
    "tree": {"target": "trees/ncen/3.3.0.json.zst", "length": 5, "sha256": DIGEST},
    "tree_digest": DIGEST,
    "tree_bytes": 5,
    "unpacked_bytes": 20,
}  # fmt: skip


def newer() -> dict[str, Any]:
    """The document with names that only a newer agent knows, at three depths."""
    manifest = {**DOCUMENT_OF["manifest"], "seals": [{"kind": "wax"}]}
    return {
        **DOCUMENT_OF, "manifest": manifest, "archive": {**ARCHIVE, "blake3": DIGEST}, "pages": 3,
    }  # fmt: skip


def listed(offer: dict[str, Any]) -> dict[str, TargetFile]:
    custom = {"releases/ncen/3.3.0.json": {"custom": {"ncen": offer}}, "ncen-3.3.0.tar.gz": {}}
    return {name: TargetFile(10, {"sha256": DIGEST}, name, more) for name, more in custom.items()}


def test_unknown_fields_are_ignored_by_sites() -> None:
    known = ReleaseDocument.model_validate(DOCUMENT_OF)
    content = json.dumps(newer()).encode()
    assert parse_release_document(content, "x", lenient=True) == known
    with pytest.raises(ReleaseDocumentError):  # as a signer reads it
        parse_release_document(content, "x")
    offer = known.to_offer().model_dump(mode="json")
    (read,) = parse_offers("ncen", listed({**offer, "region": "east"}))
    assert read == known.to_offer()
    assert read.agent == ">=9", "what shuts this agent out is read"


def test_other_errors_are_refused() -> None:
    offer = ReleaseDocument.model_validate(DOCUMENT_OF).to_offer().model_dump(mode="json")
    for wrong in ({"required": "perhaps"}, {"archive": {**ARCHIVE, "length": -1, "new": 1}}):
        with refused(OFFER_INVALID):
            parse_offers("ncen", listed({**offer, "region": "east", **wrong}))
    odd: tuple[object, ...] = (7, [], None, {"x": 1})
    for data in odd:
        with pytest.raises(ValidationError):
            parse_leniently(Offer, data)


def test_older_agent_reads_the_record_of_a_slot(tmp_path: Path) -> None:
    place = tmp_path / ".records" / "3.3.0"
    place.mkdir(parents=True)
    (place / DOCUMENT_FILE).write_text(json.dumps(newer()))
    assert SlotRecords(tmp_path).read_document(Version("3.3.0")).manifest.version == "3.3.0"


def test_unknown_fields_are_removed() -> None:
    data = {"a": {"b": [{"c": 1, "d": 2}]}, "e": 3}
    assert drop_fields(data, [("a", "b", 0, "c"), ("e",), ("x", "y"), ("e", "z")]) == {
        "a": {"b": [{"d": 2}]}
    }
    assert data == {"a": {"b": [{"c": 1, "d": 2}]}, "e": 3}
