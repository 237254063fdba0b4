"""What ncen-updater does, in words: a command, an act, whoever is at work. Pure, and light."""

from __future__ import annotations

from ncen_updater.common.i18n import N_, LazyText

#: By the name of the command, or of the act of the service.
_OPERATION_LABELS = {
    "adopt-restored": N_("taking over databases that were restored"),
    "adopt": N_("taking the site over"),
    "assess": N_("finding out what comes next"),
    "check": N_("reading the signed list"),
    "prune": N_("clearing away what was kept long enough"),
    "confirm": N_("ending the watched time"),
    "import": N_("importing a bundle"),
    "order": N_("what somebody asked for"),
    "plan": N_("preparing a release"),
    "prepare": N_("preparing a release"),
    "rehearse": N_("rehearsing a release on copies"),
    "resume": N_("bringing a change to its end"),
    "rollback": N_("going back to the release before"),
    "self-update": N_("renewing ncen-updater itself"),
    "start": N_("starting the application"),
    "translations": N_("putting the country's texts in use"),
    "uninstall": N_("removing ncen-updater"),
    "upgrade": N_("an upgrade"),
}
_SOAKING_LABEL = N_("watching release {version}")


def label_operation(name: str) -> LazyText:
    """Name what a command or an act does; one that is not known, by its own name.

    Args:
        name: As it is typed, or as the service calls it.
    """
    return (
        LazyText(_OPERATION_LABELS[name])
        if name in _OPERATION_LABELS
        else LazyText("{name}", {"name": name})
    )


def describe_running_operation(holder: str, release_in_soak: str | None = None) -> LazyText:
    """Say who works on the site just now.

    Args:
        holder: As the holder of the lock wrote it down: a command, and its process.
        release_in_soak: The release that is only watched, where that is all.
    """
    command, known, process = holder.rpartition(", process ")
    if not known:
        return LazyText(N_("At work here now: {holder}."), {"holder": holder})
    what = (
        LazyText(_SOAKING_LABEL, {"version": release_in_soak})
        if release_in_soak
        else label_operation(command)
    )
    return LazyText(
        N_("At work here now: {what} (process {process})."), {"what": what, "process": process}
    )
