"""``signer.toml``: stored options of a signer's program.

It names the key or token, the signer's own copy of the root, the builder's key and the directory of
releases. It contains no secret. Someone who can write it could replace the signer's root, so only
the signer may write it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ncen_updater.common.bounded_io import parse_toml
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import (
    SIGNER_SETTINGS_EXPOSED,
    SIGNER_SETTINGS_HOLD_SECRET,
    SIGNER_SETTINGS_INVALID,
)
from ncen_updater.formats.errors import describe_mistakes
from ncen_updater.publisher.errors import report_errors

SETTINGS_VARIABLE: Final = "NCEN_SIGNER"
DEFAULT_SETTINGS_PATH: Final = ".config/ncen-publisher/signer.toml"
MAX_BYTES: Final = 20_000
FORBIDDEN_MODE_BITS: Final = 0o077
#: Words that no setting's name may contain: such values must not be stored in a file.
SECRET_WORDS: Final = ("pass", "pin", "secret", "pwd")

#: Settings whose files no other user may write.
TRUSTED_FILES: Final = ("module", "root", "builder_key")

SettingText = Annotated[
    str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f]+$")
]


@dataclass(frozen=True)
class SignerSettings:
    """Stored settings; None if not set.

    Attributes:
        source: Path of the file; None if there is none.
        name: The signer's name, which must be the key's owner.
        key: Private key file.
        emergency_halt_key: Private key file for emergency halts, if different.
        token: Label of a token, instead of ``key``.
        key_id: Id of the key on the token.
        module: PKCS#11 driver of the token.
        root: A root of the feed that the signer got through another channel.
        builder_key: Public key file of the builder.
        staging: Directory of the files of releases.
        feed: Directory of the published feed.
    """

    source: Path | None = None
    name: str | None = None
    key: Path | None = None
    token: str | None = None
    key_id: int | None = None
    module: Path | None = None
    root: Path | None = None
    emergency_halt_key: Path | None = None
    builder_key: Path | None = None
    staging: Path | None = None
    feed: Path | None = None

    def refuse_other_owner(self, owner: str) -> None:
        """Refuse a key of another owner.

        Raises:
            SIGNER_SETTINGS_INVALID: Naming both.
        """
        if self.name is not None and self.name != owner:
            raise UpdaterError(
                SIGNER_SETTINGS_INVALID,
                path=self.source,
                detail=LazyText(
                    "name is {name}, but the key belongs to {owner}",
                    {"name": self.name, "owner": owner},
                ),
            )


class _SignerModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: SettingText | None = None
    key: SettingText | None = None
    token: SettingText | None = None
    key_id: Annotated[int, Field(ge=1, le=255)] | None = None
    module: SettingText | None = None
    root: SettingText | None = None
    emergency_halt_key: SettingText | None = None
    builder_key: SettingText | None = None
    staging: SettingText | None = None
    feed: SettingText | None = None


def find_settings_path(named: Path | None, environment: Mapping[str, str]) -> Path | None:
    """Return the path of the settings; None if none is named and the default does not exist.

    Args:
        named: Path given on the command line.
        environment: Environment of the process.
    """
    if named is not None:
        return named
    if environment.get(SETTINGS_VARIABLE):
        return Path(environment[SETTINGS_VARIABLE])
    home = environment.get("HOME")
    usual = Path(home) / DEFAULT_SETTINGS_PATH if home else None
    return usual if usual is not None and os.path.lexists(usual) else None


def load_signer_settings(path: Path | None) -> SignerSettings:
    """Read the settings; return empty ones without a file.

    Raises:
        SIGNER_SETTINGS_INVALID: If the file cannot be read or is invalid, with all mistakes.
        SIGNER_SETTINGS_EXPOSED: If another user may read or write it, or write a file that it
            makes trusted: the root, the builder's key, the driver of a token.
        SIGNER_SETTINGS_HOLD_SECRET: If it contains a secret.
    """
    if path is None:
        return SignerSettings()
    with report_errors(SIGNER_SETTINGS_INVALID, OSError, ValueError, path=path):
        data = parse_toml(_read_settings(path).decode())
    for name in data:
        if any(word in name.lower() for word in SECRET_WORDS):
            raise UpdaterError(SIGNER_SETTINGS_HOLD_SECRET, path=path, name=name)
    try:
        model = _SignerModel.model_validate(data)
    except ValidationError as error:
        detail = describe_mistakes(error, path.name, _SignerModel.model_fields)
        raise UpdaterError(SIGNER_SETTINGS_INVALID, path=path, detail=detail) from error
    if model.key is not None and model.token is not None:
        raise UpdaterError(SIGNER_SETTINGS_INVALID, path=path, detail="set either key or token")
    if model.token is None and (model.key_id is not None or model.module is not None):
        raise UpdaterError(
            SIGNER_SETTINGS_INVALID, path=path, detail="key_id and module need token"
        )

    values = model.model_dump(exclude_none=True)
    for name in values.keys() - {"name", "token", "key_id"}:
        try:
            values[name] = path.parent / Path(values[name]).expanduser()
        except RuntimeError as error:  # ~user of an unknown user
            detail = f"{values[name]}: {error}"
            raise UpdaterError(SIGNER_SETTINGS_INVALID, path=path, detail=detail) from error
        if name in TRUSTED_FILES:
            _require_safe_owner(values[name])
    return SignerSettings(source=path, **values)


def _require_safe_owner(path: Path) -> None:
    """Refuse a trusted file that another user may write.

    A missing file is reported by the caller.

    Raises:
        SIGNER_SETTINGS_EXPOSED: If another user may write it.
    """
    try:
        info = path.stat()
    except OSError:
        return
    # The user's own private group, which many systems create, is allowed.
    group = info.st_mode & 0o020 and info.st_gid not in (0, os.getegid())
    if group or info.st_mode & 0o002 or info.st_uid not in (0, os.geteuid()):
        raise UpdaterError(
            SIGNER_SETTINGS_EXPOSED, path=path, mode=f"{stat.S_IMODE(info.st_mode):04o}"
        )


def _read_settings(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise ValueError("not a regular file")
        if info.st_mode & FORBIDDEN_MODE_BITS or info.st_uid not in (0, os.geteuid()):
            raise UpdaterError(
                SIGNER_SETTINGS_EXPOSED, path=path, mode=f"{stat.S_IMODE(info.st_mode):04o}"
            )
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"over {MAX_BYTES} bytes")
    return content
