"""Mistakes in a setup that need a whole machine: each is reported and leaves all as it was."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from benchmarks.debian.container import Container
from benchmarks.machine.box import Box
from benchmarks.machine.disk import Image
from benchmarks.machine.kinds import KINDS, lay_out
from benchmarks.machine.line import FEED_URL, Outside
from benchmarks.machine.prepare import Ground
from benchmarks.machine.setup import ANSWERS, STATE, SetupAttempt
from benchmarks.machine.site import Administrator
from benchmarks.report import print_line

SETUP = "ncen-updater setup --answers /root/setup.toml --yes"
HBA = "/etc/postgresql/*/main/pg_hba.conf"
FILLER = "/var/tmp/filler"


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes:
        make: Shell lines that make the mistake.
        mend: Shell lines that correct it.
        code: Code of the error or its cause.
        typed: The command typed after the mistake.
    """

    what: str
    make: str
    mend: str
    code: str
    typed: str = SETUP


def _answer(line: str) -> tuple[str, str]:
    """Return the lines that add an answer, and those that remove it."""
    return f"cp /root/setup.toml /root/kept; echo '{line}' >> /root/setup.toml", (
        "mv /root/kept /root/setup.toml"
    )


MISTAKES = (
    Mistake("no root", "true", "true", "NU-1201", "runuser -u amina -- ncen-updater setup"),
    Mistake("no terminal and no answers", "true", "true", "NU-1203", "ncen-updater setup"),
    Mistake("no such unit", *_answer('[application]\nunit = "nosuch.service"'), "NU-1202"),
    Mistake("group removed", "groupdel ncen-approver", "systemd-sysusers", "NU-1225"),
    Mistake("nginx broken before", "echo 'include nowhere;' >> /etc/nginx/nginx.conf",
            "sed -i '/nowhere/d' /etc/nginx/nginx.conf", "NU-1214"),
    Mistake("superuser refused by pg_hba.conf",
            f"cp -p {HBA} /root/hba; sed -i '1i local all postgres reject' {HBA};"
            " systemctl reload postgresql",
            f"cp -p /root/hba {HBA}; systemctl reload postgresql", "NU-1215"),
    Mistake("PostgreSQL stopped", "systemctl stop postgresql",
            "systemctl start postgresql; systemctl restart ncen; sleep 3", "NU-12"),
    Mistake("application stopped", "systemctl stop ncen", "systemctl start ncen; sleep 3",
            "NU-1202"),
    Mistake("port of the application in use",
            "systemctl stop ncen; systemd-run -q --unit=other python3 -m http.server 8080; sleep 2",
            "systemctl stop other; systemctl start ncen; sleep 3", "NU-1202"),
    Mistake("network down", "ip link set down dev $(ls /sys/class/net | grep ^nu)",
            "ip link set up dev $(ls /sys/class/net | grep ^nu)", "NU-2102"),
    Mistake("disk full",
            f"fallocate -l $(( $(stat -f -c '%a * %S' /) - 8000000 )) {FILLER}",
            f"rm {FILLER}", "NU-3101"),
    Mistake("undo of nothing", "true", "true", "NU-1213", "ncen-updater setup --undo --yes"),
)  # fmt: skip


def try_mistakes(ground: Ground) -> list[SetupAttempt]:
    """Make each mistake on a machine before setup."""
    outside = Outside(ground.secretariat.feed)
    box = ground.box(Image(ground.debian), "mistakes")
    try:
        box.boot()
        outside.connect(box)
        shared = ground.secretariat.directory
        lay_out(box, shared, KINDS[0])
        [package] = ground.secretariat.packages()
        Administrator(box.container, shared, package).install_package()
        digest = hashlib.sha256((shared / "root.json").read_bytes()).hexdigest()
        answers = ANSWERS.format(feed=FEED_URL, fingerprint=digest)
        box.container.must("sh", "-c", 'printf %s "$0" > /root/setup.toml', answers)
        return [_try(box, mistake) for mistake in MISTAKES]
    finally:
        box.close()
        outside.close()


def _try(box: Box, mistake: Mistake) -> SetupAttempt:
    container, wrong = box.container, list[str]()
    container.must("sh", "-c", mistake.make)
    before = _list_state(container)
    ended = container.run("sh", "-c", mistake.typed)
    said = ended.stdout + ended.stderr
    now = _list_state(container)
    container.must("sh", "-c", mistake.mend)
    if ended.returncode == 0 or mistake.code not in said:
        wrong.append(f"exit status {ended.returncode}: {said[-2000:]}")
    wrong += [f"gone: {line}" for line in sorted(before - now)[:5]]
    wrong += [f"new: {line}" for line in sorted(now - before)[:5]]
    print_line(f"{mistake.what}: {said[said.find('Error:') :]}")
    row = SetupAttempt(mistake.what, None, None, tuple(wrong))
    print_line(str(row))
    return row


def _list_state(container: Container) -> set[str]:
    # A mistake may close databases, which are not compared then.
    return set(container.run("sh", "-c", STATE).stdout.splitlines())
