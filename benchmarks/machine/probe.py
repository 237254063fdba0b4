"""Test inside a unit's limits what the unit must not reach, with the machine's own Python.

Prints a JSON object: for each attempt ``yes``, or the name of the error. It leaves no change: files
are removed, connections are closed. It needs only the standard library.
"""

import ctypes
import errno
import json
import mmap
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

WRITE = (
    "/var/lib/ncen-updater", "/var/lib/ncen-updater/received", "/var/lib/ncen-updater/inbox",
    "/opt/ncen-updater",
    "/opt/ncen/slots", "/run/ncen", "/run/ncen-updater", "/etc/ncen-updater", "/etc/systemd/system",
    "/usr/local/bin", "/var/lib/ncen", "/var/lib/postgresql", "/var/lib/postgresql/17/main",
    "/srv/ncen", "/root", "/home/amina", "/var/log", "/var/tmp", "/run/ncen-updater-login",
    "/etc/ssh", "/etc/security", "/var/backups",
)  # fmt: skip
#: Login settings, and files that the machine hides from others.
LOGGING_IN = (
    "/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/security/opasswd",
    "/etc/ssh/ssh_host_ed25519_key", "/var/backups/shadow.bak", "/var/backups/gshadow.bak",
    "/var/lib/sss/db/cache.ldb", "/var/lib/sss/secrets/secrets.ldb",
)  # fmt: skip
READ = (
    *LOGGING_IN, "/var/lib/ncen-updater/journal.sqlite", "/etc/ncen-updater/agent.toml",
    # 1260 holds the passwords of PostgreSQL's roles.
    "/var/lib/postgresql/17/main/PG_VERSION", "/var/lib/postgresql/17/main/global/1260",
    "/srv/ncen/overlay/ncen.json",
    "/root/secretariat/root.json", "/home/amina/.bashrc", "/opt/ncen/current/app/release.json",
    "/proc/1/environ",
)  # fmt: skip
FAILSAFE = "/opt/ncen-updater/failsafe.py"
ROOM = ("/var/lib/postgresql/17/main",)
SOCKETS = (
    "/run/postgresql/.s.PGSQL.5432", "/run/dbus/system_bus_socket", "/run/systemd/private",
    "/run/ncen-updater/apply.sock", "/run/ncen-updater/fetch.sock", "/run/ncen-updater/renew.sock",
    "/run/ncen-updater/send.sock",
    "/run/ncen-updater/api.sock", "/run/ncen-updater/login.sock", "/run/ncen-updater/console.sock",
)  # fmt: skip
ADDRESSES = (
    ("the application", "127.0.0.1", 8080), ("the web server", "127.0.0.1", 80),
    ("the feed", "198.51.100.1", 80), ("link-local", "169.254.169.254", 80),
    ("the resolver of systemd", "127.0.0.53", 53),
)  # fmt: skip
CLONE_NEWUSER = 0x10000000


def attempt(do: Callable[[], object]) -> str:
    try:
        do()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "yes"


def write(directory: str) -> None:
    path = Path(directory) / f".probe-{os.getpid()}"
    path.write_bytes(b"probe")
    path.unlink()


def read(path: str) -> None:
    with Path(path).open("rb") as file:
        if not file.read(1):  # systemd hides a file by an empty one, which root may open
            raise OSError(errno.ENODATA, path)


def unix(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(3)
        client.connect(path)


def inet(address: str, port: int) -> None:
    with socket.socket(socket.AF_INET) as client:
        client.settimeout(3)
        client.connect((address, port))


def listen() -> None:
    with socket.socket(socket.AF_INET) as server:
        server.bind(("127.0.0.1", 0))


def in_child(do: Callable[[], object]) -> None:
    child = os.fork()
    if child == 0:
        try:
            do()
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise OSError(status, os.strerror(status))


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)


def other_user() -> None:
    in_child(become_nobody)


def libc(name: str, *arguments: object) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)


def new_namespace() -> None:
    in_child(lambda: libc("unshare", CLONE_NEWUSER))


def setuid_bit() -> None:
    path = Path(f"/var/lib/ncen-updater/.probe-{os.getpid()}")
    path.write_bytes(b"")
    try:
        path.chmod(0o4755)
    finally:
        path.unlink()


def writable_code() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def main() -> None:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    found = {
        "uid": os.getuid(),
        "capabilities": status["CapEff"].strip(),
        "no new privileges": status["NoNewPrivs"].strip(),
        "seccomp": status["Seccomp"].strip(),
        "umask": status["Umask"].strip(),
        "processes": sum(path.name.isdigit() for path in Path("/proc").iterdir()),
        "devices": sorted(path.name for path in Path("/dev").iterdir()),
        "links": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "write": {name: attempt(partial(write, name)) for name in WRITE},
        "read": {name: attempt(partial(read, name)) for name in READ},
        "see room": {name: attempt(partial(os.statvfs, name)) for name in ROOM},
        "socket": {name: attempt(partial(unix, name)) for name in SOCKETS},
        "connect": {name: attempt(partial(inet, host, port)) for name, host, port in ADDRESSES},
        "do": {
            "listen": attempt(listen),
            "become another user": attempt(other_user),
            "signal process 1": attempt(lambda: os.kill(1, 0)),
            "mount": attempt(lambda: libc("mount", b"none", b"/mnt", b"tmpfs", 0, None)),
            "namespace": attempt(new_namespace),
            "trace": attempt(lambda: libc("ptrace", 16, 1, 0, 0)),
            "setuid bit": attempt(setuid_bit),
            "writable code": attempt(writable_code),
            "give the agent's code away": attempt(partial(os.chmod, FAILSAFE, 0o755)),
            "host name": attempt(lambda: socket.sethostname(socket.gethostname())),
        },
    }
    # As the agent does before it begins an operation, and with its own code.
    if "files" in sys.argv:
        from ncen_updater.agent.adapters.rights import drop_server_file_access
        from ncen_updater.agent.config.loader import load_config

        drop_server_file_access(load_config(Path("/etc/ncen-updater/agent.toml")))
        found["read after giving up"] = {name: attempt(partial(read, name)) for name in READ}
        found["see room after giving up"] = {
            name: attempt(partial(os.statvfs, name)) for name in ROOM
        }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
