"""Tests that the command line and the service's forms use the same names."""

from __future__ import annotations

from inspect import signature

import pytest

from ncen_updater.agent.cli.site_client import _NAMES, ServiceSiteClient, SiteClient, _Delegated
from ncen_updater.agent.service.api import forms

FORMS: dict[str, type[forms.ApiForm]] = {
    "order": forms.JobForm,
    "inspect": forms.InspectionForm,
    "POST /v1/approvals": forms.ApprovalForm,
    "PUT /v1/schedule": forms.ScheduleForm,
}
DELEGATED = {
    name: form
    for name, one in vars(ServiceSiteClient).items()
    if isinstance(one, _Delegated) and (form := FORMS.get(one._way) or FORMS.get(one._what))
}


def test_every_form_is_asked() -> None:
    assert set(DELEGATED.values()) == set(FORMS.values())


@pytest.mark.parametrize("name", DELEGATED)
def test_arguments_are_fields_of_the_form(name: str) -> None:
    given = [part for part in signature(getattr(SiteClient, name)).parameters if part != "self"]
    assert {_NAMES.get(part, part) for part in given} <= set(DELEGATED[name].model_fields)
