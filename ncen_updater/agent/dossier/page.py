"""The page, section by section. Pure: facts and a language in, bytes out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from xml.etree import ElementTree as Tree

from ncen_updater.agent.dossier.data import data_section
from ncen_updater.agent.dossier.gather import Dossier, DossierHop
from ncen_updater.agent.dossier.html import (
    ARROW,
    Child,
    element,
    grid,
    mark,
    pairs,
    paragraphs,
    write,
)
from ncen_updater.agent.dossier.risks import risks
from ncen_updater.agent.dossier.style import STYLE
from ncen_updater.common.cli.render import SEVERITIES, format_bytes, format_duration, format_time
from ncen_updater.common.findings import Severity
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, N_, Text, translate

__all__ = ["page"]

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
#: A digest is read aloud and compared in groups of so many characters.
GROUP = 8
#: A stop that may be shorter than this has no lower end worth reading.
NO_TIME_S = 1.0


def page(dossier: Dossier, language: str = DEFAULT_LANGUAGE) -> bytes:
    """Return the dossier as one HTML file, in UTF-8."""
    writer = _Writer(dossier, language)
    title = writer.say(
        N_("{product}: upgrade from {current} to {target}"), product=dossier.product,
        current=dossier.current, target=dossier.target,
    )  # fmt: skip
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", **{"http-equiv": "Content-Security-Policy", "content": POLICY}),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="shows", content=mark(dossier.approvals, dossier.not_before)),
        element("title", title),
        _style(),
    )
    return write(element("html", head, element("body", *writer.body(title)), lang=language))


def _style() -> Tree.Element:
    made = Tree.Element("style")
    made.text = STYLE
    return made


class _Writer:
    """Writes the sections in one language."""

    def __init__(self, dossier: Dossier, language: str) -> None:
        self._dossier, self._language = dossier, language

    def say(self, template: str, **values: object) -> str:
        """A sentence in the language."""
        return Text(template, values).render(self._language)

    def body(self, title: str) -> list[Child]:
        """Every section, in the order in which a director reads."""
        dossier = self._dossier
        made = self.say(
            N_("Site {site} ({country}). Made by ncen-updater {agent} at {at}."),
            site=dossier.site, country=dossier.country, agent=dossier.agent,
            at=self._time(dossier.made_at),
        )  # fmt: skip
        return [
            element("h1", title),
            element("p", made, class_="sub"),
            element("div", pairs(self._key()), class_="key"),
            *self._risks(),
            *self._notes(),
            *data_section(dossier, self._language),
            *self._stop(),
            *self._way_back(),
            *self._checks(),
            *self._space(),
            *self._decision(),
        ]

    def _time(self, moment: datetime) -> str:
        return format_time(moment, self._dossier.zone)

    def _range(self, stop: tuple[float, float, float] | None) -> str:
        if stop is None:
            return self.say(N_("not known: it was not rehearsed"))
        low, likely, high = map(format_duration, stop)
        if stop[0] < NO_TIME_S:
            return self.say(N_("up to {high}, most likely {likely}"), high=high, likely=likely)
        return self.say(N_("{low} to {high}, most likely {likely}"), low=low, high=high,
                        likely=likely)  # fmt: skip

    def _key(self) -> list[tuple[str, Child]]:
        dossier = self._dossier
        return [
            (self.say(N_("In use now")), f"{dossier.product} {dossier.current}"),
            (self.say(N_("Would be in use")), f"{dossier.product} {dossier.target}"),
            (self.say(N_("Officers are out for")), self._range(dossier.stop_s)),
            (self.say(N_("When")), self._when()),
            (self.say(N_("Way back")), self._way_back_short()),
            (self.say(N_("Approved")), self._approved()),
        ]

    def _when(self) -> str:
        dossier = self._dossier
        chosen = dossier.not_before
        if dossier.opens is not None and dossier.closes is not None:
            begin = max(dossier.opens, chosen) if chosen else dossier.opens
            return self.say(
                N_("once approved, in the hours from {begin} to {end}"),
                begin=self._time(begin), end=self._time(dossier.closes),
            )  # fmt: skip
        if chosen is not None:
            return self.say(N_("once approved, not before {at}"), at=self._time(chosen))
        return self.say(N_("as soon as it is approved; this site has no set hours"))

    def _way_back_short(self) -> str:
        if self._dossier.keeps_records:
            return self.say(N_("at any time, and keeps every record"))
        return self.say(N_("exact until officers are back; later it loses what they entered"))

    def _approved(self) -> str:
        dossier = self._dossier
        if dossier.by_itself:
            return self.say(N_("nobody is asked: this site upgrades by itself"))
        return self.say(
            N_("{given} of {needed}"), given=len(dossier.approvals), needed=dossier.needed
        )

    def _risks(self) -> list[Child]:
        heading = element("h2", self.say(N_("What could go wrong")))
        found = [element("li", text.render(self._language)) for text in risks(self._dossier)]
        if not found:
            return [heading, element("p", self.say(N_("Nothing in particular is known.")))]
        return [heading, element("ul", *found, class_="risk")]

    def _notes(self) -> list[Child]:
        parts: list[Child] = [element("h2", self.say(N_("What the Secretariat says")))]
        for hop in self._dossier.hops:
            notes = hop.notes.get(self._language) or hop.notes.get(DEFAULT_LANGUAGE)
            title = f"{hop.version}: {notes.title}" if notes else hop.version
            parts.append(element("h3", title))
            parts.append(element("p", self._about(hop)))
            if notes:
                parts += paragraphs(notes.text)
            else:
                parts.append(element("p", self.say(N_("It says nothing of this release."))))
        return parts

    def _about(self, hop: DossierHop) -> str:
        template = (
            N_("A required stop: no site may skip it. Urgency: {urgency}. Migrations: {count}.")
            if hop.required
            else N_("Urgency: {urgency}. Migrations: {count}.")
        )
        urgency = translate(hop.urgency, self._language)
        return self.say(template, urgency=urgency, count=hop.migrations)

    def _stop(self) -> list[Child]:
        dossier = self._dossier
        parts: list[Child] = [element("h2", self.say(N_("How long officers are out")))]
        rows = [
            (f"{hop.origin} {ARROW} {hop.version}", self._range(hop.stop_s),
             format_duration(hop.report["copy_s"]), format_duration(hop.report["migrate_s"]))
            for hop in dossier.hops
            if hop.report
        ]  # fmt: skip
        names = N_("Change"), N_("Predicted"), N_("of it copying"), N_("of it migrating")
        if rows:
            parts.append(grid(map(self.say, names), rows))
        if dossier.rehearsed_at is not None and dossier.holds_until is not None:
            words = N_(
                "Measured in rehearsal {id} on {at}, on copies of your own data while officers"
                " worked. It may be relied on until {until}."
            )
            parts.append(
                element(
                    "p",
                    self.say(
                        words, id=dossier.rehearsal, at=self._time(dossier.rehearsed_at),
                        until=self._time(dossier.holds_until),
                    ),
                )
            )  # fmt: skip
        if dossier.earlier:
            parts.append(element("p", self.say(N_("Earlier predictions for this site:"))))
            known = [
                (item.version, f"{format_duration(item.low_s)} - {format_duration(item.high_s)}",
                 format_duration(item.real_s))
                for item in dossier.earlier
            ]  # fmt: skip
            heading = N_("Release"), N_("Predicted"), N_("It was")
            parts.append(grid(map(self.say, heading), known))
        return parts

    def _way_back(self) -> list[Child]:
        dossier = self._dossier
        lines = [
            N_(
                "Until officers are let back in, any failure takes the site back to {current} by"
                " itself, with its databases exactly as they were."
            ),
            N_("After that the new release is watched for {soak}.")
            if not dossier.rolls_back
            else N_(
                "After that the new release is watched for {soak}; if it turns bad, the site goes"
                " back by itself where that keeps every record."
            ),
        ]
        values: dict[str, object] = {
            "current": dossier.current, "soak": format_duration(dossier.soak_s),
            "days": f"{dossier.keep_days:g}",
        }  # fmt: skip
        lines.append(N_("The databases from before are kept for {days} days."))
        parts: list[Child] = [element("h2", self.say(N_("The way back")))]
        parts += [element("p", self.say(line, **values)) for line in lines]
        for hop in dossier.hops:
            parts.append(element("p", hop.way_words.render(self._language)))
            way = {"origin": hop.origin, "version": hop.version}
            back = hop.report["back_s"] if hop.report else None
            restored = hop.report.get("restore_s") if hop.report else None
            if restored is not None:
                tried = N_(
                    "{version} back to {origin}: the databases of before were restored on trial,"
                    " {seconds}."
                )
                parts.append(
                    element("p", self.say(tried, seconds=format_duration(restored), **way))
                )
            if back is not None:
                tried = N_("{version} back to {origin}: tried in the rehearsal, {seconds}.")
                parts.append(element("p", self.say(tried, seconds=format_duration(back), **way)))
            for database, name, reason in hop.why_no_way_back:
                lost = N_(
                    "{version} back to {origin}: {database}, {name} has no way down: {reason}"
                )
                words = self.say(lost, database=database, name=name, reason=reason, **way)
                parts.append(element("p", words))
            parts += [element("p", text.render(self._language).strip()) for text in hop.files]
        return parts

    def _checks(self) -> list[Child]:
        order = list(Severity)
        found = sorted(self._dossier.findings, key=lambda item: order.index(item.severity))
        rows = [
            (translate(SEVERITIES[item.severity], self._language), item.code,
             item.what.render(self._language))
            for item in found
        ]  # fmt: skip
        parts: list[Child] = [element("h2", self.say(N_("Checks of the site")))]
        if not rows:
            return [*parts, element("p", self.say(N_("Nothing stands in the way.")))]
        heading = N_("Weight"), N_("Code"), N_("What was found")
        return [*parts, grid(map(self.say, heading), rows)]

    def _space(self) -> list[Child]:
        dossier = self._dossier
        rows = [(name, format_bytes(size)) for name, size in sorted(dossier.sizes.items())]
        total = sum(dossier.sizes.values())
        unpacked = sum(hop.unpacked_bytes for hop in dossier.hops)
        words = N_(
            "Together {total}. About as much again is used during the upgrade and for {days} days"
            " after it, and {unpacked} for the programs of the new release."
        )
        text = self.say(
            words, total=format_bytes(total), days=f"{dossier.keep_days:g}",
            unpacked=format_bytes(unpacked),
        )  # fmt: skip
        heading = N_("Database"), N_("Size")
        parts: list[Child] = [
            element("h2", self.say(N_("Space"))),
            grid(map(self.say, heading), rows),
            element("p", text),
        ]
        if dossier.backup_s is not None:
            backup = N_("A backup of everything was made and restored in {seconds}.")
            if dossier.not_carried:
                backup = N_("A backup was made and restored in {seconds}, but not of everything.")
            parts.append(element("p", self.say(backup, seconds=format_duration(dossier.backup_s))))
        for database, objects in dossier.not_carried.items():
            lacking = N_(
                "Not proved: a backup by the agent's role does not carry this of {database}, or"
                " not as it is: {objects}."
            )
            said = self.say(lacking, database=database, objects=", ".join(objects))
            parts.append(element("p", said))
        return parts

    def _decision(self) -> list[Child]:
        dossier = self._dossier
        parts: list[Child] = [element("h2", self.say(N_("Decision")))]
        if dossier.approvals:
            rows = [(item.who, str(item.uid), self._time(item.at)) for item in dossier.approvals]
            heading = N_("Approved by"), N_("Number of the user"), N_("At")
            parts.append(grid(map(self.say, heading), rows))
        else:
            parts.append(element("p", self.say(N_("Nobody has approved it yet."))))
        parts += [self._signatures(), self._binding()]
        return parts

    def _signatures(self) -> Tree.Element:
        roles: Sequence[str] = [
            *(N_("Approving person") for _ in range(max(1, self._dossier.needed))),
            N_("Director"),
        ]
        heading = N_("Role"), N_("Name"), N_("Date"), N_("Signature")
        rows = [(self.say(role), "", "", "") for role in roles]
        return grid(map(self.say, heading), rows, class_="sign")

    def _binding(self) -> Tree.Element:
        dossier = self._dossier
        digest = dossier.basis.binding()
        groups = [digest[at : at + GROUP] for at in range(0, len(digest), GROUP)]
        command = f"ncen-updater approve {dossier.target} --dry-run"
        parts = [
            (self.say(N_("Plan")), dossier.basis.plan),
            (self.say(N_("Rehearsal")), dossier.basis.rehearsal or "-"),
            (self.say(N_("Configuration")), dossier.basis.configuration),
            *((name, digest) for name, digest in sorted(dossier.basis.schemas.items())),
        ]
        words = N_(
            "What is approved has this digest. It covers the plan, the rehearsal, the configuration"
            " and the structure of each database; if one of them changes, no approval holds any"
            " more. To check it, run the command below on the server: it must show the same digest."
        )
        return element(
            "div",
            element("h3", self.say(N_("Digest"))),
            element("p", self.say(words)),
            element("p", element("code", " ".join(groups), class_="digest")),
            element("p", element("code", command)),
            pairs((name, element("code", value)) for name, value in parts),
            class_="last",
        )
