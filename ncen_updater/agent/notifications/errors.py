"""Errors of telling people. Codes 9601 to 9649. None of them changes anything of the site."""

from __future__ import annotations

from ncen_updater.common.errors import ExitCode, UpdaterError
from ncen_updater.common.i18n import N_

__all__ = [
    "BadOrder",
    "MailRefused",
    "MailUnreachable",
    "NotifyError",
    "SecretExposed",
    "SecretMissing",
    "SenderFailed",
    "TellingTls",
    "WebhookRefused",
    "WebhookUnreachable",
    "WrongPassword",
]

AGAIN = N_("The message waits and is sent again by itself. Correct the table [notify] if need be.")


class NotifyError(UpdaterError):
    """A message could not be delivered."""

    code = "NU-9601"
    exit_code = ExitCode.NETWORK
    what = N_("A message could not be delivered.")
    remedy = AGAIN


class MailUnreachable(NotifyError):
    """No answer, a connection that broke, or one that was too slow."""

    code = "NU-9602"
    what = N_("The mail server {host}:{port} cannot be reached.")


class MailRefused(NotifyError):
    """The server answered, and did not take the message."""

    code = "NU-9603"
    what = N_("The mail server {host}:{port} did not take the message (answer {status}).")


class WrongPassword(NotifyError):
    """The server does not know the user or the password."""

    code = "NU-9604"
    what = N_("The mail server {host}:{port} does not accept the user or the password.")
    remedy = N_("Correct the user or the password file in the table [notify.mail].")


class TellingTls(NotifyError):
    """The other side could not prove who it is, or speaks no TLS."""

    code = "NU-9605"
    what = N_("{host}:{port} could not prove who it is; nothing was sent.")
    remedy = N_("Check the name and the certificate of the server, or give its ca_file.")


class WebhookUnreachable(NotifyError):
    """No answer, a connection that broke, or one that was too slow."""

    code = "NU-9606"
    what = N_("The webhook {host}:{port} cannot be reached.")


class WebhookRefused(NotifyError):
    """It answered with another status than 2xx."""

    code = "NU-9607"
    what = N_("The webhook {host}:{port} did not take the message (status {status}).")


class SecretMissing(NotifyError):
    """A password or secret that cannot be read."""

    code = "NU-9608"
    what = N_("The secret {name} of the table [notify] cannot be read: {reason}")
    remedy = N_("Make the file with the secret alone in it, mode 0600, owned by the agent's user.")


class SecretExposed(NotifyError):
    """A password or secret that others may read."""

    code = "NU-9609"
    what = N_("The secret {name} can be read by others; nothing was sent.")
    remedy = N_("Run: chmod 600 {name}")


class SenderFailed(NotifyError):
    """The process that sends did not come to an answer."""

    code = "NU-9610"
    what = N_("The process that sends messages failed.")


class BadOrder(NotifyError):
    """What the process that sends was given cannot be understood."""

    code = "NU-9611"
    what = N_("There is no such message to send.")
