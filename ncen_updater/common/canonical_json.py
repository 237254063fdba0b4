"""One byte form for signed JSON: sorted keys, no spaces, UTF-8, a new line at the end."""

from __future__ import annotations

import hashlib
import json


def encode_canonical_json(value: object) -> bytes:
    """Return the one byte form of a JSON value; refuses NaN and infinities."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode() + b"\n"


def compute_sha256(content: bytes) -> str:
    """Return the SHA-256 digest in lower-case hexadecimal."""
    return hashlib.sha256(content).hexdigest()
