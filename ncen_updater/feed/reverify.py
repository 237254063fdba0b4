"""What the process that reads the feed left is proved by whoever uses it.

That process is the part that a hostile line can reach, and all that it leaves lies in its own
directory. So whoever builds a slot of it begins again at the installed root: through every root
since, the list of the products and the product's own list, each by its signatures, to the release
document. The network is not needed, and nothing lapses: what was signed stays signed.

In the directory of the lists::

    root_history/N.root.json    every root after the installed one

What this cannot see: an older list that was signed as well. It names releases of the Secretariat
for this product, and no others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import Metadata, Root, Targets  # type: ignore[attr-defined]

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import NotReadable, TooLarge, read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.feed.errors import NotProved, TrustedRootMissing
from ncen_updater.feed.offers import offers_of
from ncen_updater.feed.signed import is_plain, most_bytes, require_role
from ncen_updater.formats.document import Offer, release_target
from ncen_updater.formats.tuf_names import ROOT_HISTORY

__all__ = ["RootChain", "prove_offer"]

logger = logging.getLogger(__name__)

LISTS = "metadata"


class RootChain:
    """The roots from the installed one on, as they lie on the disk.

    Args:
        trusted_root: The installed root.
        lists: The directory of the lists.
    """

    def __init__(self, trusted_root: Path, lists: Path) -> None:
        self._trusted_root, self._history = trusted_root, lists / ROOT_HISTORY
        self._stored = lists / "root.json"

    def newest(self) -> Root:
        """The last root that each one before it leads to.

        Raises:
            TrustedRootMissing: If the installed root cannot be used.
        """
        try:
            root = _root(read_file(self._trusted_root, most_bytes("root")))
            root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
        except (OSError, RepositoryError) as error:
            raise TrustedRootMissing(path=self._trusted_root, detail=str(error)) from error
        newest = root.signed
        while (later := self._after(newest)) is not None:
            newest = later
        return newest

    def _after(self, root: Root) -> Root | None:
        path = self._history / f"{root.version + 1}.root.json"
        try:
            return _follows(root, read_file(path, most_bytes("root")))
        except FileNotFoundError:
            return None
        except (OSError, RepositoryError) as error:
            logger.warning("%s does not lead on: %s", path, error)
            return None

    def keep(self, version: int, content: bytes) -> None:
        """Keep a root that was verified."""
        durable.make_directory(self._history)
        durable.write(self._history / f"{version}.root.json", content)

    def complete(self, version: int, fetch: Callable[[int], bytes]) -> None:
        """Fetch again what is missing of the roots up to one that was verified.

        A gap that stays costs nothing but the next download, which says what it lacks.
        """
        root = self.newest()
        while root.version < version:
            try:
                last = root.version + 1 == version  # that one lies here, also without a network
                content = self._newest_stored() if last else fetch(root.version + 1)
                later = _follows(root, content)
            except (DownloadError, RepositoryError) as error:
                logger.warning("root %d could not be had again: %s", root.version + 1, error)
                return
            self.keep(later.version, content)
            root = self._after(later) or later

    def _newest_stored(self) -> bytes:
        return read_file(self._stored, most_bytes("root"))


def _root(content: bytes) -> Metadata[Root]:
    metadata = Metadata[Root].from_bytes(content)
    if not isinstance(metadata.signed, Root):
        raise RepositoryError("not a root")
    return metadata


def _follows(root: Root, content: bytes) -> Root:
    later = _root(content)
    root.verify_delegate("root", later.signed_bytes, later.signatures)
    later.signed.verify_delegate("root", later.signed_bytes, later.signatures)
    if later.signed.version != root.version + 1:
        raise RepositoryError(f"root {later.signed.version} in the place of {root.version + 1}")
    return later.signed


def _targets(lists: Path, role: str, delegator: Root | Targets) -> Targets:
    content = read_file(lists / f"{role}.json", most_bytes(role))
    metadata = Metadata[Targets].from_bytes(content)
    if not isinstance(metadata.signed, Targets):
        raise RepositoryError(f"{role} is not a list of files")
    delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    require_role(metadata.signed, role)
    return metadata.signed


def prove_offer(received: Path, trusted_root: Path, offer: Offer) -> tuple[int, str]:
    """Follow the signatures from the installed root to a release.

    Args:
        received: Where the process that reads the feed leaves what it read.
        trusted_root: The root that was installed with the agent.
        offer: The release.

    Returns:
        Length and SHA-256 of its document, as officers signed them.

    Raises:
        NotProved: If they do not lead there.
        TrustedRootMissing: If there is no installed root to begin at.
    """
    lists = received / LISTS
    product, version = offer.product, offer.version
    try:
        root = RootChain(trusted_root, lists).newest()
        targets = _targets(lists, "targets", root)
        signed = _targets(lists, product, targets)
        roles = targets.delegations.roles if targets.delegations is not None else None
        role = (roles or {}).get(product)
        files = {
            name: file
            for name, file in signed.targets.items()
            if role is not None and role.is_delegated_path(name) and is_plain(name)
        }
        proved = next((o for o in offers_of(product, files) if o.version == version), None)
        if proved is None or not offer.same_release(proved):
            raise NotProved(version=version, detail="no signed list names it so")
        file = files[release_target(product, version)]
        return int(file.length), str(file.hashes["sha256"])
    except (NotProved, TrustedRootMissing):
        raise
    except (RepositoryError, UpdaterError, NotReadable, TooLarge, OSError, ValueError) as error:
        raise NotProved(version=version, detail=str(error)) from error
