"""Keys on PKCS#11 tokens: smart cards, YubiKeys, hardware security modules.

securesystemslib's ``HSMSigner`` signs. This module adds what it lacks: which drivers may be loaded,
one PIN prompt per run without a second attempt, the owner's name in the public key, and our error
messages. Tokens have ECDSA keys (P-256, P-384); they do not support Ed25519.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from securesystemslib.exceptions import UnsupportedLibraryError, UnverifiedSignatureError
from securesystemslib.signer import HSMSigner, Key, Signature, Signer

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import NO_TOKEN_SUPPORT, TOKEN_LOCKED, TOKEN_UNUSABLE, WRONG_PIN
from ncen_updater.publisher.errors import report_errors
from ncen_updater.publisher.signing.keys import compute_fingerprint, set_key_owner, write_public_key

#: Drivers to try if none is named, the most specific first.
PKCS11_MODULES: Final = tuple(
    f"/usr/lib/{place}{name}"
    for name in ("libykcs11.so", "opensc-pkcs11.so", "softhsm/libsofthsm2.so")
    for place in ("x86_64-linux-gnu/", "aarch64-linux-gnu/", "")
)
MODULE_ROOTS: Final = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64")
MODULE_VARIABLE: Final = "NCEN_PKCS11_MODULE"
#: Variable with the driver's path, which PyKCS11 reads once per process.
_LIBRARY_VARIABLE: Final = "PYKCS11LIB"
#: What errors of the driver and the library mean, by their beginning; others are quoted.
DRIVER_ERRORS: Final = {
    "Found 0 ": "no token of this label",
    "Found ": "several tokens of this label",
    "could not find": "no ECDSA key with this id",
    "found more than one": "several ECDSA keys with this id",
    "found key on": "unsupported curve (P-256 or P-384 required)",
}


@dataclass(frozen=True)
class TokenKey:
    """One key on one token.

    Attributes:
        label: Label of the token; if two tokens have it, neither is used.
        key_id: Id of the key on the token, 1 to 255 (the signature slot 9c of a PIV card is 2).
        module: Path of the driver.
    """

    label: str
    key_id: int
    module: Path


def find_module(named: Path | None, candidates: Iterable[str] = PKCS11_MODULES) -> Path:
    """Return the driver: the one named by option or variable, else an installed default.

    A driver is code that sees the PIN. So it must be in a system library directory and writable
    only by root.

    Raises:
        TOKEN_UNUSABLE: If there is none, or it may not be loaded.
    """
    given = named or (Path(value) if (value := os.environ.get(MODULE_VARIABLE)) else None)
    if given is None:
        given = next((Path(path) for path in candidates if Path(path).is_file()), None)
    if given is None:
        raise UpdaterError(
            TOKEN_UNUSABLE, label="-", detail="no PKCS#11 driver installed (opensc, ykcs11)"
        )
    path = given.resolve()
    if not given.is_absolute() or not any(path.is_relative_to(root) for root in MODULE_ROOTS):
        raise UpdaterError(
            TOKEN_UNUSABLE,
            label="-",
            detail=LazyText("{given} is not in a system directory", {"given": given}),
        )
    with report_errors(TOKEN_UNUSABLE, OSError, label="-"):
        info = path.stat()
    if not stat.S_ISREG(info.st_mode) or info.st_uid != 0 or info.st_mode & 0o022:
        raise UpdaterError(
            TOKEN_UNUSABLE,
            label="-",
            detail=LazyText("{path} is writable by other users", {"path": path}),
        )
    return path


@contextmanager
def _map_errors(token: TokenKey) -> Iterator[None]:
    os.environ[_LIBRARY_VARIABLE] = str(token.module)
    try:
        from PyKCS11 import PyKCS11Error
    except ImportError as error:
        raise UpdaterError(NO_TOKEN_SUPPORT) from error
    try:
        yield
    except UnsupportedLibraryError as error:
        raise UpdaterError(NO_TOKEN_SUPPORT) from error
    except (PyKCS11Error, ValueError) as error:
        text = str(error)
        if "CKR_PIN_LOCKED" in text:
            raise UpdaterError(TOKEN_LOCKED, label=token.label) from error
        if "CKR_PIN" in text:
            raise UpdaterError(WRONG_PIN, label=token.label) from error
        reasons = (words for begin, words in DRIVER_ERRORS.items() if text.startswith(begin))
        detail = f"{next(reasons, text)}; driver {token.module}"
        raise UpdaterError(TOKEN_UNUSABLE, label=token.label, detail=detail) from error


def read_public_key(token: TokenKey) -> Key:
    """Read the public key of a key on a token, without the PIN.

    Raises:
        TOKEN_UNUSABLE: If the token or the key is missing, or the key type is not supported.
    """
    with _map_errors(token):
        _, key = HSMSigner.import_(token.key_id, {"label": token.label})
        return key


def import_token(token: TokenKey, directory: Path, owner: str) -> tuple[Path, Key]:
    """Write the public key of a key on a token as ``OWNER.pub.json``, without the PIN.

    Raises:
        TOKEN_UNUSABLE: If the token or the key is missing, or the key type is not supported.
        BAD_KEY_FILE: If a file of that name exists.
    """
    key = set_key_owner(read_public_key(token), owner)
    return write_public_key(directory, owner, key), key


class TokenSigner(Signer):  # type: ignore[misc] # the library has no types
    """A signer that uses a token, and verifies each signature.

    Args:
        token: The key on the token.
        public_key: Its public key, as the metadata contains it.
        pin: The PIN, used for every signature, since each needs a login.
    """

    def __init__(self, token: TokenKey, public_key: Key, pin: str) -> None:
        self._token, self._pin = token, pin
        self._key = public_key

    @property
    def public_key(self) -> Key:
        """Return the public key."""
        return self._key

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: Any) -> Signer:  # noqa: ANN401
        """Implement the library's interface, which is not used."""
        raise UpdaterError(TOKEN_UNUSABLE, label=priv_key_uri, detail="a token has no URL")

    def sign(self, payload: bytes) -> Signature:
        """Sign, with one attempt only, since tokens lock after a few wrong PINs.

        Raises:
            WRONG_PIN: If the token refuses the PIN.
            TOKEN_UNUSABLE: If it cannot sign, or signs with another key.
        """
        with _map_errors(self._token):
            signer = HSMSigner(
                self._token.key_id, {"label": self._token.label}, self._key, lambda _: self._pin
            )
            signature: Signature = signer.sign(payload)
        try:
            self._key.verify_signature(signature, payload)
        except UnverifiedSignatureError as error:
            raise UpdaterError(
                TOKEN_UNUSABLE,
                label=self._token.label,
                detail="public and private key do not match",
            ) from error
        return signature


def find_token_key(token: TokenKey, known: Iterable[Key]) -> Key:
    """Return the authorized key that the token holds; needs no PIN.

    Raises:
        TOKEN_UNUSABLE: If the token holds none of them.
    """
    held = compute_fingerprint(read_public_key(token))
    for key in known:
        if compute_fingerprint(key) == held:
            return key
    raise UpdaterError(TOKEN_UNUSABLE, label=token.label, detail="not authorized for any draft")
