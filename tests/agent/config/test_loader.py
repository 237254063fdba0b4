from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ncen_updater.agent.config import agent_config as model
from ncen_updater.agent.config import essential_settings
from ncen_updater.agent.config.agent_config import (
    AgentConfig,
    PathSettings,
    SiteSettings,
    SoakSettings,
)
from ncen_updater.agent.config.engines import PostgresSettings
from ncen_updater.agent.config.errors import InvalidConfigError
from ncen_updater.agent.config.essential_settings import (
    DEFAULT_PATHS,
    DEFAULT_PRODUCT,
    SITE_PATTERNS,
    load_essential_settings,
)
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.config.raw_config import RawConfig, read_raw_config
from ncen_updater.agent.reports.status import DEFAULT_SOAK_S
from ncen_updater.common.messages import (
    CONFIG_DUPLICATE_KEY,
    CONFIG_EXPOSED,
    CONFIG_MISSING,
    CONFIG_NOT_TEXT,
    CONFIG_NOT_TOML,
    CONFIG_TOO_LARGE,
    CONFIG_UNREADABLE,
)
from tests.support.errors import refused

EXAMPLE = Path(__file__).parents[3] / "packaging" / "agent.toml.example"

GOOD = """\
schema = 1
[site]
id = "ke"
country = "KE"
[paths]
root = "{root}"
[feed]
urls = ["https://example.org/"]
[databases]
engine = "postgresql"
[databases.names]
cases = "ncen_cases"
[databases.postgresql]
port = 5433
[application]
unit = "ncen.service"
health_url = "http://127.0.0.1:8080"
maintenance_file = "door"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(text.replace("{root}", str(tmp_path)))
    return path


def test_valid_file_is_loaded_with_absolute_paths(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, f'{GOOD}[metrics]\nfile = "metrics.prom"\n'))
    assert config.site.id == "ke"
    assert config.metrics.file == tmp_path / "metrics.prom"
    assert config.application.maintenance_file == tmp_path / "door"
    assert config.paths.state == tmp_path / "var/lib/ncen-updater"
    assert config.paths.resolve(config.paths.slots) == tmp_path / "opt/ncen/slots"
    assert isinstance(config.databases.engine_settings, PostgresSettings)
    assert config.databases.engine_settings.port == 5433


@pytest.mark.parametrize("commented", [False, True], ids=["as shipped", "every setting shown"])
def test_example_is_accepted(tmp_path: Path, commented: bool) -> None:
    (tmp_path / "run/ncen").mkdir(parents=True)
    (tmp_path / "etc/ncen-updater").mkdir(parents=True)
    for name in ("pgpass", "feed-ca.pem", "feed-client.pem"):
        (tmp_path / "etc/ncen-updater" / name).touch(0o600)
    text = EXAMPLE.read_text()
    if commented:
        text = "\n".join(
            line.removeprefix("# ") if "=" in line or line.startswith("# [") else line
            for line in text.split("\n")
        )
        text = text.replace('root = "/"', f'root = "{tmp_path}"')
    else:
        text += f'\n[paths]\nroot = "{tmp_path}"\n'
    config = load_config(write(tmp_path, text))
    assert config.application.unit == "ncen.service"
    if commented:
        assert config.paths == PathSettings(
            root=tmp_path,
            **{
                name: tmp_path / (field.default or "var/lib/ncen-updater/received")
                for name, field in PathSettings.model_fields.items()
                if name != "root"
            },
        )
        assert config.databases.model_dump()["sqlite"] is not None


def test_path_without_a_default_may_be_omitted(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert config.paths.feed_state is None
    assert config.paths.feed_state_directory == tmp_path / "var/lib/ncen-updater"


ROW = tuple[str, str, int | None, str, str]
# (what is changed, into what, line, setting, words)
MISTAKES: dict[str, ROW] = {
    "missing": ('country = "KE"\n', "", 2, "site.country", "missing"),
    "missing table": ('urls = ["https://example.org/"]\n', "", 7, "feed.urls", "missing"),
    "near miss": ('country = "KE"', 'contry = "KE"', 4, "site.contry", "Did you mean country?"),
    "near miss of a table": ("[feed]", "[fed]", 7, "fed", "Did you mean feed?"),
    "wrong table": ("port = 5433", "max_failures = 2", 14,
                    "databases.postgresql.max_failures", "[soak]"),
    "unknown": ("port = 5433", "zzz = 2", 14, "databases.postgresql.zzz", "Known settings: host"),
    "country form": ('"KE"', '"Kenya"', 4, "site.country", "code in capitals"),
    "text expected": ('id = "ke"', "id = 3", 3, "site.id", "in quotes"),
    "port too large": ("5433", "70000", 14, "databases.postgresql.port", "at most 65535"),
    "port text": ("5433", '"x"', 14, "databases.postgresql.port", "without quotes"),
    "port fraction": ("5433", "1.5", 14, "databases.postgresql.port", "without a fraction"),
    "list expected": ('["https://example.org/"]', '"x"', 8, "feed.urls", "list"),
    "list empty": ('["https://example.org/"]', "[]", 8, "feed.urls", "at least one"),
    "offline form": ("[feed]", '[feed]\noffline = "yes"', 8, "feed.offline", "true or false"),
    "grace over the cap": ("[feed]", "[feed]\noffline_grace_days = 181", 8,
                           "feed.offline_grace_days", "at most 180"),
    "url": ("https://example.org/", "ftp://example.org/", 8, "feed.urls[0]", "http"),
    "port of a URL": ('"door"', '"door"\npublic_url = "http://h:99999/"', 19,
                      "application.public_url", "host or port"),
    "bracket of a URL": ('"door"', '"door"\npublic_url = "http://[::1"', 19,
                         "application.public_url", "host or port"),
    "URL of a webhook": (
        '"door"', '"door"\n[notify.webhook]\nsecret_file = "x"\nurl = "https:///x"', 21,
        "notify.webhook.url", "host or port",
    ),
    "choice": ('"postgresql"\n', '"oracle"\n', 10, "databases.engine", "'postgresql', 'sqlite'"),
    "engine without table": ('"postgresql"\n', '"sqlite"\n', 9, "databases", "[databases.sqlite]"),
    "adapter": ('unit = "ncen.service"\n', "", 15, "application", "requires 'unit'"),
    "table expected": ("[feed]\nurls", "feed = 3\n#", 7, "paths.feed", "not a known setting"),
    "name in the server": ('"ncen_cases"', '"a b"', 12, "databases.names.cases", "underscores"),
    "name": ("cases =", "Cases =", 12, "databases.names.Cases", "underscores"),
    "relative root": ('root = "{root}"', 'root = "here"', 6, "paths.root", "absolute"),
    "empty root": ('root = "{root}"', 'root = ""', 6, "paths.root", "absolute"),
    "no such file": ('"door"', '"no/such/door"', 18, "application.maintenance_file", "not found"),
    "schema": ("schema = 1", "schema = 2", 1, "schema", "one of: 1"),
    "no password file": ("port = 5433", 'password_file = "p"', 14,
                         "databases.postgresql.password_file", "not found"),
    "no certificates": ("[feed]", '[feed]\nca_file = "p"', 8, "feed.ca_file", "not found"),
    "infinite": ("[feed]", "[feed]\ntimeout_s = inf", 8, "feed.timeout_s", "at most"),
    "not a number": ("[feed]", "[feed]\ntimeout_s = nan", 8, "feed.timeout_s", ""),
    "the old name of /run": (
        '"door"', '"var/run/x/door"', 18, "application.maintenance_file", "Write /run",
    ),
    "zero in a path": ('"door"', '"a\\u0000b"', 18, "application.maintenance_file", "NUL"),
}  # fmt: skip


@pytest.mark.parametrize("urls", ["", "urls = []\n", 'urls = ["https://example.org/"]\n'])
def test_offline_site_needs_no_feed_address(tmp_path: Path, urls: str) -> None:
    text = GOOD.replace('urls = ["https://example.org/"]\n', f"offline = true\n{urls}")
    feed = load_config(write(tmp_path, text)).feed
    assert feed.offline
    assert feed.offline_grace_days == 90


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_named_with_line_and_remedy(tmp_path: Path, name: str) -> None:
    old, new, line, setting, words = MISTAKES[name]
    assert old in GOOD
    with pytest.raises(InvalidConfigError) as caught:
        load_config(write(tmp_path, GOOD.replace(old, new)))
    found = {m.setting: m for m in caught.value.invalid_settings}
    assert setting in found
    mistake = found[setting]
    assert mistake.line == line
    assert words in str(mistake)
    assert str(mistake.remedy)
    json.dumps(caught.value.values["mistakes"])


def test_all_mistakes_are_reported_in_file_order(tmp_path: Path) -> None:
    text = GOOD.replace('"KE"', '"Kenya"').replace('"door"', '"no/door"').replace("5433", "0")
    with pytest.raises(InvalidConfigError) as caught:
        load_config(write(tmp_path, text))
    assert [m.line for m in caught.value.invalid_settings] == [4, 14, 18]
    assert caught.value.detail is not None
    assert caught.value.detail.startswith("line 4: site.country ")


@pytest.mark.parametrize("contact", ["", "two\nlines", "a" * 201])
def test_contact_is_one_line(contact: str) -> None:
    SiteSettings(id="ke", country="KE", contact=contact.replace("\n", " ")[:200] or "é")
    with pytest.raises(ValueError, match="contact"):
        SiteSettings(id="ke", country="KE", contact=contact)


def test_no_pattern_repeats_a_unicode_class() -> None:
    """It is compiled as often as it may stand there: 15 MB in each process, for one setting."""
    counted = re.compile(r"\\[pP]\{\w+\}\{\d")
    assert counted.search(r"^\P{C}{1,200}$")
    source = Path(model.__file__).parent
    assert [path.name for path in source.glob("*.py") if counted.search(path.read_text())] == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_world_readable_password_file_is_a_mistake(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path, GOOD.replace("port = 5433", 'password_file = "pgpass"'))
    secret = tmp_path / "pgpass"
    secret.touch(0o600)
    config = load_config(path)
    assert isinstance(config.databases.engine_settings, PostgresSettings)
    assert config.databases.engine_settings.password_file == secret
    secret.chmod(mode)
    with pytest.raises(InvalidConfigError, match="pgpass"):
        load_config(path)


#: What is no TOML in a way that has words of its own.
OWN_WORDS = {b"a = 1\na = 2\n": CONFIG_DUPLICATE_KEY, b"a = 1\nb = '\xff'\n": CONFIG_NOT_TEXT}


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"a = \n", "line 1, column 5"),
        (b"a = 1\nb = [1,\n", "line 3, column 1"),
        (b"a = 1\na = 2\n", "line 2, column 6"),
        (b"a = 1\nb = '\xff'\n", "line 2, column 6"),
        (b"a = " + b"[" * 100_000, "a value"),
        (b"\0", "line 1, column 1"),
    ],
    ids=["no value", "no end", "twice", "not UTF-8", "deep", "zero"],
)
def test_invalid_toml_is_rejected_with_its_position(
    tmp_path: Path, content: bytes, place: str
) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(content)
    for load in (load_config, load_essential_settings):
        with refused(OWN_WORDS.get(content, CONFIG_NOT_TOML)) as caught:
            load(path)
        assert str(caught.value.values["place"]) == place


def test_unsuitable_files_are_rejected(tmp_path: Path) -> None:
    big, pipe = tmp_path / "big", tmp_path / "pipe"
    big.write_bytes(b"#" * 1_000_001)
    os.mkfifo(pipe)
    for load in (load_config, load_essential_settings):
        for path, message in (
            (tmp_path / "none", CONFIG_MISSING), (tmp_path, CONFIG_UNREADABLE),
            (pipe, CONFIG_UNREADABLE),
        ):  # fmt: skip
            with refused(message):
                load(path)
        with refused(CONFIG_TOO_LARGE):
            load(big)


def test_root_rejects_a_world_writable_file(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    path.chmod(0o646)
    with refused(CONFIG_EXPOSED):
        load_config(path, euid=0)
    load_config(path, euid=1000)
    path.chmod(0o664)
    load_config(path, euid=0)


def test_root_rejects_a_file_of_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, GOOD)
    if os.geteuid() == 0:
        os.chown(path, 65534, -1)
    load_config(path, euid=1000)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for load in (load_config, load_essential_settings):
        with refused(CONFIG_EXPOSED):
            load(path)
    assert read_raw_config(path, any_owner=True).data["schema"] == 1


def test_empty_file_names_all_missing_settings(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        load_config(write(tmp_path, ""))
    missing = {name for name, field in AgentConfig.model_fields.items() if field.is_required()}
    assert {m.setting for m in caught.value.invalid_settings} == missing - {"schema_"} | {"schema"}


def test_windows_line_endings_and_byte_order_mark_are_accepted(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert load_config(path).site.id == "ke"


def test_essential_settings_agree_with_the_whole_configuration(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    config, places = load_config(path), load_essential_settings(path)
    assert (places.state, places.slots, places.current) == (
        config.paths.state,
        config.paths.slots,
        config.paths.current,
    )
    assert (places.site_id, places.country, places.product) == ("ke", "KE", "ncen")


def test_essential_settings_have_the_defaults_and_patterns_of_the_model() -> None:
    for name, default in DEFAULT_PATHS.items():
        assert str(PathSettings.model_fields[name].default) == default
    assert SiteSettings.model_fields["product"].default == DEFAULT_PRODUCT
    assert SoakSettings.model_fields["seconds"].default == DEFAULT_SOAK_S
    schema = SiteSettings.model_json_schema()["properties"]
    for name, pattern in SITE_PATTERNS.items():
        assert schema[name]["pattern"] == f"^{pattern}$"


@pytest.mark.parametrize(
    "name",
    ["missing", "country form", "text expected", "relative root", "empty root"],
)
def test_essential_settings_are_validated(tmp_path: Path, name: str) -> None:
    old, new, line, setting, _ = MISTAKES[name]
    with pytest.raises(InvalidConfigError) as caught:
        load_essential_settings(write(tmp_path, GOOD.replace(old, new)))
    assert [(m.line, m.setting) for m in caught.value.invalid_settings] == [(line, setting)]


def test_essential_settings_report_the_file_that_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: an AssertionError, when the file was corrected between two readings."""
    path = write(tmp_path, GOOD.replace('country = "KE"', 'country = "kenya"'))

    def read_once(path: Path) -> RawConfig:
        raw = read_raw_config(path)
        write(tmp_path, GOOD)
        return raw

    monkeypatch.setattr(essential_settings, "read_raw_config", read_once)
    with pytest.raises(InvalidConfigError, match=r"site\.country"):
        load_essential_settings(path)


def test_essential_settings_reject_tables_of_other_types(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError, match="site is invalid"):
        load_essential_settings(write(tmp_path, "site = 3\npaths = 4\n"))


def test_essential_settings_do_not_import_pydantic(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from ncen_updater.agent.config import essential_settings; "
        "found = essential_settings.load_essential_settings(pathlib.Path(sys.argv[1])); "
        "print(found.site_id, 'pydantic' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", program, str(write(tmp_path, GOOD))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert out == "ke False\n"


def test_import_of_the_models_builds_no_validator() -> None:
    """Each would cost a command that validates none, or the whole document only."""
    program = (
        "import ncen_updater.agent.config.agent_config, ncen_updater.formats.delta.pack_plan\n"
        "import ncen_updater.formats.release_document, pydantic\n"
        "kinds = [pydantic.BaseModel]\n"
        "for kind in kinds: kinds += kind.__subclasses__()\n"
        "ours = [kind for kind in kinds if kind.__module__.startswith('ncen_updater')]\n"
        "print(len(ours) > 30, [kind.__name__ for kind in ours if kind.__pydantic_complete__])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "True []\n"


@pytest.mark.parametrize(
    ("table", "setting"),
    [
        ('[[files]]\nname = "photographs"\n', "files[0].directory"),
        ('[[files]]\nname = "photo graphs"\ndirectory = "srv/photos"\n', "files[0].name"),
        ('[[files]]\nname = "a"\ndirectory = ""\n', "files[0].directory"),
        ('[[files]]\nname = "a"\ndirectory = "srv/../etc"\n', "files[0].directory"),
        (
            '[[files]]\nname = "a"\ndirectory = "srv/a"\nsnapshot_method = "dump"\n',
            "files[0].snapshot_method",
        ),
        ('[files]\nname = "a"\n', "files"),
    ],
)
def test_mistake_in_site_files_is_located(tmp_path: Path, table: str, setting: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        load_config(write(tmp_path, f"{GOOD}\n{table}"))
    assert [mistake.setting for mistake in caught.value.invalid_settings] == [setting]


def test_directories_of_site_files_are_below_the_root(tmp_path: Path) -> None:
    table = '[[files]]\nname = "photographs"\ndirectory = "srv/photos"\n'
    config = load_config(write(tmp_path, f"{GOOD}\n{table}"))
    assert config.files[0].directory == tmp_path / "srv/photos"
