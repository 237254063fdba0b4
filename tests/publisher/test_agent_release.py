"""Tests of the release directory of the agent: its contents, and refusals."""

from __future__ import annotations

import hashlib
import runpy
from pathlib import Path

import pytest

from ncen_updater.publisher.build.release_build import build_release
from tests.agent.self_update.factories import agent_wheel, wheel

SCRIPT = runpy.run_path(str(Path(__file__).resolve().parents[2] / "script/agent_release.py"))
make_agent_release, parse_lock = SCRIPT["make_agent_release"], SCRIPT["parse_lock"]
HELPER = wheel("some_helper", "1.4", {"some_helper.py": "x = 1\n"})
DIGEST = hashlib.sha256(HELPER).hexdigest()
LOCK = f"""\
# made by a program
some-helper==1.4 \\
    --hash=sha256:{DIGEST} \\
    --hash=sha256:{"0" * 64}
    # via nobody
for-windows==2 ; sys_platform == 'win32' \\
    --hash=sha256:{"1" * 64}
"""


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    place = tmp_path / "wheels"
    place.mkdir()
    (place / "ncen_updater-0.9.0-py3-none-any.whl").write_bytes(agent_wheel("0.9.0"))
    (place / "some_helper-1.4-py3-none-any.whl").write_bytes(HELPER)
    (tmp_path / "lock.txt").write_text(LOCK)
    return place


def test_lock_is_parsed_with_its_markers() -> None:
    locked = parse_lock(LOCK)
    assert locked["some-helper"].is_needed
    assert locked["some-helper"].digests == {DIGEST, "0" * 64}
    assert not locked["for-windows"].is_needed


def test_agent_release_is_buildable(wheels: Path, tmp_path: Path) -> None:
    place = tmp_path / "release"
    make_agent_release(wheels, tmp_path / "lock.txt", place)
    names = {str(p.relative_to(place)) for p in place.rglob("*") if p.is_file()}
    assert names == {
        "manifest.toml", "requirements.txt",
        "wheels/ncen_updater-0.9.0-py3-none-any.whl", "wheels/some_helper-1.4-py3-none-any.whl",
    }  # fmt: skip
    built = build_release(place, tmp_path / "staging")
    assert built.document.manifest.product == "ncen-updater"
    assert built.document.manifest.accepts_version(built.document.manifest.release_version)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("some_helper-1.4-py3-none-any.whl", b"another", "not in the lock file"),
        ("some_helper-1.5-py3-none-any.whl", HELPER, "not in the lock file"),
        ("stranger-1.0-py3-none-any.whl", HELPER, "not in the lock file"),
        ("ncen_updater-0.9.1-py3-none-any.whl", HELPER, "2 wheels of ncen-updater"),
        ("nonsense.whl", HELPER, "not the name of a wheel"),
        ("some_helper-1.4-py3-none-any.whl", None, "no wheel of some-helper"),
        ("ncen_updater-0.9.0-py3-none-any.whl", None, "0 wheels of ncen-updater"),
    ],
)
def test_unlocked_package_is_refused(
    wheels: Path, tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    if content is None:
        (wheels / name).unlink()
    else:
        (wheels / name).write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        make_agent_release(wheels, tmp_path / "lock.txt", tmp_path / "release")
    assert not (tmp_path / "release").exists()


@pytest.mark.parametrize(
    "text", ["some-helper>=1 --hash=sha256:00\n", "some-helper==1\n", "-r x\n"]
)
def test_unpinned_lock_is_refused(wheels: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "lock.txt").write_text(text)
    with pytest.raises(ValueError, match="not "):
        make_agent_release(wheels, tmp_path / "lock.txt", tmp_path / "release")
