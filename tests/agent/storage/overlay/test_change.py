"""Tests of an upgrade and rollback with a local overlay, on a running site."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from packaging.version import Version

from demo.site import DemoSite
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.path_selection import find_cached_path
from ncen_updater.agent.engine.plan import make_plan
from ncen_updater.agent.engine.site import Site, StepContext
from ncen_updater.agent.engine.steps.release import SwitchStep
from ncen_updater.agent.model.change import ChangeState
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.reports.diagnostics.verify import check_overlay
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.overlay.layer import LocalOverlay
from ncen_updater.agent.storage.overlay.three_way_merge import TextOrigin, TextOrigins
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.upgrade_path import UpgradePath
from tests.agent.cli.live import LiveSite
from tests.support.sites import running_site, site_in_process

OLD, NEW = Version("3.2.4"), Version("3.3.0")
SWAHILI = {
    "title": "nCEN", "menu": {"search": "Tafuta", "fax": "Faksi"},
    "seizure": {"new": "Ukamataji mpya", "saved": "Imehifadhiwa {ref}"},
}  # fmt: skip


@pytest.fixture
def demo() -> Iterator[DemoSite]:
    with running_site("3.2.4", "3.3.0", own_words=True) as site:
        (site.country / "i18n").mkdir()
        write(site, "i18n/sw.json", json.dumps(SWAHILI))
        write(site, "settings.ini", "[lists]\nrows = 25\n\n[mail]\nfax = yes\n")
        yield site


def write(site: DemoSite, path: str, content: str) -> None:
    """Write one of the country's files."""
    (site.country / path).write_text(content, "utf-8")


def seen(site: DemoSite, path: str) -> Any:
    """What users see."""
    with urllib.request.urlopen(f"{site.app_url}/{path}", timeout=10) as answer:
        return json.load(answer)


def refreshed(demo: DemoSite) -> Site:
    """The agent's site, with current metadata."""
    site = site_in_process(demo)
    site.release_source.refresh()
    return site


def layer_of(site: Site) -> LocalOverlay:
    """The layer of a site that has one."""
    assert site.overlay is not None
    return site.overlay


def applied(demo: DemoSite, site: Site) -> str:
    """Merge for what runs, as ``translations apply`` does, and start again."""
    layer = layer_of(site)
    name = layer.build_merged(None, OLD)
    layer.switch_current(name)
    demo.stop_app()
    demo.start_app()
    return name


def test_local_overlay_is_merged_rejected_and_restored(demo: DemoSite) -> None:
    site = refreshed(demo)
    applied(demo, site)
    assert seen(demo, "texts/sw")["seizure"]["saved"] == "Imehifadhiwa {ref}"
    assert seen(demo, "settings") == {
        "lists": {"rows": "25"}, "mail": {"sender": "ncen@localhost", "fax": "yes"},
    }  # fmt: skip

    Operations(site, SilentProgress()).upgrade(NEW)

    after = seen(demo, "texts/sw")
    assert after["menu"] == {"search": "Tafuta", "print": "Print"}  # preserved; one text is gone
    assert after["seizure"]["new"] == "Ukamataji mpya"
    assert after["seizure"]["saved"] == "Saved as {ref} by {officer}"  # {user} would be missing
    assert seen(demo, "texts/fr")["menu"]["search"] == "Rechercher personnes et affaires"
    assert seen(demo, "settings") == {"lists": {"rows": "25"}, "mail": {"sender": "ncen@localhost"}}
    assert check_overlay(site, NEW) == ()

    mended = json.loads(json.dumps(SWAHILI))
    mended["menu"]["print"] = "Chapa"
    write(demo, "i18n/sw.json", json.dumps(mended))
    Operations(site, SilentProgress()).rollback()

    back = seen(demo, "texts/sw")
    assert back["menu"] == {"search": "Tafuta", "print": "Chapa", "fax": "Faksi"}
    assert back["seizure"]["saved"] == "Imehifadhiwa {ref}"
    assert seen(demo, "settings")["mail"]["fax"] == "yes"
    assert json.loads((demo.country / "i18n/sw.json").read_text("utf-8")) == mended


def test_imported_translation_preserves_earlier_texts(demo: DemoSite) -> None:
    """Seen: what only the earlier release has was not brought back after an import."""
    site = refreshed(demo)
    applied(demo, site)
    Operations(site, SilentProgress()).upgrade(NEW)
    came: TextOrigins = {("menu", "print"): TextOrigin("", ("Print",))}
    layer_of(site).switch_current(
        layer_of(site).build_merged(None, NEW, {"app/i18n/sw.json": came})
    )
    Operations(site, SilentProgress()).rollback()
    assert seen(demo, "texts/sw")["menu"]["fax"] == "Faksi"


def test_reverted_change_restores_the_previous_layer() -> None:
    with running_site("3.2.4", "3.3.0", own_words=True, faults="never-healthy = true\n") as demo:
        site = refreshed(demo)
        before = applied(demo, site)
        with pytest.raises(UpdaterError):
            Operations(site, SilentProgress()).upgrade(NEW)
        assert layer_of(site).read_current() == before
        # Nothing was merged before: then nothing is in use again.
        layer_of(site).switch_current(None)
        with pytest.raises(UpdaterError):
            Operations(site, SilentProgress()).upgrade(NEW, retry=True)
        assert layer_of(site).read_current() is None
        with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
            assert [c.state for c in journal.list_changes()] == [ChangeState.REVERTED] * 2


def test_invalid_setting_blocks_before_the_downtime(
    demo: DemoSite,
) -> None:
    site = refreshed(demo)
    write(demo, "settings.ini", "[lists]\nrows = 5000\n")
    with pytest.raises(UpdaterError) as error:
        Operations(site, SilentProgress()).upgrade(NEW)
    assert "NU-6350" in str(error.value)
    assert not demo.maintenance_file.exists()
    assert demo.app_running()


def test_plan_lists_the_overlay_and_binds_only_settings(demo: DemoSite) -> None:
    site = refreshed(demo)

    def planned() -> tuple[str, list[dict[str, Any]]]:
        with Journal.open(site.state_directory / JOURNAL_FILE) as journal:
            path = find_cached_path(site, journal, NEW)
            assert isinstance(path, UpgradePath)
            plan = make_plan(site, OLD, path, SilentProgress())
        document: Any = plan.to_json()
        return plan.digest, document["hops"][0]["overlay"]

    digest, country = planned()
    texts = {item["language"]: item for item in country}
    assert texts["sw"]["counts"] == {
        "unchanged": 2, "outdated": 1, "removed": 1, "rejected": 1, "new": 3,
    }  # fmt: skip
    assert texts["sw"]["coverage"]["areas"] == ({"label": "seizures", "count": 2},)
    assert texts[None]["counts"] == {"default-changed": 1, "removed": 1}
    write(demo, "i18n/sw.json", "{}")
    assert planned()[0] == digest
    write(demo, "settings.ini", "[lists]\nrows = 30\n")
    assert planned()[0] != digest


def test_switch_is_repeatable_and_reversible_at_any_instant(demo: DemoSite) -> None:
    """Between the two links as well: undoing knows what was there, and both are looked at."""
    site = refreshed(demo)
    Operations(site, SilentProgress()).upgrade(NEW)
    layer = layer_of(site)
    chosen = layer.read_current()
    with Journal.open(site.state_directory / JOURNAL_FILE) as journal:
        change = journal.list_changes()[-1]
        context = StepContext(site, journal, change, SilentProgress())
        step = SwitchStep()
        assert step.is_done(context)
        layer.switch_current(None)
        assert not step.is_done(context)
        step.do(context)
        assert layer.read_current() == chosen
        site.slots.switch_current(OLD)
        assert not step.is_undone(context)
        step.undo(context)
        step.undo(context)
        assert step.is_undone(context)
        assert layer.read_current() is None
        step.do(context)
        assert step.is_done(context)


def test_unusable_texts_are_reported_at_import(demo: DemoSite) -> None:
    """Seen: "nCEN shows them", of which one lacked a placeholder and was not shown."""
    live = LiveSite(demo, demo.root.parent / "feed")
    came = demo.root / "pt.json"
    came.write_text('{"menu": {"fax": "Enviar"}, "seizure": {"saved": "Guardado"}}', "utf-8")
    done = live.run("translations", "import", str(came), "--language", "pt", "--yes")
    assert done.returncode == 0, done.stderr
    assert "Unusable local texts: 1" in done.stdout.splitlines()
    assert seen(demo, "texts/pt")["menu"]["fax"] == "Enviar"
    again = json.loads(live.run("translations", "apply", "--json").stdout)
    assert again["changed"] is False
    write(demo, "i18n/pt.json", '{"menu": {"fax": "Mandar"}}')
    changed = json.loads(live.run("translations", "apply", "--json").stdout)
    assert (changed["changed"], changed["version"]) == (True, "3.2.4")
    assert changed["merged"] == layer_of(refreshed(demo)).read_current()
    with Journal.open(
        site_in_process(demo).state_directory / JOURNAL_FILE, read_only=True
    ) as journal:
        told = [e.data for e in journal.list_events() if e.kind == "local-texts-merged"]
    assert [data.get("language") for data in told] == ["pt", None]


def test_doctor_lists_undeclared_and_unused_overlay_files(demo: DemoSite) -> None:
    site = refreshed(demo)
    write(demo, "i18n/sw.po", "")
    found = check_overlay(site, OLD)
    assert [f.code for f in found] == ["NU-6133", "NU-6134"]
    assert found[0].title.render().endswith(": none)"), "Seen: 'is: -'"
    applied(demo, site)
    (demo.country / "i18n/sw.po").unlink()
    assert check_overlay(site, OLD) == ()
