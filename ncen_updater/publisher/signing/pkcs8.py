"""Writing an encrypted private key (PKCS#8) whose passphrase is stretched by scrypt.

The library that reads such files, with this and with every other usual derivation, writes PBKDF2
with 2048 rounds only: a graphics card tries millions of passphrases a second against that. So the
few bytes around the encrypted key are put together here (RFC 5958, 8018 and 7914); the cipher, the
derivation and the reading are the library's.
"""

from __future__ import annotations

import base64
import os
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.padding import PKCS7

#: 128 MiB and half a second a try, as OWASP has it for passphrases.
COST: Final = 1 << 17
BLOCKS, LANES, KEY_BYTES = 8, 1, 32
_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_SCRYPT = bytes.fromhex("06092b06010401da47040b")
_AES256_CBC = bytes.fromhex("060960864801650304012a")


def encrypted(private_info: bytes, passphrase: str, cost: int = COST) -> bytes:
    """Encrypt a private key.

    Args:
        private_info: The key, as unencrypted PKCS#8 (DER).
        passphrase: Of the officer.
        cost: How much a try costs, a power of two.

    Returns:
        The file, PEM.
    """
    salt, start = os.urandom(16), os.urandom(16)
    key = Scrypt(salt=salt, length=KEY_BYTES, n=cost, r=BLOCKS, p=LANES).derive(passphrase.encode())
    padder, writer = PKCS7(128).padder(), Cipher(AES256(key), CBC(start)).encryptor()
    content = writer.update(padder.update(private_info) + padder.finalize()) + writer.finalize()
    numbers = b"".join(_integer(value) for value in (cost, BLOCKS, LANES, KEY_BYTES))
    derivation = _sequence(_SCRYPT + _sequence(_tagged(0x04, salt) + numbers))
    cipher = _sequence(_AES256_CBC + _tagged(0x04, start))
    algorithm = _sequence(_PBES2 + _sequence(derivation + cipher))
    text = base64.encodebytes(_sequence(algorithm + _tagged(0x04, content))).replace(b"\n", b"")
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    begin, end = (b"-----%s ENCRYPTED PRIVATE KEY-----" % word for word in (b"BEGIN", b"END"))
    return b"\n".join([begin, *lines, end, b""])


def _tagged(tag: int, content: bytes) -> bytes:
    """One value in DER."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _sequence(content: bytes) -> bytes:
    return _tagged(0x30, content)


def _integer(value: int) -> bytes:
    # One bit more than it has, so that it is never read as negative.
    return _tagged(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))
