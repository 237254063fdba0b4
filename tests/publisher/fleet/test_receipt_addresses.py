"""Tests of receipt addresses: named by the root and shown to its signers."""

from __future__ import annotations

import json

import pytest

from ncen_updater.formats.receipt import RECEIPT_ADDRESSES_FIELD, read_receipt_addresses
from tests.publisher.test_cli import SignerCli, signer

__all__ = ["signer"]

ADDRESSES = ["https://receipts.example.org/spool/", "mailto:receipts@example.org"]


def test_root_names_receipt_addresses_and_changes_are_shown(signer: SignerCli) -> None:
    work, ceremony = signer.work, signer.work / "ceremony.toml"
    roles = ceremony.read_text()
    ceremony.write_text(f"receipts = {json.dumps(ADDRESSES[:1])}\n{roles}")
    signer.json("init", ceremony, "--event", work / "e1")
    signer.sign_and_publish(work / "e1")
    root = json.loads((work / "feed/metadata/1.root.json").read_text())["signed"]
    assert read_receipt_addresses(root) == (ADDRESSES[0],)

    ceremony.write_text(f"receipts = {json.dumps(ADDRESSES)}\n{roles}")
    shown = signer.json(
        "rekey", ceremony, "--feed", work / "feed", "--event", work / "e2",
    )  # fmt: skip
    assert "Changes where sites may send receipts." in shown["sentences"]
    assert [c["text"] for c in shown["changes"] if ADDRESSES[1] in c["text"]]
    signer.sign_and_publish(work / "e2")

    ceremony.write_text(roles)
    signer.json("rekey", ceremony, "--feed", work / "feed", "--event", work / "e3")
    signer.sign_and_publish(work / "e3")
    root = json.loads((work / "feed/metadata/3.root.json").read_text())["signed"]
    assert RECEIPT_ADDRESSES_FIELD not in root


@pytest.mark.parametrize(
    "address",
    [
        "http://receipts.example.org/", "https://receipts.example.org", "https://u:p@example.org/",
        "https://example.org/?x", "https://example.org/#x", "https://exa mple.org/", "ftp://a/",
        "mailto:a", "mailto:a@b?subject=x", "mailto:a@b,c@d", "file:///etc/passwd", "", "https:///",
        f"https://example.org/{'a' * 200}", 1,
    ],
)  # fmt: skip
def test_invalid_receipt_addresses_are_refused(address: object) -> None:
    with pytest.raises(ValueError, match="validation error"):
        read_receipt_addresses({RECEIPT_ADDRESSES_FIELD: [address]})
