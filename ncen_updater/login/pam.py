"""Check a user's password with PAM.

Calls the C library directly, as every Python binding does (decision 78). pam(3), pam_conv(3).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

PAM_LIBRARY = "libpam.so.0"
#: Directory of the PAM configurations.
PAM_DIRECTORY = Path("/etc/pam.d")
#: From Linux-PAM, _pam_types.h.
_SUCCESS, _BUFFER, _CONVERSATION = 0, 5, 19
_EXPIRED = frozenset({12, 13})  # the password, the account
_WRONG = frozenset({6, 7, 8, 10, 11})
_USER, _REMOTE_HOST = 2, 4
_NO_ECHO_PROMPT, _ECHO_PROMPT = 1, 2
#: PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK.
_FLAGS = 0x8000 | 0x1
#: Limit on prompts per conversation; no module needs more.
_MAX_PROMPTS = 32


class PamVerdict(Enum):
    """Result of a password check."""

    ACCEPTED = "right"
    WRONG = "wrong"
    EXPIRED = "expired"
    MORE_REQUIRED = "more"
    UNAVAILABLE = "broken"


@dataclass(frozen=True)
class PamResult:
    """Verdict of PAM, with details.

    Attributes:
        verdict: The verdict; ``MORE_REQUIRED`` if PAM asks for more than a password.
        user: Account name according to PAM; empty unless the password was accepted.
        detail: Why PAM could not be used.
    """

    verdict: PamVerdict
    user: str = ""
    detail: str = ""


class _Message(ctypes.Structure):
    _fields_ = (("style", ctypes.c_int), ("text", ctypes.c_char_p))


class _Response(ctypes.Structure):
    _fields_ = (("text", ctypes.c_void_p), ("code", ctypes.c_int))


_CONVERSE = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.POINTER(_Message)),
    ctypes.POINTER(ctypes.POINTER(_Response)), ctypes.c_void_p,
)  # fmt: skip


class _Conversation(ctypes.Structure):
    _fields_ = (("converse", _CONVERSE), ("data", ctypes.c_void_p))


class PamService:
    """One PAM service, that is, one configuration file.

    Args:
        name: Name of the service.
        directory: Directory of the file; by default that of the system.
    """

    def __init__(self, name: str, directory: Path | None = None) -> None:
        self._name, self._directory = name, directory

    def check_password(self, user: str, password: str, address: str = "") -> PamResult:
        """Check a password and whether the account is valid; blocks.

        No PAM session is opened. A request for more than one secret is not answered.

        Args:
            user: User name.
            password: Password as typed.
            address: Client address; empty if unknown.
        """
        try:
            arguments = user.encode(), password.encode(), address.encode()
        except UnicodeEncodeError:
            return PamResult(PamVerdict.WRONG)
        if any(b"\0" in part for part in arguments):
            return PamResult(PamVerdict.WRONG)
        config_file = (self._directory or PAM_DIRECTORY) / self._name
        if not config_file.is_file():  # PAM would use the service "other" instead
            return PamResult(PamVerdict.UNAVAILABLE, detail=f"no {config_file}")
        try:
            return self._authenticate(*arguments)
        except (OSError, AttributeError) as error:
            return PamResult(PamVerdict.UNAVAILABLE, detail=str(error))

    def _authenticate(self, user: bytes, password: bytes, address: bytes) -> PamResult:
        pam, libc = ctypes.CDLL(PAM_LIBRARY), ctypes.CDLL(None)
        libc.calloc.restype = ctypes.c_void_p
        libc.calloc.argtypes = (ctypes.c_size_t, ctypes.c_size_t)
        libc.strdup.restype = ctypes.c_void_p
        libc.strdup.argtypes = (ctypes.c_char_p,)
        pam.pam_strerror.restype = ctypes.c_char_p
        pam.pam_strerror.argtypes = (ctypes.c_void_p, ctypes.c_int)
        prompts = [0, 0]  # prompts for a secret, other prompts

        def converse(count: int, messages: object, responses: object, _: object) -> int:
            """Answer the first secret prompt with the password; PAM frees the allocated memory."""
            if not 0 < count <= _MAX_PROMPTS:
                return _CONVERSATION
            memory = libc.calloc(count, ctypes.sizeof(_Response))
            if not memory:
                return _BUFFER
            parts = ctypes.cast(memory, ctypes.POINTER(_Response))
            for number in range(count):
                style = messages[number].contents.style  # type: ignore[index]
                prompts[0] += style == _NO_ECHO_PROMPT
                prompts[1] += style == _ECHO_PROMPT
                if style == _NO_ECHO_PROMPT and prompts[0] == 1:
                    parts[number].text = libc.strdup(password)
            responses[0] = parts  # type: ignore[index]
            return _CONVERSATION if prompts[0] > 1 or prompts[1] else _SUCCESS

        callback = _CONVERSE(converse)
        conversation = _Conversation(callback, None)
        handle = ctypes.c_void_p()
        arguments = (self._name.encode(), user, ctypes.byref(conversation))
        if self._directory is None:
            code = pam.pam_start(*arguments, ctypes.byref(handle))
        else:
            directory = str(self._directory).encode()
            code = pam.pam_start_confdir(*arguments, directory, ctypes.byref(handle))
        if code != _SUCCESS:
            return PamResult(PamVerdict.UNAVAILABLE, detail=f"pam_start: {code}")
        try:
            code = pam.pam_set_item(handle, _REMOTE_HOST, address) if address else _SUCCESS
            if code == _SUCCESS:
                code = pam.pam_authenticate(handle, _FLAGS)
            if code == _SUCCESS:
                code = pam.pam_acct_mgmt(handle, _FLAGS)
            if prompts[0] > 1 or prompts[1]:
                return PamResult(PamVerdict.MORE_REQUIRED)
            if code == _SUCCESS:
                account = ctypes.c_char_p()
                code = pam.pam_get_item(handle, _USER, ctypes.byref(account))
                if code == _SUCCESS and account.value:
                    return PamResult(PamVerdict.ACCEPTED, account.value.decode())
            if code in _WRONG:
                return PamResult(PamVerdict.WRONG)
            if code in _EXPIRED:
                return PamResult(PamVerdict.EXPIRED)
            text = pam.pam_strerror(handle, code) or b""
            return PamResult(PamVerdict.UNAVAILABLE, detail=text.decode("utf-8", "replace"))
        finally:
            pam.pam_end(handle, code)
