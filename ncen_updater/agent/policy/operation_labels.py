"""Labels of commands, actions and operations in progress. Pure; imports little."""

from __future__ import annotations

from ncen_updater.common.i18n import N_, LazyText

#: Labels by the name of the command or of the service's action.
_OPERATION_LABELS = {
    "adopt-restored": N_("adopting restored databases"),
    "adopt": N_("adopting the installation"),
    "assess": N_("determining the next upgrade"),
    "check": N_("reading the metadata"),
    "prune": N_("pruning"),
    "import": N_("importing an offline bundle"),
    "job": N_("running a job"),
    "plan": N_("downloading a release"),
    "prepare": N_("downloading a release"),
    "receipt": N_("sending a receipt"),
    "rehearse": N_("rehearsing a release"),
    "resume": N_("resuming a change"),
    "rollback": N_("rolling back"),
    "self-update": N_("updating ncen-updater"),
    "start": N_("starting the application"),
    "translations": N_("applying the local overlay"),
    "upgrade": N_("upgrading"),
}
_SOAKING_LABEL = N_("soak period of {version}")


def label_operation(name: str) -> LazyText:
    """Return the label of a command or action; an unknown one by its name.

    Args:
        name: Name of the command or of the service's action.
    """
    return (
        LazyText(_OPERATION_LABELS[name])
        if name in _OPERATION_LABELS
        else LazyText("{name}", {"name": name})
    )


def describe_running_operation(holder: str, release_in_soak: str | None = None) -> LazyText:
    """Describe the operation in progress.

    Args:
        holder: The lock holder's own description: a command and its process id.
        release_in_soak: The release, if the operation is only its soak period.
    """
    command, separator, process = holder.rpartition(", process ")
    if not separator:
        return LazyText(N_("Operation in progress: {holder}"), {"holder": holder})
    label = (
        LazyText(_SOAKING_LABEL, {"version": release_in_soak})
        if release_in_soak
        else label_operation(command)
    )
    return LazyText(
        N_("Operation in progress: {operation} (process {process})"),
        {"operation": label, "process": process},
    )
