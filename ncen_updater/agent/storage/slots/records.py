"""Records of each slot: the release document and the tree, beside the slots.

A tree of a hundred thousand entries is read one entry at a time: the file is one line of canonical
JSON, which is split into entries without loading all of it.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from packaging.version import Version
from pydantic import ValidationError

from ncen_updater.agent.model.errors import SlotRecordError
from ncen_updater.agent.storage.slots.link import DOCUMENT_FILE, RECORDS_DIRECTORY
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import NotRegularFileError, read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.formats.release_document import ReleaseDocument, parse_release_document
from ncen_updater.formats.target_names import MAX_DOCUMENT_BYTES
from ncen_updater.formats.tree import ENTRY_ADAPTER, MAX_TREE_BYTES, Tree, TreeEntry, parse_tree

TREE_FILE = "tree.json"
TREE_PREFIX = '{"entries":['
READ_BLOCK_BYTES = 1 << 16
# A path and a link target of a thousand characters each, all escaped, and the other fields.
MAX_ENTRY_BYTES = 32_768


class SlotRecords:
    """Records under ``<slots>/.records/<version>/``.

    Args:
        slots: The directory of the slots.
    """

    def __init__(self, slots: Path) -> None:
        self._root = slots / RECORDS_DIRECTORY

    def get_record_directory(self, version: Version) -> Path:
        """Return the directory of a record."""
        return self._root / str(version)

    def exists(self, version: Version) -> bool:
        """Tell whether a record exists; its document is written last."""
        return (self.get_record_directory(version) / DOCUMENT_FILE).is_file()

    def write(self, version: Version, document: ReleaseDocument, tree: Tree) -> None:
        """Write a record that everyone can read, as the slot, and flush it; the document last."""
        directory = self.get_record_directory(version)
        durable.make_directory(directory, exactly=True)
        for name, content in (
            (TREE_FILE, tree.to_canonical_json()),
            (DOCUMENT_FILE, document.to_canonical_json()),
        ):
            durable.write_file(directory / name, content, exactly=True)

    def remove(self, version: Version) -> None:
        """Remove a record if it exists, the document first: a partial record does not count."""
        directory = self.get_record_directory(version)
        if directory.is_dir():
            durable.remove_file(directory / DOCUMENT_FILE)
            durable.remove_entry(directory)

    def read_document(self, version: Version) -> ReleaseDocument:
        """Read the release document.

        Raises:
            SlotRecordError: If it is missing, damaged, or of another version.
        """
        path = self.get_record_directory(version) / DOCUMENT_FILE
        try:
            content = read_file(path, MAX_DOCUMENT_BYTES)
            document = parse_release_document(content, str(path), lenient=True)
        except (OSError, UpdaterError) as error:
            raise SlotRecordError(version=version, path=path.parent, detail=str(error)) from error
        if document.manifest.version != str(version):
            detail = f"it is that of {document.manifest.version}"
            raise SlotRecordError(version=version, path=path.parent, detail=detail)
        return document

    def read_tree(self, version: Version) -> Tree:
        """Read the whole tree.

        Raises:
            SlotRecordError: If it is missing, or differs from the digest in the document.
        """
        path = self.get_record_directory(version) / TREE_FILE
        expected = self.read_document(version).tree_digest
        try:
            content = read_file(path, MAX_TREE_BYTES)
            if hashlib.sha256(content).hexdigest() != expected:
                raise SlotRecordError(
                    version=version,
                    path=path.parent,
                    detail=LazyText(N_("{name}: digest mismatch"), {"name": TREE_FILE}),
                )
            return parse_tree(content, str(path))
        except SlotRecordError:
            raise
        except (OSError, UpdaterError) as error:
            raise SlotRecordError(version=version, path=path.parent, detail=str(error)) from error

    def iter_entries(self, version: Version) -> Iterator[TreeEntry]:
        """Read the tree one entry at a time.

        Raises:
            SlotRecordError: At the latest after the last entry, if the file is missing or differs
                from the digest in the document.
        """
        path = self.get_record_directory(version) / TREE_FILE
        expected = self.read_document(version).tree_digest
        try:
            yield from _iter_entries(path, expected)
        except (OSError, ValueError, ValidationError, RecursionError) as error:
            raise SlotRecordError(version=version, path=path.parent, detail=str(error)) from error


def _iter_entries(path: Path, expected: str) -> Iterator[TreeEntry]:
    digest = hashlib.sha256()
    utf8 = codecs.getincrementaldecoder("utf-8")()
    parse = json.JSONDecoder().raw_decode
    text, position = "", 0
    if not path.is_file():
        raise NotRegularFileError("not a regular file")
    with path.open("rb") as stream:

        def read_block() -> bool:
            nonlocal text, position
            block = stream.read(READ_BLOCK_BYTES)
            digest.update(block)
            text, position = text[position:] + utf8.decode(block, final=not block), 0
            return bool(block)

        while len(text) < len(TREE_PREFIX) and read_block():
            pass
        if not text.startswith(TREE_PREFIX):
            raise ValueError("not a tree")
        position = len(TREE_PREFIX)
        while not text.startswith("]", position):
            try:
                value, end = parse(text, position)
            except json.JSONDecodeError as error:
                if len(text) - position > MAX_ENTRY_BYTES or not read_block():
                    raise ValueError("truncated tree") from error
                continue
            yield ENTRY_ADAPTER.validate_python(value)
            position = end
            if position == len(text):
                read_block()
            if text.startswith(",", position):
                position += 1
        while read_block():
            position = len(text)
    if digest.hexdigest() != expected:
        raise ValueError("digest mismatch")
