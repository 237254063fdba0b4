"""What an officer signs with: a key file or a token; asked for what opens it as late as can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer

    from ncen_updater.publisher.signing.tokens import Token


@dataclass(frozen=True)
class SigningHand:
    """What somebody signs with.

    Attributes:
        public: Its public half.
        name: As its files are called.
        beside: Where the list of what was signed lies.
        opened: Asks for what opens it, once.
    """

    public: Key
    name: str
    beside: Path
    opened: Callable[[], Signer]


def with_file(key: Path, ask: Callable[[Path], str]) -> SigningHand:
    """A private key file.

    Raises:
        UpdaterError: If its public half cannot be used.
    """
    from ncen_updater.publisher.signing.keys import (
        PRIVATE_SUFFIX,
        load_public_key,
        open_signer,
        public_path,
    )

    public = load_public_key(public_path(key))
    name = key.name.removesuffix(PRIVATE_SUFFIX)
    return SigningHand(public, name, key.parent, lambda: open_signer(key, ask))


def with_token(
    held: Token, may_sign: Sequence[Key], ask: Callable[[], str], beside: Path
) -> SigningHand:
    """A key on a token.

    Args:
        held: The token.
        may_sign: Keys among which its own has to be.
        ask: Asks for the PIN.
        beside: Where what belongs to it lies.

    Raises:
        UpdaterError: If the token is not there, or holds another key.
    """
    from ncen_updater.publisher.signing import tokens
    from ncen_updater.publisher.signing.keys import owner_of

    public = tokens.known_key(held, may_sign)
    return SigningHand(
        public, owner_of(public), beside, lambda: tokens.open_token(held, may_sign, ask)
    )
