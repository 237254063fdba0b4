"""Keys: encrypted PKCS#8 files, public key files, and signers for them.

A private key is stored in ``NAME.pem``, encrypted with the signer's passphrase (scrypt), and is
refused if other users may read it. Its public key is stored in ``NAME.pub.json``: the TUF key with
the owner's name, so that signers read names instead of digests. The key id is the SHA-256 of the
key's canonical JSON. It is computed again at every load, and an id that does not match is refused.

``file:`` URIs have two meanings in the supported versions of securesystemslib, so encrypted PKCS#8
files have their own scheme, ``ncen-pem:``.

``cryptography`` can write such files only with PBKDF2 and 2048 rounds, against which a graphics
card tries millions of passphrases per second. So this module encodes the few bytes around the
encrypted key itself (RFC 5958, 8018 and 7914). Cipher, key derivation and reading are the
library's.
"""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.padding import PKCS7
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, CryptoSigner, Key, Signer, SSlibKey

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import parse_json, read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_records import compute_sha256, encode_canonical_json
from ncen_updater.common.messages import (
    BAD_KEY_FILE,
    DUPLICATE_KEY,
    FILE_EXISTS,
    KEY_NAME,
    KEY_NOT_ALLOWED,
    KEY_READABLE,
    PASSPHRASE_SHORT,
    WRONG_PASSPHRASE,
)
from ncen_updater.publisher.errors import report_errors

KEY_OWNER: Final = "x-ncen-keyowner"
PRIVATE_SUFFIX: Final = ".pem"
PUBLIC_SUFFIX: Final = ".pub.json"
MAX_KEY_BYTES: Final = 20_000
MIN_PASSPHRASE_CHARS: Final = 14
FORBIDDEN_MODE_BITS: Final = 0o177

#: Asks for the passphrase of the private key at a path; called once per key.
Passphrase = Callable[[Path], str]


@dataclass(frozen=True)
class KeyFiles:
    """The two files of a new key, and its key id."""

    private: Path
    public: Path
    keyid: str


def _get_keyid(key: Mapping[str, Any]) -> str:
    return compute_sha256(encode_canonical_json(dict(key)))


def compute_keyid(key: Key) -> str:
    """Return the id of a key, computed from its content."""
    return _get_keyid(key.to_dict())


def set_key_owner(key: Key, owner: str) -> Key:
    """Set the owner's name in a key, which also changes its id."""
    key.unrecognized_fields[KEY_OWNER] = owner
    key.keyid = compute_keyid(key)
    return key


def _make_named_key(public_key: Any, owner: str) -> Key:  # noqa: ANN401 - a union of the library's
    return set_key_owner(SSlibKey.from_crypto(public_key), owner)


def _refuse_name(name: str) -> None:
    named = name.endswith((PRIVATE_SUFFIX, PUBLIC_SUFFIX))
    if named or "/" in name or name.startswith(".") or not name or not name.isprintable():
        raise UpdaterError(KEY_NAME, name=name)


def check_new_key_name(directory: Path, name: str) -> None:
    """Refuse an invalid or existing key name, before anyone is asked for a passphrase.

    Raises:
        FILE_EXISTS: If a file of that name exists.
        KEY_NAME: If the name is invalid.
    """
    _refuse_name(name)
    for suffix in (PRIVATE_SUFFIX, PUBLIC_SUFFIX):
        path = directory / f"{name}{suffix}"
        if path.exists():
            raise UpdaterError(FILE_EXISTS, path=path)


def write_public_key(directory: Path, name: str, key: Key) -> Path:
    """Write a public key file; never overwrite one.

    Raises:
        FILE_EXISTS: If a file of that name exists.
        KEY_NAME: If the name is invalid.
    """
    path = directory / f"{name}{PUBLIC_SUFFIX}"
    _refuse_name(name)
    if path.exists():
        raise UpdaterError(FILE_EXISTS, path=path)
    durable.make_directory(directory, 0o700)
    durable.write_file(path, _encode_public_key(key))
    return path


def list_key_owners(keys: Iterable[Key]) -> tuple[str, ...]:
    """Return the owners of keys, sorted; a name that occurs twice is followed by its key."""
    held = [(get_key_owner(key), key) for key in keys]
    named = [name for name, _ in held]
    return tuple(
        sorted(
            f"{name} ({compute_fingerprint(key)[:8]}...)" if named.count(name) > 1 else name
            for name, key in held
        )
    )


def get_key_owner(key: Key) -> str:
    """Return the name of the person or machine that holds a key."""
    return str(key.unrecognized_fields.get(KEY_OWNER, key.keyid[:12]))


def make_key_error(key: Key | str, role: str, allowed: Iterable[Key]) -> UpdaterError:
    """Return the error for a key, or an unknown key's id, that may not sign for a role."""
    name = describe_keys([key]) if isinstance(key, Key) else key
    return UpdaterError(KEY_NOT_ALLOWED, key=name, role=role, keys=describe_keys(allowed) or "-")


def describe_keys(keys: Iterable[Key]) -> str:
    """Return the owners of keys, each with the first digits of the fingerprint.

    A replaced key usually has the name of its predecessor.
    """
    return ", ".join(
        sorted(f"{get_key_owner(key)} ({compute_fingerprint(key)[:8]}...)" for key in keys)
    )


def get_public_path(private: Path) -> Path:
    """Return the path of the public key file for ``NAME.pem``."""
    return private.with_name(private.name.removesuffix(PRIVATE_SUFFIX) + PUBLIC_SUFFIX)


def create_key(
    directory: Path,
    name: str,
    passphrase: str,
    cost: int | None = None,
) -> KeyFiles:
    """Create an Ed25519 key and write both files; never overwrite one.

    Args:
        directory: Directory of the files; created with mode 0700.
        name: The owner's name, shown to all signers; also the name of the files.
        passphrase: At least fourteen characters.
        cost: scrypt's cost parameter, a power of two; None for the default.

    Raises:
        FILE_EXISTS: If a file of that name exists.
        PASSPHRASE_SHORT: If the passphrase is too short.
        KEY_NAME: If the name is invalid.
    """
    private = directory / f"{name}{PRIVATE_SUFFIX}"
    public = get_public_path(private)
    check_new_key_name(directory, name)
    if len(passphrase) < MIN_PASSPHRASE_CHARS:
        raise UpdaterError(
            PASSPHRASE_SHORT, path=private, count=len(passphrase), needed=MIN_PASSPHRASE_CHARS
        )
    secret = Ed25519PrivateKey.generate()
    plain = secret.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    content = encrypt_private_key(plain, passphrase, cost or SCRYPT_COST)
    key = _make_named_key(secret.public_key(), name)
    durable.make_directory(directory, 0o700)
    durable.write_file(private, content, 0o600)
    durable.write_file(public, _encode_public_key(key))
    return KeyFiles(private, public, key.keyid)


def _encode_public_key(key: Key) -> bytes:
    document = {"keyid": key.keyid, "key": key.to_dict()}
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def load_public_key(path: Path) -> Key:
    """Read a public key file.

    Raises:
        BAD_KEY_FILE: If it cannot be read, or its id does not match its content.
    """
    with report_errors(
        BAD_KEY_FILE, OSError, ValueError, KeyError, TypeError, AttributeError, path=path
    ):
        document = parse_json(read_file(path, MAX_KEY_BYTES))
        keyid, data = document["keyid"], document["key"]
        computed = _get_keyid(data)
        key = Key.from_dict(keyid, data)
        compute_fingerprint(key)
    if keyid != computed:
        raise UpdaterError(BAD_KEY_FILE, path=path, detail="the key id does not match the key")
    return key


def compute_fingerprint(key: Key) -> str:
    """Return the SHA-256 of the public key itself, independent of its name and encoding.

    Raises:
        ValueError: If the key type is not supported.
    """
    value = key.keyval["public"]
    if key.keytype == "ed25519":
        loaded: Any = Ed25519PublicKey.from_public_bytes(bytes.fromhex(value))
    elif key.keytype in ("ecdsa", "rsa"):
        loaded = serialization.load_pem_public_key(value.encode())
    else:
        raise ValueError(f"keys of the type {key.keytype!r} are not used here")
    der = loaded.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return compute_sha256(der)


def refuse_duplicate_keys(keys: Iterable[Key]) -> None:
    """Refuse one public key with two ids: it alone would reach a threshold of two.

    Raises:
        DUPLICATE_KEY: Naming both.
    """
    seen: dict[str, Key] = {}
    for key in keys:
        mark = compute_fingerprint(key)
        other = seen.setdefault(mark, key)
        if other is not key and other.keyid != key.keyid:
            raise UpdaterError(
                DUPLICATE_KEY,
                role="the feed",
                first=get_key_owner(other),
                second=get_key_owner(key),
            )


class PemSigner(CryptoSigner):  # type: ignore[misc] # the library has no types
    """A signer with an encrypted PKCS#8 file; its URI is ``ncen-pem:/path/NAME.pem``."""

    SCHEME: Final = "ncen-pem"

    @classmethod
    def from_priv_key_uri(
        cls,
        priv_key_uri: str,
        public_key: Key,
        secrets_handler: Callable[[str], str] | None = None,
    ) -> PemSigner:
        """Open the file of a URI; called by securesystemslib.

        Raises:
            BAD_KEY_FILE: If it cannot be read, is not encrypted, or is not the public key's.
            KEY_READABLE: If other users may read it.
            WRONG_PASSPHRASE: If the passphrase is wrong.
        """
        parts = urlsplit(priv_key_uri)
        path = Path(unquote(parts.path))
        if parts.scheme != cls.SCHEME or secrets_handler is None:
            raise UpdaterError(BAD_KEY_FILE, path=path, detail="not an encrypted key file")
        with report_errors(BAD_KEY_FILE, OSError, path=path), path.open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            content = stream.read(MAX_KEY_BYTES)
        if mode & FORBIDDEN_MODE_BITS:
            raise UpdaterError(KEY_READABLE, path=path, mode=f"{mode:04o}")
        if b"BEGIN ENCRYPTED PRIVATE KEY" not in content:
            raise UpdaterError(
                BAD_KEY_FILE, path=path, detail="the private key must be encrypted (PKCS#8)"
            )
        try:
            secret: Any = serialization.load_pem_private_key(
                content, secrets_handler("passphrase").encode()
            )
        except (ValueError, TypeError) as error:
            raise UpdaterError(WRONG_PASSPHRASE, path=path) from error
        held = compute_fingerprint(_make_named_key(secret.public_key(), ""))
        if held != compute_fingerprint(public_key):
            raise UpdaterError(
                BAD_KEY_FILE, path=path, detail="public and private key do not match"
            )
        return cls(secret, public_key)


# securesystemslib's registry of URI schemes.
SIGNER_FOR_URI_SCHEME[PemSigner.SCHEME] = PemSigner


def open_signer(private: Path, passphrase: Passphrase) -> Signer:
    """Open a private key, with its public key file beside it.

    Raises:
        BAD_KEY_FILE: If a file is invalid, or the two do not match.
        WRONG_PASSPHRASE: If the passphrase is wrong; it is asked for only once.
    """
    if private.name.endswith(PUBLIC_SUFFIX):
        name = private.name.removesuffix(PUBLIC_SUFFIX)
        raise UpdaterError(
            BAD_KEY_FILE,
            path=private,
            detail=LazyText("this is the public key; give {name}.pem", {"name": name}),
        )
    key = load_public_key(get_public_path(private))
    uri = f"{PemSigner.SCHEME}:{quote(str(private.absolute()))}"
    return Signer.from_priv_key_uri(uri, key, lambda _: passphrase(private))


#: 128 MiB and half a second per attempt, as OWASP recommends for passphrases.
SCRYPT_COST: Final = 1 << 17
SCRYPT_BLOCK_SIZE, SCRYPT_PARALLELISM, KEY_BYTES = 8, 1, 32
_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_SCRYPT = bytes.fromhex("06092b06010401da47040b")
_AES256_CBC = bytes.fromhex("060960864801650304012a")


def encrypt_private_key(private_info: bytes, passphrase: str, cost: int = SCRYPT_COST) -> bytes:
    """Encrypt a private key.

    Args:
        private_info: The key as unencrypted PKCS#8 (DER).
        passphrase: The signer's passphrase.
        cost: scrypt's cost parameter, a power of two.

    Returns:
        The PEM file.
    """
    salt, start = os.urandom(16), os.urandom(16)
    key = Scrypt(
        salt=salt, length=KEY_BYTES, n=cost, r=SCRYPT_BLOCK_SIZE, p=SCRYPT_PARALLELISM
    ).derive(passphrase.encode())
    padder, writer = PKCS7(128).padder(), Cipher(AES256(key), CBC(start)).encryptor()
    content = writer.update(padder.update(private_info) + padder.finalize()) + writer.finalize()
    numbers = b"".join(
        _encode_der_integer(value)
        for value in (cost, SCRYPT_BLOCK_SIZE, SCRYPT_PARALLELISM, KEY_BYTES)
    )
    derivation = _encode_der_sequence(
        _SCRYPT + _encode_der_sequence(_encode_der(0x04, salt) + numbers)
    )
    cipher = _encode_der_sequence(_AES256_CBC + _encode_der(0x04, start))
    algorithm = _encode_der_sequence(_PBES2 + _encode_der_sequence(derivation + cipher))
    text = base64.encodebytes(_encode_der_sequence(algorithm + _encode_der(0x04, content))).replace(
        b"\n", b""
    )
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    begin, end = (b"-----%s ENCRYPTED PRIVATE KEY-----" % word for word in (b"BEGIN", b"END"))
    return b"\n".join([begin, *lines, end, b""])


def _encode_der(tag: int, content: bytes) -> bytes:
    """Return one DER value."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _encode_der_sequence(content: bytes) -> bytes:
    return _encode_der(0x30, content)


def _encode_der_integer(value: int) -> bytes:
    # One bit more than needed, so that the integer is not negative.
    return _encode_der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))
