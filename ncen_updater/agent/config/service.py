"""The table ``[service]``: what the agent does by itself, and when."""

from __future__ import annotations

from datetime import UTC, time, tzinfo
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
)

from ncen_updater.agent.policy.windows import Weekday, WeeklyWindow


def _parse_wall_time(value: object) -> object:
    """Take ``22:00`` as text: TOML's own times are local times too, and come as they are."""
    if not isinstance(value, str):
        return value
    try:
        return time.fromisoformat(value)
    except ValueError as error:
        raise ValueError("use hours and minutes, such as 22:00") from error


WallTime = Annotated[time, BeforeValidator(_parse_wall_time)]
GroupName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]


class WindowSettings(BaseModel):
    """Hours of the week, wall time of the site.

    Attributes:
        days: On which days the hours begin; every day by default.
        start: Their beginning.
        end: Their end; not after the start means on the next day.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: Annotated[tuple[Weekday, ...], Field(min_length=1, max_length=7)] = tuple(Weekday)
    start: WallTime
    end: WallTime

    @field_validator("start", "end")
    @classmethod
    def _require_wall_time(cls, value: time) -> time:
        if value.tzinfo is not None or value.second or value.microsecond:
            raise ValueError("use hours and minutes, such as 22:00")
        return value

    def to_window(self) -> WeeklyWindow:
        """Return the window that the policy reckons with."""
        return WeeklyWindow(frozenset(self.days), self.start, self.end)


class ServiceSettings(BaseModel):
    """What the service does by itself.

    Attributes:
        mode: ``notify`` tells what is on offer; ``approve`` prepares and waits for people;
            ``automatic`` upgrades in the next window.
        timezone: Zone of all hours here; that of the machine by default.
        windows: Hours in which a cut-over may begin by itself; without any it begins only at a
            time that a person chose, or by ``upgrade``.
        check_interval_hours: Hours between two questions to the feed, spread over the sites.
        download_windows: Hours in which downloads may run; none means at any time.
        rehearse: Whether a release is rehearsed on copies before anybody approves it.
        max_rehearsal_age_days: How old a rehearsal may become.
        max_growth_percent: So much may a database grow after the rehearsal.
        required_approvals: How many people have to approve.
        api_socket: Where the local interface listens.
        viewer_group: Members may look.
        operator_group: Members may order, hold and schedule, too.
        approver_group: Members may approve, too.
        self_update: Whether the agent renews itself, at the hours of downloads.
        confirm_agent_s: Seconds that a new agent has to run before it may confirm itself.
        runner: ``process`` runs work as a child; ``systemd`` starts the units that split privilege.
        fetch_socket: Where systemd waits to start what talks to the network.
        apply_socket: Where systemd waits to start what works on the site.
        renew_socket: Where systemd waits to start what writes the agent's own code.
        send_socket: Where systemd waits to start what sends a message.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["notify", "approve", "automatic"] = "approve"
    timezone: str | None = None
    windows: tuple[WindowSettings, ...] = ()
    check_interval_hours: Annotated[float, Field(ge=0.25, le=168)] = 6.0
    download_windows: tuple[WindowSettings, ...] = ()
    rehearse: bool = True
    max_rehearsal_age_days: Annotated[float, Field(gt=0, le=365)] = 14.0
    max_growth_percent: Annotated[float, Field(ge=0, le=1000)] = 20.0
    required_approvals: Annotated[int, Field(ge=1, le=2)] = 1
    api_socket: Path = Path("run/ncen-updater/api.sock")
    viewer_group: GroupName = "ncen-updater"
    operator_group: GroupName = "ncen-operator"
    approver_group: GroupName = "ncen-approver"
    self_update: bool = True
    confirm_agent_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    runner: Literal["process", "systemd"] = "process"
    fetch_socket: Path = Path("run/ncen-updater/fetch.sock")
    apply_socket: Path = Path("run/ncen-updater/apply.sock")
    renew_socket: Path = Path("run/ncen-updater/renew.sock")
    send_socket: Path = Path("run/ncen-updater/send.sock")

    @field_validator("timezone")
    @classmethod
    def _require_known_timezone(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ZoneInfo(value)
            except (ZoneInfoNotFoundError, ValueError, OSError) as error:
                raise ValueError("unknown time zone") from error
        return value

    def get_timezone(self) -> tzinfo:
        """Return the zone of all hours.

        The machine's zone is read from ``/etc/localtime``, so that its changes of clock are known;
        a fixed offset would be wrong for half of the year.
        """
        if self.timezone is not None:
            return ZoneInfo(self.timezone)
        try:
            with Path("/etc/localtime").open("rb") as stream:
                return ZoneInfo.from_file(stream, key="localtime")
        except FileNotFoundError:
            return UTC  # what a machine without that file goes by: localtime(5)
