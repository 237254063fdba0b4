"""What built a release, from what: an in-toto statement, signed by the builder's own key.

The form is SLSA provenance v1 in a DSSE envelope. It holds no time and no name of a machine, so the
same build gives the same bytes. The builder is no officer: its key signs nothing that sites trust.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError, VerificationError
from securesystemslib.signer import Key, Signer

from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.canonical_json import canonical_json
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import Text
from ncen_updater.common.messages import PROVENANCE_INVALID
from ncen_updater.formats.document import TargetRef
from ncen_updater.publisher.errors import system_words

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
#: What 'build' does; docs/papers.md describes it.
BUILD_TYPE = "https://ncen-updater.invalid/build/v1"
MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class SourceOfBuild:
    """What a release was built from, and by whom.

    Attributes:
        builder: Address of the builder, any URI.
        uri: Where the source lies, such as ``git+https://host/repository@refs/tags/v3.3.0``.
        commit: Its Git commit, in hexadecimal; empty if it is not in Git.
    """

    builder: str
    uri: str
    commit: str = ""


def make_provenance(
    product: str,
    version: str,
    subjects: Sequence[TargetRef],
    source: SourceOfBuild,
    epoch: int,
    signer: Signer,
) -> bytes:
    """Write and sign the statement.

    Args:
        product: What the release is of.
        version: Its version.
        subjects: What was built.
        source: From what, by whom.
        epoch: The time that was given to all members of the archive.
        signer: The builder's key.
    """
    material: dict[str, Any] = {"uri": source.uri}
    if source.commit:
        material["digest"] = {"gitCommit": source.commit}
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": ref.target, "digest": {"sha256": ref.sha256}} for ref in subjects],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"product": product, "version": version},
                "internalParameters": {"sourceDateEpoch": epoch},
                "resolvedDependencies": [material],
            },
            "runDetails": {"builder": {"id": source.builder}},
        },
    }
    envelope = Envelope(canonical_json(statement), PAYLOAD_TYPE, [])
    envelope.sign(signer)
    return canonical_json(envelope.to_dict())


def check_provenance(
    content: bytes, path: str, key: Key, wanted: Sequence[TargetRef]
) -> Mapping[str, Any]:
    """Check signature and subjects; return the predicate.

    Args:
        content: The envelope.
        path: What it is called.
        key: The builder's public key.
        wanted: What has to be among its subjects, by digest.

    Raises:
        ProvenanceInvalid: If anything does not hold.
    """
    try:
        if len(content) > MAX_BYTES:
            raise UpdaterError(PROVENANCE_INVALID, path=path, reason=f"over {MAX_BYTES} bytes")
        data = parse_json(content)
        if not isinstance(data, dict):
            raise UpdaterError(PROVENANCE_INVALID, path=path, reason="not an envelope")
        envelope = Envelope.from_dict(data)
        if envelope.payload_type != PAYLOAD_TYPE:
            raise UpdaterError(
                PROVENANCE_INVALID,
                path=path,
                reason=Text("it holds {payload_type}", {"payload_type": envelope.payload_type}),
            )
        envelope.verify([key], 1)
        statement = json.loads(envelope.payload)
        kinds = (statement["_type"], statement["predicateType"])
        subjects = {item["name"]: item["digest"]["sha256"] for item in statement["subject"]}
        predicate = statement["predicate"]
        _ = predicate["runDetails"]["builder"]["id"], predicate["buildDefinition"]["buildType"]
    except VerificationError as error:
        raise UpdaterError(
            PROVENANCE_INVALID, path=path, reason="it is not signed by this builder"
        ) from error
    except (
        ValueError, KeyError, TypeError, AttributeError, RecursionError, FormatError,
    ) as error:  # fmt: skip
        raise UpdaterError(
            PROVENANCE_INVALID, path=path, reason="it cannot be read", detail=system_words(error)
        ) from error
    if kinds != (STATEMENT, PREDICATE):
        raise UpdaterError(
            PROVENANCE_INVALID,
            path=path,
            reason=Text("it is of the kind {kinds}", {"kinds": kinds}),
        )
    for ref in wanted:
        if subjects.get(ref.target) != ref.sha256:
            raise UpdaterError(
                PROVENANCE_INVALID,
                path=path,
                reason=Text("it does not speak of this {target}", {"target": ref.target}),
            )
    found: Mapping[str, Any] = predicate
    return found
