"""Sites that write receipts, as real ones do, without a site."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ncen_updater.formats.receipt import (
    ReceiptLevel,
    SignedReceipt,
    encode_public_key,
    make_receipt,
    make_signer,
    sign_receipt,
)

VERSIONS = ("3.2.4", "3.3.0", "3.3.1")
#: As the feed has them: product and version by the digest of the release document.
RELEASES = {hashlib.sha256(one.encode()).hexdigest(): ("ncen", one) for one in VERSIONS}
TODAY = date(2026, 11, 30)


@dataclass
class Reporter:
    """One site."""

    site: str
    country: str
    running: str = "3.2.4"
    level: ReceiptLevel = ReceiptLevel.FIGURES
    epoch: str = "ab" * 4
    number: int = 0
    previous: str | None = None
    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def write(self, day: date = TODAY, **facts: Any) -> SignedReceipt:
        """Write the next receipt."""
        self.number += 1
        values: dict[str, object] = {
            "site": self.site, "country": self.country, "product": "ncen",
            "running": self.running, "agent": "0.1.0", "root": 1, "number": self.number,
            "previous": self.previous, "epoch": self.epoch, "chain_head": f"9:{'0' * 16}",
            "day": day, "key": encode_public_key(self.private), **facts,
        }  # fmt: skip
        made = make_receipt(values, self.level)
        digest = hashlib.sha256(str(values["running"]).encode()).hexdigest()
        signed = sign_receipt(made, digest, make_signer(self.private))
        self.previous = signed.digest
        return signed


def lay(spool: Path, *receipts: SignedReceipt) -> None:
    """Put receipts into a spool as a web server does."""
    for signed in receipts:
        name = hashlib.sha256(signed.content).hexdigest()
        (spool / name).write_bytes(signed.content)
