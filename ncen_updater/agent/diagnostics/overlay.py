"""Is what the country owns in use, and does a release know all of it?"""

from __future__ import annotations

from packaging.version import Version

from ncen_updater.agent.overlay.layer import Layer
from ncen_updater.agent.overlay.withdrawn import withdrawn_languages
from ncen_updater.agent.site import Site
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, Text

#: Paths that a person is told of.
SHOWN = 10


def overlay_look(site: Site, current: Version) -> tuple[Finding, ...]:
    """NU-6133 where what was merged is not in use, NU-6134 for files that nothing uses.

    NU-6137 for a signed language that was taken back, NU-6142 for one that is taken and not in use,
    or the other way round.
    """
    layer, found = site.overlay, []
    if layer is None:
        return ()
    carried = layer.carried(current)
    if carried and not layer.is_of(current):
        chosen = layer.chosen()
        values = {"version": current, "chosen": chosen or "-", "path": str(layer.merged)}
        found.append(
            Finding(
                "NU-6133",
                Severity.ADVISORY,
                Text(
                    N_(
                        "What the country owns in texts and settings is not merged for {version},"
                        " which runs (below {path} is: {chosen})."
                    )
                    if chosen
                    else N_(
                        "What the country owns in texts and settings is not merged for {version},"
                        " which runs (below {path} none is chosen)."
                    ),
                    values,
                ),
                Text(N_("Run 'ncen-updater translations apply'; restart nCEN to see it.")),
                values,
            )
        )
    elif carried:
        found += _not_in_use(layer, current)
    found += _taken_back(site, layer)
    paths = site.config.paths
    files = layer.unnamed(current, [paths.resolve(item.directory) for item in site.config.files])
    if files:
        shown = ", ".join(files[:SHOWN]) + (", ..." if len(files) > SHOWN else "")
        values = {"count": len(files), "files": shown, "path": str(layer.own)}
        found.append(
            Finding(
                "NU-6134",
                Severity.INFO,
                Text(N_("{count} files in {path} are used by no release: {files}."), values),
                Text(
                    N_(
                        "If one was meant to be, compare its name with 'ncen-updater translations"
                        " report'."
                    )
                ),
                values,
            )
        )
    return tuple(found)


def _not_in_use(layer: Layer, current: Version) -> list[Finding]:
    languages = ", ".join(layer.not_in_use(current))
    if not languages:
        return []
    values = {"languages": languages, "version": str(current)}
    return [
        Finding(
            "NU-6142",
            Severity.ADVISORY,
            Text(
                N_(
                    "{languages}: officers do not see the signed language as it was taken, or"
                    " dropped, last for {version}: that command was cut off before it was in use."
                ),
                values,
            ),
            Text(N_("Run 'ncen-updater translations apply'; restart nCEN to see it.")),
            values,
        )
    ]


def _taken_back(site: Site, layer: Layer) -> list[Finding]:
    if not layer.signed.taken():
        return []
    try:
        view = site.source.last_view()
    except UpdaterError:
        return []  # what is wrong with the list is a finding of its own
    found = []
    for taken, withdrawal in withdrawn_languages(layer.signed, view.languages if view else ()):
        values = {
            "language": taken.language, "version": str(taken.version), "reason": withdrawal.reason,
            "advice": withdrawal.advice,
        }  # fmt: skip
        found.append(
            Finding(
                "NU-6137",
                Severity.ADVISORY,
                Text(
                    N_(
                        "The signed language {language} for {version}, which was taken here, was"
                        " taken back by the Secretariat: {reason}"
                    ),
                    values,
                ),
                Text(
                    N_(
                        "Run 'ncen-updater translations take {language} --for {version}' for a"
                        " better one, or 'translations drop'. The Secretariat says: {advice}"
                    ),
                    values,
                ),
                values,
            )
        )
    return found
