"""Tests of steps of script/debian: RECORD, SBOM, packing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "script"
EPOCH = 1_790_000_000
ENVIRONMENT = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
CONTROL = """\
Package: shop
Version: 1~deb13
Architecture: all
Maintainer: nobody <nobody@example.org>
Description: a shop
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """One library: a module, one that was stripped, and tests that were removed."""
    place = tmp_path / "venv/lib/python3.13/site-packages"
    (place / "shop-1.5.dist-info").mkdir(parents=True)
    (place / "shop.so").write_bytes(b"stripped")
    (place / "shop-1.5.dist-info/METADATA").write_text("Name: Shop\nVersion: 1.5\n", "utf-8")
    (place / "shop-1.5.dist-info/RECORD").write_text(
        'shop.so,sha256=AAAA,9000\n"tests/test_a,b.py",sha256=BBBB,3\n'
        "../../../bin/shop,sha256=CCCC,4\nshop-1.5.dist-info/RECORD,,\n",
        "utf-8",
    )
    return place


def test_record_lists_the_installed_files(packages: Path) -> None:
    subprocess.run([sys.executable, SCRIPTS / "record", packages.parents[2]], check=True)
    digest = urlsafe_b64encode(hashlib.sha256(b"stripped").digest()).decode().rstrip("=")
    assert (packages / "shop-1.5.dist-info/RECORD").read_text("utf-8").splitlines() == [
        f"shop.so,sha256={digest},8",
        "shop-1.5.dist-info/RECORD,,",
    ]


def test_sbom_names_every_library(packages: Path, tmp_path: Path) -> None:
    file = tmp_path / "sbom.json"
    words = [sys.executable, str(SCRIPTS / "sbom"), str(packages), "ncen-publisher", "0.1.0~deb13"]
    subprocess.run([*words, str(file)], check=True, env=ENVIRONMENT, capture_output=True)
    written = json.loads(file.read_text("utf-8"))
    assert [part["purl"] for part in written["components"]] == ["pkg:pypi/shop@1.5"]
    product = written["metadata"]["component"]
    assert (product["name"], product["version"]) == ("ncen-publisher", "0.1.0~deb13")


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")
def test_package_is_reproducible(tmp_path: Path) -> None:
    made = []
    for number in range(2):
        tree = tmp_path / f"tree-{number}"
        for name, text in {
            "DEBIAN/control": CONTROL,
            "usr/b": "b",
            "usr/a": "",
        }.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(text, "utf-8")
        (tree / "etc").mkdir()
        (tree / "etc/shop.conf").touch()
        (tree / "DEBIAN/postinst").write_text("#!/bin/sh\n", "utf-8")
        os.utime(tree / "usr/a", (EPOCH - 10, EPOCH - 10))
        os.utime(tree / "usr/b", (EPOCH + number, EPOCH + number))
        words = [SCRIPTS / "pack-debian", tree, tmp_path / f"made-{number}"]
        subprocess.run(words, check=True, env=ENVIRONMENT, capture_output=True)
        [file] = (tmp_path / f"made-{number}").iterdir()
        assert file.name == "shop_1~deb13_all.deb"
        made.append(file.read_bytes())
        sums = (tree / "DEBIAN/md5sums").read_text("utf-8").splitlines()
        assert [line.split()[1] for line in sums] == ["usr/a", "usr/b"]
        assert os.access(tree / "DEBIAN/postinst", os.X_OK)
    assert made[0] == made[1]


def test_incomplete_package_gets_no_package_name(tmp_path: Path) -> None:
    """A stand-in writes half a package and fails, as on a full disk; an older one stays."""
    tree, made = tmp_path / "tree", tmp_path / "made"
    for place in (tree / "DEBIAN", made, tmp_path / "bin"):
        place.mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(CONTROL, "utf-8")
    (made / "shop_1~deb13_all.deb").write_text("whole", "utf-8")
    builder = tmp_path / "bin/dpkg-deb"
    builder.write_text(
        f'#!/bin/sh\nfor file; do :; done\necho half > "$file"\nls {made}/*.deb > {tmp_path}/seen\n'
        f"cat {made}/*.deb >> {tmp_path}/seen\nexit 2\n"
    )
    builder.chmod(0o755)
    environment = {**ENVIRONMENT, "PATH": f"{builder.parent}:{os.environ['PATH']}"}
    words = [SCRIPTS / "pack-debian", tree, made]
    ended = subprocess.run(words, check=False, env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert (tmp_path / "seen").read_text("utf-8") == f"{made}/shop_1~deb13_all.deb\nwhole"
    assert [(file.name, file.read_text("utf-8")) for file in made.iterdir()] == [
        ("shop_1~deb13_all.deb", "whole")
    ]
