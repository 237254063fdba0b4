"""tufup 0.10, unmodified: its publisher, its patch, its client.

Tasks that run in processes of their own: ``make`` (both archives, the patch, the signed metadata)
and ``update`` (from the old directory to the new one over HTTP).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.transfer.measure import cost_of_this_process, hide_publisher

ROLES = ("root", "targets", "snapshot", "timestamp")
DAYS = 3650  # a repository that is reused between runs must not expire


def make(order: dict[str, Any]) -> dict[str, object]:
    """Publish both releases with a patch, as ``tufup targets add`` does.

    Args:
        order: ``name``, ``old`` and ``new`` (version and directory), ``place`` (empty directory).
    """
    from tufup.common import Patcher
    from tufup.repo import Repository

    place = Path(order["place"])
    os.chdir(place)  # tufup writes its configuration there
    repository = Repository(
        app_name=order["name"],
        repo_dir=place / "repository",
        keys_dir=place / "keys",
        expiration_days=dict.fromkeys(ROLES, DAYS),
    )
    repository.initialize()
    keys = [place / "keys"]
    before: dict[str, float] = {}
    patch: dict[str, float] = {}
    original = Patcher.diff_and_hash

    def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - passed on
        before["cpu_s"] = cost_of_this_process().cpu_s
        result = original(*args, **kwargs)
        patch["cpu_s"] = cost_of_this_process().cpu_s - before["cpu_s"]
        return result

    # Reads only the clock; the behaviour of tufup does not change.
    Patcher.diff_and_hash = timed
    for side in ("old", "new"):
        version, directory = order[side]
        repository.add_bundle(new_bundle_dir=directory, new_version=version)
        repository.publish_changes(private_key_dirs=keys)
    file = place / "repository" / "targets" / f"{order['name']}-{order['new'][0]}.patch"
    whole = cost_of_this_process()
    return {
        "patch_bytes": file.stat().st_size,
        "archive_bytes": file.with_suffix(".tar.gz").stat().st_size,
        "cpu_s": round(patch["cpu_s"], 2),
        "peak_mb": round(whole.peak_mb, 1),
        "whole_cpu_s": round(whole.cpu_s, 2),
    }


def _install(src_dir: Path, dst_dir: Path, **_: object) -> None:
    """Install as tufup does on macOS; it has no installer for Linux."""
    shutil.copytree(src_dir, dst_dir, symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(src_dir)


def update(order: dict[str, Any]) -> dict[str, object]:
    """Update an installed directory by the patch.

    Args:
        order: ``name``, ``version`` (the installed one), ``url``, ``place`` with ``metadata``,
            ``targets`` (the archive of the installed release), and ``install``.
    """
    hide_publisher()
    from tufup.client import Client

    place = Path(order["place"])
    client = Client(
        app_name=order["name"],
        app_install_dir=place / "install",
        current_version=order["version"],
        metadata_dir=place / "metadata",
        metadata_base_url=f"{order['url']}metadata/",
        target_dir=place / "targets",
        target_base_url=f"{order['url']}targets/",
        extract_dir=place / "extract",
        refresh_required=True,
    )
    found = client.check_for_updates()
    if found is None or not all(meta.is_patch for meta in client.new_targets):
        raise RuntimeError("tufup did not choose its patch")
    client.download_and_apply_update(skip_confirmation=True, install=_install)
    return {**cost_of_this_process().as_dict(), "version": str(found.version)}


if __name__ == "__main__":
    task, given = {"make": make, "update": update}[sys.argv[1]], json.loads(sys.argv[2])
    sys.stdout.write(json.dumps(task(given)) + "\n")
