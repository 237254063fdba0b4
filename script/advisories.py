"""Known advisories of the locked packages, of sites and of the publisher.

The data is OSV's (https://ossf.github.io/osv-schema/), from its API or from its database, which is
one file, so that a machine without a network can check, too::

    script/advisories                            query api.osv.dev
    script/advisories --download PyPI.zip        download the database, and search it
    script/advisories --database PyPI.zip        search a downloaded database, without a network

Exit status 0: no known advisory; 1: advisories found; 2: the lookup failed. :func:`match_advisory`,
which is pure, decides by OSV's rule, with versions compared as Python packages' are.
"""

from __future__ import annotations

import argparse
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.cli.characters import prepare_for_terminal

LOCKS = Path(__file__).resolve().parent.parent / "locks"
#: Locks of sites and of the Secretariat; the other locks are for developers only.
DEFAULT_LOCKS = ("agent", "debian", "build", "publisher", "hsm", "s3")
API = "https://api.osv.dev"
DATABASE = "https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip"
ECOSYSTEM = "PyPI"
PINNED_REQUIREMENT = re.compile(
    r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE
)
TIMEOUT_S = 60
MAX_RESPONSE_BYTES = 20_000_000
MAX_DATABASE_BYTES = 2_000_000_000
MAX_PAGES = 50


class AdvisoryLookupError(Exception):
    """A lookup without a usable answer."""


@dataclass(frozen=True, order=True)
class LockedPackage:
    """A package that a lock file pins, with its version."""

    name: str
    version: str


@dataclass(frozen=True, order=True)
class Advisory:
    """A known advisory about a package.

    Attributes:
        package: The package.
        id: OSV's id.
        aliases: Other ids, above all CVE numbers.
        summary: Short description.
        fixed: Versions with the fix.
    """

    package: LockedPackage
    id: str
    aliases: tuple[str, ...] = ()
    summary: str = ""
    fixed: tuple[str, ...] = ()


def parse_locked_packages(text: str) -> frozenset[LockedPackage]:
    """Return the packages that a lock file pins."""
    return frozenset(
        LockedPackage(canonicalize_name(name), version)
        for name, version in PINNED_REQUIREMENT.findall(text)
    )


def match_advisory(document: Mapping[str, object], package: LockedPackage) -> Advisory | None:
    """Return the advisory if it affects a package in its version, else None. Pure.

    Raises:
        AdvisoryLookupError: If the document is not OSV's.
    """
    if document.get("withdrawn"):
        return None
    fixed: set[str] = set()
    hit = False
    try:
        for entry in document.get("affected") or ():  # type: ignore[attr-defined]
            about = entry.get("package") or {}
            if about.get("ecosystem") != ECOSYSTEM:
                continue
            if canonicalize_name(str(about.get("name"))) != package.name:
                continue
            ranges = [r for r in entry.get("ranges") or () if r["type"] == "ECOSYSTEM"]
            named = package.version in (entry.get("versions") or ())
            if named or any(_is_in_range(r["events"], package.version) for r in ranges):
                hit = True
                fixed |= {str(e["fixed"]) for r in ranges for e in r["events"] if "fixed" in e}
        if not hit:
            return None
        return Advisory(
            package,
            str(document["id"]),
            tuple(sorted(str(name) for name in document.get("aliases") or ())),  # type: ignore[attr-defined]
            str(document.get("summary") or str(document.get("details") or "").partition("\n")[0]),
            tuple(sorted(fixed, key=_make_version_key)),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise AdvisoryLookupError(f"not an OSV document: {error!r}") from error


def _make_version_key(version: str) -> tuple[int, Version | str]:
    try:
        return 1, Version(version)
    except InvalidVersion:
        return 0, version


def _is_in_range(events: Sequence[Mapping[str, str]], version: str) -> bool:
    """Return whether a version is in a range; events apply in order of version, as OSV demands."""
    here = _make_version_key(version)
    inside = False
    lines = [(kind, text) for event in events for kind, text in event.items()]
    for kind, text in sorted(lines, key=lambda one: (one[1] != "0", *_make_version_key(one[1]))):
        if kind == "introduced" and (text == "0" or here >= _make_version_key(text)):
            inside = True
        elif (kind == "fixed" and here >= _make_version_key(text)) or (
            kind == "last_affected" and here > _make_version_key(text)
        ):
            inside = False
    return inside


def search_database(path: Path, packages: Iterable[LockedPackage]) -> Iterator[Advisory]:
    """Search a downloaded database.

    Raises:
        AdvisoryLookupError: If the file is not such a database.
    """
    wanted: dict[str, list[LockedPackage]] = {}
    for package in packages:
        wanted.setdefault(package.name, []).append(package)
    read = 0
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.filename.endswith(".json"):
                    continue
                if member.file_size > MAX_RESPONSE_BYTES:
                    raise AdvisoryLookupError(f"{path}: {member.filename} is too large")
                document = parse_json(archive.read(member))
                if not isinstance(document, dict):
                    raise AdvisoryLookupError(f"{path}: {member.filename} is not an OSV document")
                read += 1
                for name in _list_names(document) & wanted.keys():
                    for package in wanted[name]:
                        if (found := match_advisory(document, package)) is not None:
                            yield found
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise AdvisoryLookupError(f"{path}: {error}") from error
    except AttributeError as error:
        raise AdvisoryLookupError(f"{path}: not an OSV document: {error}") from error
    if not read:
        raise AdvisoryLookupError(f"{path} contains no advisory")


def _list_names(document: Mapping[str, object]) -> set[str]:
    entries = document.get("affected")
    return {
        canonicalize_name(str((entry.get("package") or {}).get("name")))
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict)
    }


def query_osv(api: str, packages: Sequence[LockedPackage]) -> Iterator[Advisory]:
    """Query OSV's API; it receives only names and versions, which are public.

    Raises:
        AdvisoryLookupError: If there is no valid response.
    """
    with requests.Session() as session:
        session.trust_env = True  # for use at a workplace, behind its own proxy
        documents: dict[str, Mapping[str, object]] = {}
        for package, names in _query_batches(session, api, packages):
            for name in names:
                if name not in documents:
                    documents[name] = _send_request(session, "GET", f"{api}/v1/vulns/{name}")
                # OSV may know other spellings of a version: its result is accepted.
                found = match_advisory(documents[name], package)
                yield found or Advisory(package, name)


def _query_batches(
    session: requests.Session, api: str, packages: Sequence[LockedPackage]
) -> Iterator[tuple[LockedPackage, list[str]]]:
    left: list[tuple[LockedPackage, str | None]] = [(package, None) for package in packages]
    for _ in range(MAX_PAGES):
        if not left:
            return
        queries: list[dict[str, object]] = [
            {
                "package": {"name": package.name, "ecosystem": ECOSYSTEM},
                "version": package.version,
                **({"page_token": token} if token else {}),
            }
            for package, token in left
        ]
        answer = _send_request(session, "POST", f"{api}/v1/querybatch", {"queries": queries})
        results = answer.get("results")
        if not isinstance(results, list) or len(results) != len(left):
            raise AdvisoryLookupError(f"{api} did not answer every question")
        further: list[tuple[LockedPackage, str | None]] = []
        for (package, _token), result in zip(left, results, strict=True):
            try:
                yield package, [str(one["id"]) for one in (result or {}).get("vulns") or ()]
                token = (result or {}).get("next_page_token")
            except (AttributeError, KeyError, TypeError) as error:
                raise AdvisoryLookupError(
                    f"{api} says what cannot be understood: {error!r}"
                ) from error
            if token:
                further.append((package, str(token)))
        left = further
    raise AdvisoryLookupError(f"{api} has no end of answers")


def _send_request(
    session: requests.Session, method: str, address: str, body: object = None
) -> Mapping[str, object]:
    try:
        with session.request(
            method, address, json=body, timeout=TIMEOUT_S, stream=True
        ) as response:
            response.raise_for_status()
            content = response.raw.read(MAX_RESPONSE_BYTES + 1, decode_content=True)
        if len(content) > MAX_RESPONSE_BYTES:
            raise AdvisoryLookupError(f"{address}: more than anybody reads")
        document = parse_json(content)
    except (OSError, ValueError) as error:  # those of requests are OSError
        raise AdvisoryLookupError(f"{address}: {error}") from error
    if not isinstance(document, dict):
        raise AdvisoryLookupError(f"{address} says what cannot be understood")
    return document


def _download_database(address: str, path: Path) -> None:
    """Download the complete database; on failure leave the old one unchanged."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with (
            requests.get(address, timeout=TIMEOUT_S, stream=True) as response,
            partial.open("wb") as out,
        ):
            response.raise_for_status()
            size = 0
            for piece in response.iter_content(1 << 20):
                size += len(piece)
                if size > MAX_DATABASE_BYTES:
                    raise AdvisoryLookupError(f"{address}: more than anybody reads")
                out.write(piece)
        durable.rename_entry(partial, path)
    except OSError as error:
        raise AdvisoryLookupError(f"{address}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _format_advisories(found: Advisory, locks: Iterable[str]) -> str:
    names = " ".join((found.id, *found.aliases))
    mended = f"; mended in {', '.join(found.fixed)}" if found.fixed else ""
    package = f"{found.package.name} {found.package.version}"
    words = f"{package} ({', '.join(sorted(locks))}): {names}: {found.summary}{mended}"
    return prepare_for_terminal(words.replace("\n", " "))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the lookup, print the advisories, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--database", type=Path, help="look in this file, and ask nobody")
    parser.add_argument("--download", type=Path, help="fetch the database to this file first")
    parser.add_argument(
        "--locks", nargs="*", default=DEFAULT_LOCKS, help="which, by default %(default)s"
    )
    parser.add_argument("--directory", type=Path, default=LOCKS, help=argparse.SUPPRESS)
    parser.add_argument("--api", default=API, help="the interface")
    parser.add_argument("--from", dest="source", default=DATABASE, help="the database's address")
    order = parser.parse_args(arguments)
    try:
        where: dict[LockedPackage, set[str]] = {}
        for name in order.locks:
            for package in parse_locked_packages(
                (order.directory / f"{name}.txt").read_text("utf-8")
            ):
                where.setdefault(package, set()).add(name)
        if not where:
            raise AdvisoryLookupError("no package in the lock files")
        database = order.download or order.database
        if order.download:
            _download_database(order.source, order.download)
        packages = sorted(where)
        looked = search_database(database, packages) if database else query_osv(order.api, packages)
        found = sorted(set(looked))
    except (OSError, AdvisoryLookupError) as error:
        sys.stderr.write(f"advisories: not known: {error}\n")
        return 2
    for one in found:
        sys.stdout.write(f"{_format_advisories(one, where[one.package])}\n")
    hit = len({one.package for one in found})
    sys.stdout.write(f"advisories: {len(found)} for {hit} of {len(where)} packages\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
