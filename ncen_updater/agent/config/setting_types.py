"""What all tables of ``agent.toml`` are, and those of database engines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, StringConstraints

# 63 bytes less "__next_" and the eight characters of a change id.
PhysicalName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,47}$")]


class BaseSettings(BaseModel):
    """Base of all tables: frozen, and strict about names it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineSettings(BaseSettings):
    """The table of one database engine.

    Attributes:
        path_settings: Its settings that are paths; relative ones are below the site's root.
        secret_file_settings: Those of them that nobody else may read.
    """

    path_settings: ClassVar[tuple[str, ...]] = ()
    secret_file_settings: ClassVar[tuple[str, ...]] = ()

    @property
    def local_directory(self) -> Path | None:
        """Where the databases lie on a disk of this machine, if the agent knows."""
        return None
