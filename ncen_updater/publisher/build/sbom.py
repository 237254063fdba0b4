"""The list of parts of a release (CycloneDX 1.6): found in its tree, or handed in and checked.

What is found, and nothing else: Python packages (``*.dist-info/METADATA``, and wheels), Java
archives that name themselves (``META-INF/maven/**/pom.properties``), and what a
``package-lock.json`` names. Libraries that were compiled in or copied without such a label
are not; who needs them hands in a list made by the product's own build.
"""

from __future__ import annotations

import json
import re
import uuid
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.parser import HeaderParser
from pathlib import Path
from typing import IO

from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import Text
from ncen_updater.common.messages import SBOM_INVALID
from ncen_updater.formats.manifest import Manifest
from ncen_updater.formats.tree import EntryType, Tree
from ncen_updater.publisher.errors import system_words

MAX_SBOM_BYTES = 50_000_000
MAX_LABEL_BYTES = 5_000_000
#: Name of the property that says where in the tree a part was found.
PATH_PROPERTY = "ncen:path"
PYPI = re.compile(r"[-_.]+")


@dataclass(frozen=True, order=True)
class SbomPart:
    """One package that is inside a release.

    Attributes:
        kind: As in package URLs: ``pypi``, ``maven``, ``npm``.
        group: Namespace, for kinds that have one.
        path: Where it was found, in the tree.
    """

    kind: str
    group: str
    name: str
    version: str
    path: str


def find_parts(directory: Path, tree: Tree) -> list[SbomPart]:
    """Every package that names itself in a tree, sorted; each once, at its first place.

    Args:
        directory: The release.
        tree: What of it goes into the slot.
    """
    found: dict[tuple[str, str, str, str], SbomPart] = {}
    for entry in tree.entries:
        if entry.type is EntryType.FILE:
            for part in _parts_of(directory / entry.path, entry.path):
                found.setdefault((part.kind, part.group, part.name, part.version), part)
    return sorted(found.values())


def _parts_of(path: Path, name: str) -> Iterator[SbomPart]:
    base = name.rpartition("/")[2]
    if name.endswith(".dist-info/METADATA"):
        with path.open("rb") as stream:
            yield from _python(stream, name)
    elif base == "package-lock.json":
        with path.open("rb") as stream:
            yield from _npm(stream, name)
    elif base.endswith((".whl", ".jar", ".war")) and zipfile.is_zipfile(path):
        yield from _packed(path, name)


def _packed(path: Path, name: str) -> Iterator[SbomPart]:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.file_size > MAX_LABEL_BYTES or member.flag_bits & 1:
                    continue
                if member.filename.endswith(".dist-info/METADATA"):
                    with archive.open(member) as stream:
                        yield from _python(stream, name)
                elif member.filename.endswith("/pom.properties"):
                    with archive.open(member) as stream:
                        yield from _maven(stream, name)
    except (zipfile.BadZipFile, NotImplementedError, EOFError):
        return  # not an archive after all: nothing in it names itself


def _text(stream: IO[bytes]) -> str:
    return stream.read(MAX_LABEL_BYTES).decode("utf-8", "replace")


def _python(stream: IO[bytes], path: str) -> Iterator[SbomPart]:
    headers = HeaderParser().parsestr(_text(stream))
    name, version = headers.get("Name", ""), headers.get("Version", "")
    if name and version:
        yield SbomPart("pypi", "", PYPI.sub("-", name).lower(), version, path)


def _maven(stream: IO[bytes], path: str) -> Iterator[SbomPart]:
    lines = (line.partition("=") for line in _text(stream).splitlines() if line[:1] != "#")
    values = {key.strip(): value.strip() for key, _, value in lines}
    if values.get("artifactId") and values.get("version"):
        yield SbomPart(
            "maven", values.get("groupId", ""), values["artifactId"], values["version"], path
        )


def _npm(stream: IO[bytes], path: str) -> Iterator[SbomPart]:
    try:
        packages = json.loads(stream.read(MAX_LABEL_BYTES + 1)).get("packages", {})
        items = list(packages.items())
    except (ValueError, AttributeError, RecursionError):
        return
    for place, about in items:
        if not (isinstance(about, dict) and place.startswith("node_modules/")):
            continue
        name, version = place.rpartition("node_modules/")[2], about.get("version")
        if isinstance(version, str) and not about.get("dev"):
            group, _, short = name.rpartition("/")
            yield SbomPart("npm", group, short, version, path)


def write_sbom(manifest: Manifest, parts: Iterable[SbomPart], epoch: int) -> bytes:
    """A CycloneDX document, the same bytes every time.

    Args:
        manifest: Of the release.
        parts: See :func:`find_parts`.
        epoch: Its time, seconds since 1970.
    """
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    listed = list(parts)
    product = Component(
        name=manifest.product,
        version=manifest.version,
        type=ComponentType.APPLICATION,
        bom_ref=f"{manifest.product}@{manifest.version}",
    )
    components = []
    for part in listed:
        url = PackageURL(part.kind, part.group or None, part.name, part.version)
        components.append(
            Component(
                name=part.name,
                group=part.group or None,
                version=part.version,
                type=ComponentType.LIBRARY,
                purl=url,
                bom_ref=url.to_string(),
                properties=[Property(name=PATH_PROPERTY, value=part.path)],
            )
        )
    about = BomMetaData(component=product, timestamp=datetime.fromtimestamp(epoch, UTC))
    number = uuid.uuid5(uuid.NAMESPACE_URL, repr((manifest.product, manifest.version, listed)))
    bom = Bom(components=components, metadata=about, serial_number=number)
    # Who needs whom among the parts is not known; that the product holds them is.
    bom.register_dependency(product, components)
    written = json.loads(JsonV1Dot6(bom).output_as_string())
    # The library's own mark names its version and is none of the release's facts.
    written["metadata"].pop("tools", None)
    return json.dumps(written, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def check_sbom(content: bytes, path: str, manifest: Manifest) -> int:
    """Check a document against the format and the release; return how many parts it lists.

    Raises:
        SbomInvalid: If it is too large, breaks the schema, or is of another release.
    """
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    if len(content) > MAX_SBOM_BYTES:
        raise UpdaterError(SBOM_INVALID, path=path, detail=f"over {MAX_SBOM_BYTES} bytes")
    try:
        data = parse_json(content)
    except ValueError as error:
        raise UpdaterError(SBOM_INVALID, path=path, detail=system_words(error)) from error
    versions = {
        "1.4": SchemaVersion.V1_4, "1.5": SchemaVersion.V1_5, "1.6": SchemaVersion.V1_6,
    }  # fmt: skip
    version = versions.get(str(data.get("specVersion"))) if isinstance(data, dict) else None
    if version is None or not isinstance(data, dict):
        raise UpdaterError(SBOM_INVALID, path=path, detail="not CycloneDX 1.4 to 1.6")
    validator = JsonStrictValidator(version)
    mistake = validator.validate_str(content.decode("utf-8"))
    if mistake is not None:
        raise UpdaterError(SBOM_INVALID, path=path, detail=str(mistake)[:500])
    product = data.get("metadata", {}).get("component", {})
    if (product.get("name"), product.get("version")) != (manifest.product, manifest.version):
        named = f"{product.get('name')} {product.get('version')}"
        raise UpdaterError(
            SBOM_INVALID, path=path, detail=Text("it is of {named}", {"named": named})
        )
    return len(data.get("components", []))
