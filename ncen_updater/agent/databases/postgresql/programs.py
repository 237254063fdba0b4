"""``pg_dump`` and ``pg_restore`` of the server's own version.

An older ``pg_dump`` refuses the server, and a newer ``pg_restore`` writes settings that an older
server does not know. Machines may have several versions side by side, and what is first on the path
is the newest one.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from ncen_updater.agent.databases.errors import DatabaseError
from ncen_updater.agent.databases.postgresql.catalogue import server_major
from ncen_updater.agent.databases.postgresql.connection import Server
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import PROGRAMS_DIFFER

DUMP_AND_RESTORE = ("pg_dump", "pg_restore")
# Where Debian's and the project's own packages have each version.
PLACES = ("/usr/lib/postgresql/{major}/bin", "/usr/pgsql-{major}/bin")
VERSION_S = 30


def find_program(name: str, major: int, bin_directory: Path | None) -> Path:
    """Return where a program is: as set, else that of the version, else what the path has.

    Args:
        name: Of the program.
        major: Version of the server.
        bin_directory: The setting.
    """
    if bin_directory is not None:
        return bin_directory / name
    places = (Path(place.format(major=major)) / name for place in PLACES)
    return next((place for place in places if place.is_file()), Path(name))


def program_version(program: Path) -> int | None:
    """Return the major version of a program, None where it cannot be run."""
    try:
        said = subprocess.run(
            [str(program), "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=VERSION_S,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(rb"\(PostgreSQL\) (\d+)", said)
    return int(match[1]) if match else None


def version_words(version: int | None) -> Text:
    """Say of which version a program is, as the end of a sentence."""
    if version is None:
        return Text(N_("it is not there, or does not run"))
    return Text(N_("it is of PostgreSQL {version}"), {"version": version})


def program_for(server: Server, name: str) -> str:
    """Return the path of a program that fits the server.

    Raises:
        ProgramsDiffer: If there is none of the server's version.
    """
    with server.facts() as connection:
        major = server_major(connection)
    program = find_program(name, major, server.settings.bin_directory)
    found = program_version(program)
    if found != major:
        raise DatabaseError(
            PROGRAMS_DIFFER, program=program, found=found, major=major, which=version_words(found)
        )
    return str(program)
