"""What goes to a translator and comes back: a ``.po`` with only what is to do. Pure.

Whatever the format of the application, translators get gettext's, which their programs know: the
context is the key (for a ``.po`` its own), the text is the source's. So it comes back with the text
that each translation was made for, also where that belongs to a release that is not installed yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ncen_updater.agent.storage.overlay.layer import FileReport
from ncen_updater.agent.storage.overlay.merge import KeyOutcome, Made, MadeFor
from ncen_updater.formats.manifest import CarriedFormat
from ncen_updater.formats.texts.catalogue import Catalogue, Key, TextEntry, Unusable, shown
from ncen_updater.formats.texts.shipped import Shipped

TO_DO = (KeyOutcome.NEW, KeyOutcome.OUTDATED, KeyOutcome.REFUSED, KeyOutcome.COLLISION)


@dataclass(frozen=True)
class Taken:
    """What came back.

    Attributes:
        own: The country's file with it.
        added: Keys that it did not have.
        changed: Keys that say something else now.
        unknown: Keys that no release at hand has; they are not taken.
        made_for: What each text was made for.
    """

    own: Catalogue
    added: tuple[Key, ...]
    changed: tuple[Key, ...]
    unknown: tuple[str, ...]
    made_for: MadeFor


def to_do(report: FileReport, theirs: Shipped, own: Catalogue, *, everything: bool) -> Catalogue:
    """Return what a translator has to look at, as gettext has it.

    Args:
        report: What becomes of the file with the release that is translated for.
        theirs: What that release ships.
        own: What the country has.
        everything: Whether what is translated well is in it, too.
    """
    is_po = report.declared.format is CarriedFormat.PO
    wanted = {item.key for item in report.of(*TO_DO)}
    entries: dict[Key, TextEntry] = {}
    for key in theirs.keys():  # noqa: SIM118 - no mapping
        mine, shipped = own.get(key), theirs.own.get(key)
        untranslated = mine is None and shipped is None
        if not (everything or untranslated or key in wanted):
            continue
        source = theirs.text(key) or (shipped.forms if shipped else ())
        if not source:
            continue
        value = mine or shipped or TextEntry("")
        context = key[0] if is_po else shown(key)
        entries[context, source[0]] = TextEntry(
            value.value if isinstance(value.value, str) else "", value.plural, source[0],
            source[1] if len(source) > 1 else None, fuzzy=key in wanted and mine is not None,
        )  # fmt: skip
    header = dict(theirs.own.header or own.header)
    return Catalogue(entries, header or {"Language": report.language or ""})


def take(
    came: Catalogue, own: Catalogue, releases: Iterable[Shipped], *, is_po: bool, as_po: bool
) -> Taken:
    """Put what came back into the country's file.

    Args:
        came: What came.
        own: What the country has.
        releases: What the releases at hand ship in that language, the one to translate for first.
        is_po: Whether the application's files are gettext's.
        as_po: Whether what came is.

    Raises:
        Unusable: If nothing in it belongs to any release at hand.
    """
    known: dict[str | Key, tuple[Key, Shipped]] = {}
    for shipped in releases:
        for key in shipped.keys():  # noqa: SIM118 - no mapping
            known.setdefault(key if is_po else shown(key), (key, shipped))
    entries, made_for = dict(own.entries), {}
    added, changed, unknown = [], [], []
    for key, entry in came.entries.items():
        if entry.empty or not entry.forms:
            continue
        name: str | Key = key if is_po else (key[0] if as_po else shown(key))
        if name not in known:
            unknown.append(shown(key))
            continue
        real, shipped = known[name]
        made = TextEntry(entry.value, entry.plural, fuzzy=entry.fuzzy) if not is_po else entry
        before = own.get(real)
        if before is None:
            added.append(real)
        elif not before.same(made):
            changed.append(real)
        entries[real] = made
        source = (entry.source,) if as_po and entry.source else shipped.text(real)
        made_for[real] = Made(made.digest, source)
    if unknown and not made_for:
        raise Unusable("nothing in it is a text of a release that is here")
    header = own.header or came.header
    return Taken(Catalogue(entries, header), tuple(added), tuple(changed), tuple(unknown), made_for)
