"""Tests that configuration mistakes are reported in French, with their lines."""

from __future__ import annotations

from pathlib import Path

from tests.agent.cli.site import make_site


def test_every_mistake_is_in_the_language_of_the_run(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site")
    site.config.write_text(site.config.read_text().replace('country = "KE"', 'country = "Kenya"'))
    for command in ("check", "doctor"):
        done = site.run(command, "--lang", "fr")
        said = done.stdout + done.stderr
        assert "ligne 4 : site.country est incorrect." in said, command
        assert "line" not in said and "ISO" in said


def test_syntax_error_is_located(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site")
    site.config.write_text("schema = 1\n[paths\n")
    assert "(ligne 2, colonne 7)" in site.run("check", "--lang", "fr").stderr
    assert "at line 2, column 7" in site.run("check").stderr
