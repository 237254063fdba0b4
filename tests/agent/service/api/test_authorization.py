"""Tests of permissions by group."""

from __future__ import annotations

import grp
import os
import pwd

import pytest

from ncen_updater.agent.adapters.rights import find_group_id
from ncen_updater.agent.service.api.authorization import (
    ApiRole,
    identify_caller,
    list_group_members,
    resolve_roles,
)
from tests.agent.service.api.conftest import READER, SETTINGS, uid_of

ALL = frozenset(ApiRole)
WANTED = {ApiRole.READ: 10, ApiRole.OPERATE: 20, ApiRole.APPROVE: 30}


@pytest.mark.parametrize(
    ("uid", "groups", "wanted", "roles"),
    [
        (0, [], WANTED, ALL),
        (500, [], WANTED, ALL),
        (1000, [], WANTED, frozenset()),
        (1000, [11], WANTED, frozenset()),
        (1000, [10], WANTED, {ApiRole.READ}),
        (1000, [20], WANTED, {ApiRole.READ, ApiRole.OPERATE}),
        (1000, [30], WANTED, {ApiRole.READ, ApiRole.APPROVE}),
        (1000, [10, 20, 30], WANTED, ALL),
        (1000, [10], {ApiRole.READ: 10, ApiRole.OPERATE: 10, ApiRole.APPROVE: 30},
         {ApiRole.READ, ApiRole.OPERATE}),
        (1000, [10], {ApiRole.READ: None, ApiRole.OPERATE: None, ApiRole.APPROVE: None},
         frozenset()),
    ],
)  # fmt: skip
def test_roles_are_resolved_from_groups(
    uid: int, groups: list[int], wanted: dict[ApiRole, int | None], roles: frozenset[ApiRole]
) -> None:
    assert resolve_roles(uid, groups, wanted, service_uid=500) == roles


def test_members_by_primary_group_are_included() -> None:
    """Seen: "Ask a member of the group to do this: -", where every approver had it so."""
    user = pwd.getpwuid(os.geteuid())
    assert user.pw_name in list_group_members(grp.getgrgid(user.pw_gid).gr_name)


def test_uid_without_a_name_has_no_role() -> None:
    unknown = identify_caller(987_654_321, SETTINGS)
    assert (unknown.actor.name, unknown.roles) == ("uid 987654321", frozenset())


def test_local_user_is_identified() -> None:
    assert identify_caller(uid_of(READER), SETTINGS).roles == {ApiRole.READ}
    assert identify_caller(os.geteuid(), SETTINGS).roles == ALL


def test_missing_group_has_no_id() -> None:
    assert find_group_id("no-such-group-here") is None
