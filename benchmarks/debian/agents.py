"""Real releases of the agent, made from one release, each broken in a different way."""

from __future__ import annotations

import base64
import hashlib
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FULL = """
    with open("/opt/ncen-updater/filler", "ab", buffering=0) as filler:
        try:
            while True:
                filler.write(b"x" * 65536)
        except OSError:
            pass
"""


@dataclass(frozen=True)
class Break:
    """A way in which an agent is broken.

    Attributes:
        module: The changed module.
        before: Its text at the place of the change; occurs once.
        insert: The text inserted before it.
    """

    module: str
    before: str
    insert: str


_SERVE, _AT_START = "agent/cli/serve.py", "    with _excuse_start(os.environ):\n"
_LOOP, _IN_LOOP = "agent/service/serve.py", "    while not waker.is_stopping:\n"

#: By name; any other kind of agent is good.
BREAKS: Mapping[str, tuple[Break, ...]] = {
    "exits at once": (Break(_SERVE, _AT_START, "    raise SystemExit(3)\n"),),
    "hangs before it is ready": (Break(_SERVE, _AT_START, "    __import__('time').sleep(1e6)\n"),),
    "gives no more signs of life": (Break(_LOOP, _IN_LOOP, "    time.sleep(1e6)\n"),),
    "crashes before it may confirm": (
        Break(
            _SERVE,
            _AT_START,
            "    import threading\n    threading.Timer(2, os.kill, (os.getpid(), 11)).start()\n",
        ),
    ),
    "cannot read the journal": (
        Break(
            "agent/self_update/agent_update.py",
            "        journal.list_changes()\n",
            '        raise UpdaterError(detail="it says nothing to me")\n',
        ),
    ),
    "fills the disk and ends": (Break(_SERVE, _AT_START, f"{FULL}    raise SystemExit(3)\n"),),
    "fills the disk and runs on": (Break(_SERVE, _AT_START, FULL),),
    "confirms, and fails ever after": (
        Break(
            _SERVE,
            _AT_START,
            "    if '\"confirmed\"' in open('/opt/ncen-updater/sequence.json').read():\n"
            "        raise SystemExit(3)\n",
        ),
        Break(
            "agent/self_update/agent_directory.py",
            "            update_failsafe(directory, SYSTEM_PYTHON)",
            "            raise SystemExit(3)\n",
        ),
    ),
    "can do nothing but say its version": (
        Break(_SERVE, _AT_START, "    __import__('time').sleep(1e6)\n"),
        Break(
            "agent/cli/resume.py",
            "    if boot and not dry_run and _has_no_open_change(session):",
            "    raise SystemExit(1)\n",
        ),
    ),
}


def make_release(sound: Path, place: Path, version: str, kind: str) -> Path:
    """Create a release directory of another version, broken in a way.

    Args:
        sound: The release that ``script/agent-release`` made from this checkout.
        place: The directory to create.
        version: The new version.
        kind: A name of :data:`BREAKS`; any other name for a good agent.
    """
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(sound, place, copy_function=_link)
    [wheel] = (place / "wheels").glob("ncen_updater-*.whl")
    old = wheel.name.split("-")[1]
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    made = wheel.with_name(wheel.name.replace(f"-{old}-", f"-{version}-"))
    content = _wheel(wheel, old, version, BREAKS.get(kind, ()))
    wheel.unlink()
    made.write_bytes(content)
    for name, pairs in (
        ("manifest.toml", ((f'version = "{old}"', f'version = "{version}"'),)),
        ("requirements.txt", ((f"=={old} ", f"=={version} "), (digest, _sha256(content)))),
    ):
        text = (place / name).read_text("utf-8")
        for before, after in pairs:
            text = text.replace(before, after)
        (place / name).unlink()
        (place / name).write_text(text, "utf-8")
    return place


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _wheel(source: Path, old: str, version: str, breaks: tuple[Break, ...]) -> bytes:
    """Return a wheel with changed code, another version and matching digests."""
    files: dict[str, bytes] = {}
    with zipfile.ZipFile(source) as archive:
        for name in archive.namelist():
            if not name.endswith("/RECORD"):
                files[name.replace(f"-{old}.", f"-{version}.")] = archive.read(name)
    info = f"ncen_updater-{version}.dist-info"
    metadata = f"{info}/METADATA"
    files[metadata] = files[metadata].replace(
        f"\nVersion: {old}\n".encode(), f"\nVersion: {version}\n".encode(), 1
    )
    for change in breaks:
        name = f"ncen_updater/{change.module}"
        text = files[name].decode()
        if text.count(change.before) != 1:
            raise ValueError(f"{name} has changed: look at {change}")
        files[name] = text.replace(change.before, change.insert + change.before).encode()
    rows = [
        f"{name},sha256={_encoded(content)},{len(content)}\n" for name, content in files.items()
    ]
    files[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"]).encode()
    place = source.with_suffix(".made")
    with zipfile.ZipFile(place, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    content = place.read_bytes()
    place.unlink()
    return content


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
