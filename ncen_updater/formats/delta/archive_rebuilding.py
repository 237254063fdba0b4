"""An archive is put together again.

Its frame and its changed members come from the streams of the pack, its other members from the old
archive, compressed as they were.
"""

from __future__ import annotations

from collections.abc import Iterator

from ncen_updater.formats.delta.codec import View
from ncen_updater.formats.delta.index_columns import OutOfRange
from ncen_updater.formats.delta.layout import Op, OpKind, Recipe
from ncen_updater.formats.delta.model import deflated
from ncen_updater.formats.delta.old_slot import GroupReference
from ncen_updater.formats.delta.read_ahead import Ahead


def rebuilt(view: View, recipe: Recipe, reference: GroupReference) -> Iterator[bytes]:
    """Yield the bytes of an archive.

    Raises:
        OutOfRange: If the old archive has not the members that the recipe takes.
    """
    for op in recipe.ops:
        if op.kind is OpKind.PLAIN:
            yield from view.pieces(op.count)
        elif op.kind is OpKind.DEFLATE:
            packer = deflated(op.argument)
            for piece in view.pieces(op.count):
                yield packer.compress(piece)
            yield packer.flush()
        else:
            yield from _members(view, op, recipe.source, reference)


def _members(view: View, op: Op, source: int, reference: GroupReference) -> Iterator[bytes]:
    """Members in a row; what stood between them in the old archive comes from the stream."""
    table = reference.table(source)
    if op.argument + op.count > len(table):
        raise OutOfRange("the old archive has fewer members")
    ahead = Ahead(lambda: reference.descriptor(source))
    for index in range(op.argument, op.argument + op.count):
        if index > op.argument:
            yield from view.pieces(table.gap(index)[1])
        member = table[index]
        at = member.start
        while at < member.end:
            piece = ahead.read(at, member.end - at)
            if not piece:
                raise OutOfRange("the old archive is cut off")
            at += len(piece)
            yield piece
