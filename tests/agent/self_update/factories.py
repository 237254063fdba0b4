"""Agents in miniature, as wheels: they say who they are, and serve as they are told to."""

from __future__ import annotations

import hashlib
import io
import zipfile
from base64 import urlsafe_b64encode

IMPORTS = "import ncen_updater.agent.cli.main\n"


def agent_wheel(version: str, *, agent: str | None = None, imports: str = IMPORTS) -> bytes:
    """Return the bytes of a wheel of the agent."""
    files = {
        "ncen_updater/__init__.py": "",
        "ncen_updater/agent/__init__.py": "",
        "ncen_updater/agent/cli/__init__.py": "",
        "ncen_updater/agent/cli/main.py": agent or f'print("ncen-updater {version}")\n',
        "ncen_updater/agent/self_update/__init__.py": "",
        "ncen_updater/agent/self_update/import_check.py": imports,
    }
    return wheel("ncen_updater", version, files)


def wheel(name: str, version: str, files: dict[str, str]) -> bytes:
    """Return the bytes of a wheel."""
    info = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for path, text in files.items():
        digest = urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text.encode())}\n")
    record = f"{info}/RECORD"
    files[record] = "".join(rows) + f"{record},,\n"
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), text)
    return raw.getvalue()


def agent_release(version: str, content: bytes | None = None) -> dict[str, bytes]:
    """Return the files of a release of the agent, by their paths."""
    content = content or agent_wheel(version)
    digest = hashlib.sha256(content).hexdigest()
    return {
        f"wheels/ncen_updater-{version}-py3-none-any.whl": content,
        "requirements.txt": f"ncen-updater=={version} --hash=sha256:{digest}\n".encode(),
    }
