"""``translations take`` and ``drop``: a signed language, and what is on offer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from packaging.version import Version

from ncen_updater.common.cli.errors import NOTHING_CHANGED
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import (
    LANGUAGE_NOT_OFFERED,
    LANGUAGE_NOT_TAKEN,
    ExitCode,
)

if TYPE_CHECKING:
    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.journal.journal import Journal
    from ncen_updater.agent.overlay.layer import Layer
    from ncen_updater.agent.overlay.merge import MadeFor
    from ncen_updater.agent.site import Site
    from ncen_updater.feed.release_source import FeedView

NOTE = "translations-applied"


def show_offered(
    session: AgentSession, site: Site, layer: Layer, version: Version
) -> list[dict[str, object]]:
    """Show which signed languages are on offer for a release, and which were taken.

    Returns:
        The same for programs.
    """
    from ncen_updater.formats.language import newest_languages

    view: FeedView | None = None
    try:
        view = site.source.last_view()
    except UpdaterError as error:
        unknown = N_("Which signed languages are on offer is not known: {what}")
        session.show(Text(unknown, {"what": error.what_text}))
    taken = {t.language: t for t in layer.signed.taken() if t.version == version}
    waits = set(layer.not_in_use(version)) if layer.is_of(version) else set()
    found: list[dict[str, object]] = []
    for offer in newest_languages(view.languages if view else (), str(version)):
        mine = taken.get(offer.language)
        revision = layer.signed.revision(mine) if mine else None
        if not found:
            session.show("")
            session.show(Text(N_("Signed languages for {version}:"), {"version": version}))
        values = {
            "language": offer.language, "revision": offer.revision, "taken": revision,
            "translated": offer.translated, "total": offer.total,
        }  # fmt: skip
        words = N_("  {language}, revision {revision} ({translated} of {total}): not taken")
        if revision == offer.revision:
            words = N_("  {language}, revision {revision} ({translated} of {total}): taken")
        elif revision is not None:
            words = N_(
                "  {language}, revision {revision} ({translated} of {total}): revision {taken} is"
                " taken"
            )
        session.show(Text(words, values))
        found.append(values)
    for language in sorted(waits):
        words = N_(
            "  {language}: officers still see what was in use before; run 'ncen-updater"
            " translations apply'"
        )
        session.show(Text(words, {"language": language}))
    for language, reason in _taken_back(view, layer, version):
        words = N_("  {language}: what is taken was taken back by the Secretariat: {reason}")
        session.show(Text(words, {"language": language, "reason": reason}))
    return found


def _taken_back(
    view: FeedView | None, layer: Layer, version: Version
) -> tuple[tuple[str, str], ...]:
    """Languages that were taken for a release and that officers took back since, with why."""
    from ncen_updater.agent.overlay.withdrawn import withdrawn_languages

    languages = view.languages if view else ()
    return tuple(
        (taken.language, withdrawal.reason)
        for taken, withdrawal in withdrawn_languages(layer.signed, languages)
        if taken.version == version
    )


def take(
    session: AgentSession, site: Site, layer: Layer, version: Version, language: str, *, yes: bool
) -> ExitCode:
    """Take a signed language for a release."""
    from ncen_updater.agent.engine.operations import Operations
    from ncen_updater.formats.language import newest_languages

    with session.progress() as progress:
        view = site.source.refresh()
        offers = {o.language: o for o in newest_languages(view.languages, str(version))}
        if language not in offers:
            raise UpdaterError(
                LANGUAGE_NOT_OFFERED, language=language, version=version,
                languages=", ".join(offers) or N_("none"), state=NOTHING_CHANGED,
            )  # fmt: skip
        document = site.source.fetch_language(offers[language], progress)
    values: dict[str, object] = {
        "language": language, "version": version, "revision": document.revision,
        "translated": document.translated, "total": document.total,
    }  # fmt: skip
    words = N_("{language} for {version}, revision {revision}: {translated} of {total} translated")
    session.show(Text(words, values))
    session.agree(Text(N_("Take this signed language?")), yes=yes)
    with (
        session.progress() as progress,
        Operations(site, progress).between_changes("translations") as journal,
    ):
        layer.signed.keep(document)
        merged, changed = merged_anew(
            layer, site, journal, language=language, signed=f"{version} ({document.revision})"
        )
    _finish(session, values, merged, changed=changed)
    return ExitCode.OK


def drop(
    session: AgentSession, site: Site, layer: Layer, version: Version, language: str
) -> ExitCode:
    """Take a signed language back; the release's own texts and the country's stay."""
    from ncen_updater.agent.engine.operations import Operations

    taken = {t.language: t for t in layer.signed.taken() if t.version == version}
    if language not in taken:
        raise UpdaterError(
            LANGUAGE_NOT_TAKEN, language=language, version=version,
            languages=", ".join(taken) or N_("none"), state=NOTHING_CHANGED,
        )  # fmt: skip
    with (
        session.progress() as progress,
        Operations(site, progress).between_changes("translations") as journal,
    ):
        layer.signed.drop(taken[language])
        merged, changed = merged_anew(layer, site, journal, language=language, signed="-")
    _finish(session, {"language": language, "version": version}, merged, changed=changed)
    return ExitCode.OK


def merged_anew(
    layer: Layer,
    site: Site,
    journal: Journal,
    made_for: Mapping[str, MadeFor] | None = None,
    **told: object,
) -> tuple[str, bool]:
    """Merge for the release that runs, use it, and note it where something changed.

    Args:
        layer: What the country owns.
        site: The site.
        journal: Open, between two changes.
        made_for: What texts that just came were made for, by the path of their file.
        told: What else the note tells.

    Returns:
        What is in use, and whether it changed.
    """
    running, before = site.slots.current(), layer.chosen()
    assert running is not None  # noqa: S101 - commands look at it before
    name = layer.build(None, running, made_for)
    if name != before:
        layer.choose(name)
    if name != before or told:
        journal.note(NOTE, None, version=str(running), merged=name, **told)
    return name, name != before


def _finish(
    session: AgentSession, values: dict[str, object], merged: str, *, changed: bool
) -> None:
    words = N_("Done; nCEN shows it after its next start.")
    if not changed:
        words = N_("Done; what the release that runs shows stays as it is.")
    session.show(Text(words))
    document = {key: str(v) if key == "version" else v for key, v in values.items()}
    session.finish({**document, "merged": merged, "changed": changed})
