"""The packaged units, checked by systemd's own programs; no service manager is needed."""

from __future__ import annotations

import fcntl
import grp
import os
import re
import shutil
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.feed_reader.worker_source import NETWORK_REQUESTS, REQUEST_LIMITS
from ncen_updater.agent.config.agent_config import PathSettings
from ncen_updater.agent.config.essential_settings import DEFAULT_PATHS
from ncen_updater.agent.config.service import ServiceSettings
from ncen_updater.agent.config.validation_cache import VALID
from ncen_updater.agent.self_update.slots import IMPORT_CHECK_MODULE, LAUNCHER
from ncen_updater.agent.service.apply_runner import APPLY_WORKER_LIMITS as ORDER_LIMITS
from ncen_updater.agent.service.serve import RUNNER_VARIABLE
from ncen_updater.common.i18n import SITE_LOCALE_DIR
from ncen_updater.common.workers import BEAT_S
from tests.support.reference import REFERENCE

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"
UNITS = sorted([*PACKAGING.glob("*/*.service"), *PACKAGING.glob("*/*.socket")])
#: Ours; the examples are an application's.
SERVICES = [p for p in UNITS if p.suffix == ".service" and p.parent.name != "examples"]
#: Ten times the exposure that systemd-analyze reckons; 100 is the worst.
WORST = 25


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def find_systemd_analyze() -> str:
    """Return the program for calls that read units; it makes its directory, as root only."""
    if not Path("/run/systemd").is_dir() and not os.access("/run", os.W_OK):
        pytest.skip("no systemd here, and only root can create /run/systemd")
    return program("systemd-analyze")


def settings(path: Path, name: str) -> list[str]:
    """Return the values of a setting, in their order."""
    return re.findall(rf"^{name}=(.*)$", path.read_text("utf-8"), re.MULTILINE)


def ids(path: Path) -> str:
    return path.name


def test_every_unit_is_covered() -> None:
    assert {path.name for path in SERVICES} >= {
        "ncen-updater.service",
        "ncen-updater-fetch@.service",
        "ncen-updater-apply@.service",
        "ncen-updater-resume.service",
        "ncen-updater-send@.service",
        "ncen-updater-login@.service",
        "ncen-updater-console.service",
        "ncen-publisher-refresh.service",
        "ncen-publisher-monitor.service",
        "ncen-publisher-fleet.service",
        "ncen-publisher-renew.service",
    }
    for unit in PACKAGING.glob("publisher/*.service"):
        assert unit.with_suffix(".timer").is_file(), "nothing begins it"


@pytest.mark.parametrize("path", SERVICES, ids=ids)
def test_exposure_is_low(path: Path) -> None:
    ended = subprocess.run(
        [
            find_systemd_analyze(), "security", "--offline=true", "--no-pager",
            f"--threshold={WORST}", str(path),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Overall exposure level" in ended.stdout, ended.stderr
    assert ended.returncode == 0, ended.stdout.splitlines()[-1]


@pytest.mark.parametrize("path", UNITS, ids=ids)
def test_systemd_accepts_every_line(path: Path, tmp_path: Path) -> None:
    """The programs of a unit are not on this machine; everything else is as packaged."""
    for unit in path.parent.iterdir():
        if unit.suffix in (".service", ".socket", ".timer"):
            text = re.sub(r"^(Exec\w+=)\S+", r"\1/bin/true", unit.read_text("utf-8"), flags=re.M)
            (tmp_path / unit.name).write_text(text, "utf-8")
    ended = subprocess.run(
        [find_systemd_analyze(), "verify", "--man=no", str(tmp_path / path.name)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning", "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )  # fmt: skip
    said = [line for line in ended.stderr.splitlines() if "ncen" in line]
    assert not said
    assert ended.returncode == 0, ended.stderr


def calls_of(path: Path) -> set[str]:
    """Return the system calls that a unit's filter permits, with systemd's groups."""
    said = subprocess.run(
        [program("systemd-analyze"), "syscall-filter", "--no-pager"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    groups: dict[str, list[str]] = {}
    for line in said.splitlines():
        if line.startswith("@"):
            members = groups.setdefault(line.strip(), [])
        elif line.startswith("    ") and not line.lstrip().startswith("#"):
            members.append(line.strip())

    def members_of(word: str) -> set[str]:
        if not word.startswith("@"):
            return {word}
        return {call for member in groups[word] for call in members_of(member)}

    calls: set[str] = set()
    for value in settings(path, "SystemCallFilter"):
        named = {call for word in value.removeprefix("~").split() for call in members_of(word)}
        calls = calls - named if value.startswith("~") else calls | named
    return calls


@pytest.mark.parametrize("path", SERVICES, ids=ids)
def test_unit_that_changes_users_keeps_the_capability(path: Path) -> None:
    """systemd drops CAP_SETUID of a named user whose filter permits capset."""
    capabilities = " ".join(settings(path, "CapabilityBoundingSet")).split()
    calls = calls_of(path)
    assert "read" in calls
    if "CAP_SETUID" in capabilities and settings(path, "User"):
        assert "setresuid" in calls
        assert "capset" not in calls


@pytest.mark.parametrize("path", SERVICES, ids=ids)
def test_root_units_write_below_run_only_named_paths(path: Path) -> None:
    if settings(path, "User") == ["root"]:
        assert "/run" in settings(path, "ReadOnlyPaths")


def test_recovery_inputs_are_writable_only_by_apply_units() -> None:
    """A compromised service would choose the commands that resume runs as root."""
    state = f"/{DEFAULT_PATHS['state']}"
    kept = f"{state}/{Path(VALID).parent}"
    writers = set()
    for path in SERVICES:
        writes = " ".join(settings(path, "ReadWritePaths")).split()
        closed = " ".join(settings(path, "ReadOnlyPaths")).split()
        if state in writes and f"-{kept}" not in closed:
            writers.add(path.stem)
    assert writers == {"ncen-updater-apply@", "ncen-updater-resume"}
    tmpfiles = (PACKAGING / "systemd/ncen-updater.tmpfiles").read_text("utf-8").split("\n")
    assert ["d", kept, "0700", "root", "root", "-"] in [line.split() for line in tmpfiles]


def test_socket_paths_match_the_defaults() -> None:
    where, names = PACKAGING / "systemd", ServiceSettings.model_fields
    for unit in ("fetch", "apply", "renew", "send"):
        name = f"{unit}_socket"
        [path] = settings(where / f"ncen-updater-{unit}.socket", "ListenStream")
        assert path == f"/{names[name].default}"
        assert settings(where / f"ncen-updater-{unit}.socket", "SocketMode") == ["0600"]


#: What units, launchers and packages of a site start by name. They are exchanged at another time
#: than the agent: a module that is moved keeps a module under its old name.
STARTED_BY_NAME = frozenset(
    {
        "ncen_updater.agent.adapters.feed_reader.worker",
        "ncen_updater.agent.cli.main",
        "ncen_updater.agent.cli.worker",
        "ncen_updater.agent.self_update.import_check",
        "ncen_updater.agent.service.notifications.send_worker",
        "ncen_updater.console.proxied_server",
        "ncen_updater.login.helper",
    }
)


def test_modules_started_by_name_exist() -> None:
    root = PACKAGING.parent
    package = (root / "script/debian").read_text("utf-8")
    texts = (path.read_text("utf-8") for path in SERVICES)
    started = {
        name
        for text in (*texts, LAUNCHER, package)
        for name in re.findall(r" -m (ncen_updater\.(?!publisher)\S+)", text)
    }
    assert {*started, IMPORT_CHECK_MODULE} == STARTED_BY_NAME
    assert [name for name in STARTED_BY_NAME if find_spec(name) is None] == []


def test_console_finds_the_login_helper_and_the_helper_the_service() -> None:
    where = PACKAGING / "systemd"
    [login] = settings(where / "ncen-updater-login.socket", "ListenStream")
    console, helper = (
        settings(where / f"ncen-updater-{name}.service", "ExecStart")[0]
        for name in ("console", "login@")
    )
    assert console.endswith(f" --login {login}")
    [user] = settings(where / "ncen-updater-console.service", "User")
    assert f" --console {user} " in helper
    assert f" --socket /{ServiceSettings.model_fields['api_socket'].default} " in helper
    assert settings(where / "ncen-updater-login.socket", "SocketUser") == [user]
    assert settings(where / "ncen-updater-login.socket", "SocketMode") == ["0600"]
    [web] = settings(where / "ncen-updater-console.socket", "ListenStream")
    nginx = (PACKAGING / "nginx/console.conf").read_text("utf-8")
    assert set(re.findall(r"proxy_pass (\S+);", nginx)) == {f"http://unix:{web}"}


def test_console_has_no_access_to_the_site() -> None:
    """A user of its own, in no group of ours, on no network, and without its socket."""
    where = PACKAGING / "systemd"
    unit = where / "ncen-updater-console.service"
    assert (
        settings(unit, "CapabilityBoundingSet") == [""] and settings(unit, "ReadWritePaths") == []
    )
    assert settings(unit, "PrivateNetwork") == ["yes"]
    assert settings(unit, "RestrictAddressFamilies") == ["AF_UNIX"]
    assert settings(unit, "SupplementaryGroups") == []
    hidden = " ".join(settings(unit, "InaccessiblePaths")).split()
    for place in ("/run/postgresql", "/var/lib/ncen-updater", "/run/ncen-updater/api.sock"):
        assert f"-{place}" in hidden
    members = re.findall(r"^m .*$", (where / "ncen-updater.sysusers").read_text(), re.MULTILINE)
    assert not [line for line in members if "console" in line]


def test_console_reads_site_catalogues() -> None:
    """Seen: the catalogue of a site "is left out: Permission denied", and its language with it."""
    unit = PACKAGING / "systemd/ncen-updater-console.service"
    [configuration] = settings(unit, "TemporaryFileSystem")
    assert configuration == "/etc/ncen-updater:ro", "and nothing else of it"
    assert settings(unit, "BindReadOnlyPaths") == [f"-{SITE_LOCALE_DIR}"]
    hidden = " ".join(settings(unit, "InaccessiblePaths")).replace("-/", "/").split()
    assert not [place for place in hidden if SITE_LOCALE_DIR.startswith(place)]


def test_console_is_disabled_by_default() -> None:
    postinst = (PACKAGING / "debian/postinst").read_text("utf-8")
    (units,) = re.findall(r'^units="(.*)"$', postinst, re.MULTILINE)
    assert "login" not in units and "console" not in units


WORKERS = [unit for unit in SERVICES if unit.stem.endswith("@")]


@pytest.mark.parametrize("path", WORKERS, ids=ids)
def test_worker_is_started_only_by_its_socket(path: Path) -> None:
    """Seen: needrestart restarted one in the middle of an exchange, and the service stayed deaf."""
    assert settings(path, "RefuseManualStart") == ["yes"]


def test_worker_starts_are_not_logged() -> None:
    """Output on stderr, such as a trace, is logged as an operation; logins are logged."""
    quiet = {path.name for path in WORKERS if settings(path, "LogLevelMax") == ["notice"]}
    assert quiet == {path.name for path in WORKERS} - {"ncen-updater-login@.service"}
    assert all(
        settings(path, "SyslogLevel") == ["notice"] for path in WORKERS if path.name in quiet
    )


def test_silent_worker_is_ended_before_the_service_watchdog() -> None:
    unit = PACKAGING / "systemd/ncen-updater-apply@.service"
    [watchdog] = settings(unit, "WatchdogSec")
    assert ORDER_LIMITS.silence_timeout_s is not None
    assert 60 * int(watchdog.removesuffix("min")) < ORDER_LIMITS.silence_timeout_s
    assert 60 * int(watchdog.removesuffix("min")) > 10 * BEAT_S


def test_postgresql_stops_after_the_agent() -> None:
    for name in ("apply@", "resume", None):
        unit = PACKAGING / f"systemd/ncen-updater{f'-{name}' if name else ''}.service"
        assert "postgresql.service" in " ".join(settings(unit, "After")).split(), unit.name
    order = PACKAGING / "debian/postgresql-order.conf"
    assert settings(order, "Before") == ["ncen-updater.service"]


def test_needrestart_ignores_our_units(tmp_path: Path) -> None:
    code = """our %nrconf = (override_rc => {}); do $ARGV[0]; die $@ if $@;
    print join ",", grep { my $u = $_; grep { $u =~ /$_/ && !$nrconf{override_rc}{$_} }
    keys %{$nrconf{override_rc}} } @ARGV[1..$#ARGV]"""
    units = ["ncen-updater.service", "ncen-updater-apply@1-2-0.service"]
    rule = str(PACKAGING / "debian/needrestart.conf")
    said = subprocess.run(
        [program("perl"), "-e", code, rule, *units, "nginx.service"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout.split(",") == units


def test_concurrent_service_requests_fit_the_apply_socket() -> None:
    """One operation, two inspections, and probes for the API and for notifications."""
    (most,) = settings(PACKAGING / "systemd/ncen-updater-apply.socket", "MaxConnections")
    at_once = 1 + 2 + 2
    assert int(most) >= 2 * at_once, "some end late, and must not keep work out"


def test_network_units_cannot_reach_the_databases() -> None:
    where = PACKAGING / "systemd"
    fetch, apply = where / "ncen-updater-fetch@.service", where / "ncen-updater-apply@.service"
    assert settings(fetch, "User") == ["ncen-updater-fetch"]
    hidden = " ".join(settings(fetch, "InaccessiblePaths"))
    for place in ("/run/postgresql", "/run/ncen-updater/apply.sock", "journal.sqlite", "/run/dbus"):
        assert place in hidden
    assert settings(apply, "IPAddressDeny") == ["any"]
    assert settings(apply, "IPAddressAllow") == ["localhost"]
    assert "-/run/postgresql" in settings(where / "ncen-updater.service", "InaccessiblePaths")[0]
    send = where / "ncen-updater-send@.service"
    assert settings(send, "CapabilityBoundingSet") == [""]
    assert settings(send, "ReadWritePaths") == []
    hidden = " ".join(settings(send, "InaccessiblePaths"))
    for place in ("/run/postgresql", "/var/lib/ncen-updater", "/run/ncen-updater", "/opt/ncen"):
        assert f"-{place}" in hidden.split()


@pytest.mark.parametrize("unit", ["apply@", "resume"])
def test_database_units_see_free_disk_space(unit: str) -> None:
    """Seen: every packaged site reported that free space cannot be determined (NU-4125)."""
    where = PACKAGING / f"systemd/ncen-updater-{unit}.service"
    assert not [line for line in settings(where, "InaccessiblePaths") if "postgresql" in line]
    assert settings(where, "ProtectSystem") == ["strict"]
    writes = " ".join(settings(where, "ReadWritePaths"))
    assert "postgresql" not in writes


def test_feed_reader_has_a_timeout_and_no_local_network() -> None:
    where = PACKAGING / "systemd"
    fetch, send = where / "ncen-updater-fetch@.service", where / "ncen-updater-send@.service"
    assert settings(fetch, "IPAddressDeny") == ["localhost link-local multicast"]
    assert settings(fetch, "IPAddressAllow") == ["127.0.0.53"]
    for unit in (fetch, send):
        for limit in ("MemoryMax", "TasksMax", "RuntimeMaxSec"):
            assert len(settings(unit, limit)) == 1, (unit, limit)
    assert settings(fetch, "LimitFSIZE") != []
    longest = max(REQUEST_LIMITS[act].total_timeout_s or 0 for act in NETWORK_REQUESTS)
    [hours] = settings(fetch, "RuntimeMaxSec")
    assert int(hours.removesuffix("h")) * 3600 > longest, "the unit ends nobody who is waited for"


def test_received_mount_example_is_valid(tmp_path: Path) -> None:
    example = PACKAGING / "examples" / "received.mount"
    received = PACKAGING / "systemd" / "ncen-updater-fetch@.service"
    assert settings(example, "Where") == settings(received, "ReadWritePaths")
    assert {"nosuid", "nodev", "noexec"} <= set(settings(example, "Options")[0].split(","))
    escaped = subprocess.run(
        [program("systemd-escape"), "--path", "--suffix=mount", settings(example, "Where")[0]],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert f"/{escaped}'" in example.read_text("utf-8")  # the name in the guide
    (tmp_path / escaped).write_text(example.read_text("utf-8"), "utf-8")
    ended = subprocess.run(
        [find_systemd_analyze(), "verify", "--man=no", str(tmp_path / escaped)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning", "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )  # fmt: skip
    assert (ended.returncode, [x for x in ended.stderr.splitlines() if "ncen" in x]) == (0, [])


#: How people log in, and the keys that this machine shows: nothing of the agent's.
LOGGING_IN = frozenset({
    "/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/security/opasswd",
    "/etc/ssh", "/var/backups/shadow.bak", "/var/backups/gshadow.bak", "/var/lib/sss/db",
    "/var/lib/sss/secrets",
})  # fmt: skip


def hidden_by(path: Path) -> frozenset[str]:
    words = " ".join(settings(path, "InaccessiblePaths")).split()
    assert all(word.startswith("-/") for word in words), "what is not there is no mistake"
    return frozenset(word.removeprefix("-") for word in words)


@pytest.mark.parametrize("path", SERVICES, ids=ids)
def test_root_units_cannot_read_login_credentials(path: Path) -> None:
    """Root owns these files, so that no capability is needed to read them; PAM alone has to."""
    if settings(path, "DynamicUser") == ["yes"] or settings(path, "User") not in ([], ["root"]):
        return
    asks_pam = path.name == "ncen-updater-login@.service"
    assert LOGGING_IN - hidden_by(path) == ({"/etc/shadow"} if asks_pam else frozenset())
    assert settings(path, "ProtectHome") == ["yes"]


@pytest.mark.parametrize("unit", ["apply@", "resume"])
def test_change_to_the_application_user_needs_no_hidden_file(unit: str, tmp_path: Path) -> None:
    """Tried with all of it hidden, as by systemd."""
    if os.geteuid() != 0:
        pytest.skip("only root becomes somebody")
    hidden = hidden_by(PACKAGING / f"systemd/ncen-updater-{unit}.service")
    script = """
import os, subprocess, sys
from ncen_updater.agent.adapters.databases.migrations.migrator import find_migrator_user
from ncen_updater.agent.service.api.authorization import identify_caller
from ncen_updater.agent.config.service import ServiceSettings
from ncen_updater.common.supervised_process import AllowedLeftovers, SupervisedProcess
for place in sys.argv[1:]:
    empty = not os.listdir(place) if os.path.isdir(place) else not open(place, "rb").read(1)
    assert empty, place
user = find_migrator_user("nobody")
assert identify_caller(user.uid, ServiceSettings()).actor.name == "nobody"
with SupervisedProcess(
    ["/bin/sh", "-c", "test $(id -un) = nobody"], {"PATH": os.defpath},
    allowed_leftovers=AllowedLeftovers.NOTHING, cwd="/", output=subprocess.DEVNULL,
    run_as=(user.uid, user.gid),
) as command:
    sys.exit(command.wait_for_exit(60))
"""
    there = sorted(place for place in hidden if Path(place).exists())
    assert "/etc/shadow" in there
    cover = "".join(
        f"mount --bind {'$d/dir' if Path(place).is_dir() else '$d/file'} {place} && "
        for place in there
    )
    words = f'd={tmp_path} && mount -t tmpfs none $d && mkdir $d/dir && : > $d/file && {cover}' \
        'exec "$@"'  # fmt: skip
    # A file that another test exchanges (useradd) is no longer covered.
    with Path("/etc/.pwd.lock").open("a") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        ended = subprocess.run(
            [program("unshare"), "-m", "sh", "-c", words, "sh", sys.executable, "-c", script,
             *there],
            capture_output=True, text=True, check=False, cwd=PACKAGING.parent,
        )  # fmt: skip
    assert ended.returncode == 0, ended.stderr


def test_database_units_create_private_files() -> None:
    for name in ("ncen-updater-apply@.service", "ncen-updater-resume.service"):
        assert settings(PACKAGING / "systemd" / name, "UMask") == ["0077"]


def test_service_has_no_network() -> None:
    service = PACKAGING / "systemd" / "ncen-updater.service"
    assert settings(service, "PrivateNetwork") == ["yes"]
    assert f"{RUNNER_VARIABLE}=systemd" in settings(service, "Environment")
    assert settings(service, "RestrictAddressFamilies") == ["AF_UNIX"]
    assert "ncen-updater-send.socket" in settings(service, "Wants")[0].split()


def test_package_knows_every_socket() -> None:
    names = {path.name for path in (PACKAGING / "systemd").glob("*.socket")}
    for script in ("postinst", "prerm", "postrm"):
        words = (PACKAGING / "debian" / script).read_text("utf-8")
        assert {name for name in names if name not in words} == set()


def test_writable_paths_match_the_configuration_defaults() -> None:
    """The boot does not update the agent."""
    paths = PathSettings()
    site = (paths.state, paths.slots, paths.current)
    for name, places in (
        ("ncen-updater-apply@.service", site),
        ("ncen-updater-renew@.service", (paths.state, paths.agent_slots)),
        ("ncen-updater-resume.service", site),
    ):
        [writable] = settings(PACKAGING / "systemd" / name, "ReadWritePaths")
        for place in places:
            assert any(
                paths.resolve(place).is_relative_to(word.lstrip("-")) for word in writable.split()
            )


def test_agent_on_trial_does_not_delay_the_application_at_boot() -> None:
    where = PACKAGING / "systemd"
    [resumes] = settings(where / "ncen-updater-resume.service", "ExecStart")
    [serves] = settings(where / "ncen-updater.service", "ExecStart")
    assert resumes == serves.replace(" serve", " resume --boot")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give directories an owner")
def test_users_and_directories_are_declared(tmp_path: Path) -> None:
    where = PACKAGING / "systemd"
    config = tmp_path / "etc/ncen-updater/agent.toml"
    config.parent.mkdir(parents=True)
    config.touch(0o600)
    for words in (
        ["systemd-sysusers", f"--root={tmp_path}", str(where / "ncen-updater.sysusers")],
        [
            "systemd-tmpfiles",
            f"--root={tmp_path}",
            "--create",
            str(where / "ncen-updater.tmpfiles"),
        ],
    ):
        words[0] = program(words[0])
        subprocess.run(words, check=True, capture_output=True)
    lines = (tmp_path / "etc/passwd").read_text().splitlines()
    users = {line.split(":")[0]: line.split(":") for line in lines}
    assert users["ncen-updater-fetch"][6].endswith("nologin")
    assert config.stat().st_mode & 0o777 == 0o640
    groups = {
        line.split(":")[0]: line.split(":")[2]
        for line in (tmp_path / "etc/group").read_text().splitlines()
    }
    # Names in access lists are those of this machine, where these are not: the lines alone.
    lines = (where / "ncen-updater.tmpfiles").read_text("utf-8").splitlines()
    given = [line.split()[6] for line in lines if line.startswith("a+")]
    read = ServiceSettings().viewer_group
    assert given == [f"g::r,g:{read}:r", "u:ncen-updater-fetch:r"], "apart: one may be unknown"
    state, received = tmp_path / "var/lib/ncen-updater", tmp_path / "var/lib/ncen-updater/received"
    assert state.stat().st_mode & 0o777 == 0o751
    assert state.stat().st_uid == 0
    assert str(received.stat().st_uid) == users["ncen-updater-fetch"][2]
    assert received.stat().st_mode & 0o777 == 0o750
    inbox = (state / "inbox").stat()
    assert (inbox.st_mode & 0o7777, inbox.st_uid) == (0o1770, 0)
    assert str(inbox.st_gid) == groups[ServiceSettings().operator_group]


#: acl(5): tags of entries.
ACL_GROUP_OBJ, ACL_GROUP = 0x04, 0x08


def entry(tag: int, rights: int, number: int = 0xFFFFFFFF) -> bytes:
    return struct.pack("<HHI", tag, rights, number)


def installed(root: Path) -> tuple[Path, Path, Path]:
    """Users, groups and a copied configuration; its state and import directory."""
    (root / "etc/ncen-updater").mkdir(parents=True)
    config = root / "etc/ncen-updater/agent.toml"
    config.touch(0o600)
    users = [program("systemd-sysusers"), f"--root={root}"]
    subprocess.run([*users, str(PACKAGING / "systemd/ncen-updater.sysusers")], check=True)
    return config, root / "var/lib/ncen-updater", root / "var/lib/ncen-updater/inbox"


def started(root: Path, *files: Path) -> None:
    """Apply the changes of a boot to directories and files."""
    make = [program("systemd-tmpfiles"), f"--root={root}", "--create"]
    for file in files or (PACKAGING / "systemd/ncen-updater.tmpfiles",):
        subprocess.run([*make, str(file)], check=True, capture_output=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give directories an owner")
@pytest.mark.parametrize("guide", ["docs", "docs/fr"])
def test_site_groups_survive_a_reboot(tmp_path: Path, guide: str) -> None:
    """Seen: another viewer_group or operator_group, set as in the guide, was lost."""
    config, state, inbox = installed(tmp_path)
    text = (PACKAGING.parent / guide / "how-to/install-agent.md").read_text("utf-8")
    for place in (config, inbox):
        assert re.search(rf"`sudo chgrp \w+ /{place.relative_to(tmp_path)}`", text), place
    started(tmp_path)
    for place in (config, state, inbox):
        os.chown(place, -1, grp.getgrnam("daemon").gr_gid)
    started(tmp_path)
    for place in (config, state, inbox):
        assert place.stat().st_gid == grp.getgrnam("daemon").gr_gid, place
    assert config.stat().st_mode & 0o777 == 0o640
    assert inbox.stat().st_mode & 0o7777 == 0o1770


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give directories an owner")
def test_copied_configuration_is_readable_by_viewers(tmp_path: Path) -> None:
    """The packaged lines with groups of this machine: an ACL accepts no others."""
    config, _, _ = installed(tmp_path / "root")
    own = tmp_path / "own.conf"
    packaged = (PACKAGING / "systemd/ncen-updater.tmpfiles").read_text("utf-8")
    own.write_text(
        packaged.replace("g:ncen-updater:", "g:daemon:").replace("u:ncen-updater-fetch:", "u:bin:")
    )
    for mode in (0o600, 0o644, 0o600):  # the last with a list that is there
        config.chmod(mode)
        started(tmp_path / "root", own)
        found = os.getxattr(config, "system.posix_acl_access")
        assert entry(ACL_GROUP, 4, grp.getgrnam("daemon").gr_gid) in found
        assert entry(ACL_GROUP_OBJ, 4) in found, "and so does its own group"
        assert config.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give directories an owner")
def test_access_list_of_the_import_directory_is_preserved(tmp_path: Path) -> None:
    """As in an earlier guide: a line of tmpfiles.d for another operator_group."""
    own, root = tmp_path / "own.conf", tmp_path / "root"
    own.write_text("a+ /var/lib/ncen-updater/inbox - - - - group:daemon:rwx\n")
    _, _, inbox = installed(root)
    packaged = PACKAGING / "systemd/ncen-updater.tmpfiles"
    started(root, packaged, own, packaged)  # the last is the next start
    found = os.getxattr(inbox, "system.posix_acl_access")
    assert entry(ACL_GROUP, 7, grp.getgrnam("daemon").gr_gid) in found
    assert inbox.stat().st_mode & 0o7777 == 0o1770


def test_logrotate_rotates_only_the_log(tmp_path: Path) -> None:
    log, state = tmp_path / "log/ncen-updater", tmp_path / "lib/ncen-updater"
    log.mkdir(parents=True)
    state.mkdir(parents=True)
    (log / "service.log").write_text("a line\n")
    (state / "journal.sqlite").write_bytes(b"the chain")
    rules = (PACKAGING / "logrotate" / "ncen-updater").read_text("utf-8")
    assert "/var/lib" not in re.sub(r"^#.*$", "", rules, flags=re.MULTILINE)
    rules = rules.replace("/var/log/", f"{tmp_path}/log/").replace("    su root root\n", "")
    (tmp_path / "rules").write_text(rules)
    (tmp_path / "rules").chmod(0o644)
    logrotate = shutil.which("logrotate", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if logrotate is None:
        pytest.skip("logrotate is not installed")
    words = [logrotate, "--force", "--state", str(tmp_path / "status"), str(tmp_path / "rules")]
    subprocess.run(words, check=True, capture_output=True)
    assert (log / "service.log").read_text() == ""
    assert (log / "service.log.1").read_text() == "a line\n"
    assert [path.name for path in state.iterdir()] == ["journal.sqlite"]
    assert (state / "journal.sqlite").read_bytes() == b"the chain"


def test_every_unit_is_documented() -> None:
    assert set(REFERENCE["EXPOSURES"]) == {path.name for path in SERVICES}


@pytest.mark.parametrize("path", SERVICES, ids=ids)
def test_exposure_is_not_above_the_documented_value(path: Path) -> None:
    """The exposure differs slightly between versions of systemd."""
    ended = subprocess.run(
        [find_systemd_analyze(), "security", "--offline=true", "--no-pager", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    [figure] = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", ended.stdout)
    assert float(figure) <= REFERENCE["EXPOSURES"][path.name] + 0.3


def test_only_install_units_may_write_agent_code() -> None:
    """Not the service, nor work on the site: Landlock would keep neither from chown and chmod.

    Landlock gives up reading PostgreSQL's files, and what a release brings writes nothing else.
    """
    able = {
        p.name for p in SERVICES if "/opt/ncen-updater" in " ".join(settings(p, "ReadWritePaths"))
    }
    assert able == {"ncen-updater-renew@.service"}
    [before] = settings(PACKAGING / "systemd/ncen-updater.service", "ExecStartPre")
    assert before.startswith("-+") and before.endswith("failsafe.py --count")
    calls = {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"}
    for name in ("apply@", "renew@", "resume"):
        unit = PACKAGING / f"systemd/ncen-updater-{name}.service"
        filters = settings(unit, "SystemCallFilter")
        assert calls <= {word for line in filters for word in line.split()}
