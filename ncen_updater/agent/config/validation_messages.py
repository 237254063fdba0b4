"""Say in plain words what the models found wrong, with a remedy for each."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from ncen_updater.agent.config.errors import INVALID, InvalidSetting
from ncen_updater.agent.config.setting_lines import SettingPath, find_line
from ncen_updater.common.i18n import N_, LazyText

SEE_DOCUMENTATION = LazyText(N_("See docs/reference/configuration.md."))

# What the form of a setting is, where a pattern alone would say nothing to a person.
FORMAT_HINTS: Mapping[str, str] = {
    "site.id": N_("Use letters, digits, dots and hyphens, at most 100."),
    "site.country": N_("Use an ISO 3166 code in capitals, such as KE."),
    "site.product": N_("Use the product name in lower case, such as ncen."),
    "feed.urls": N_("Begin with http:// or https://, without spaces."),
    "feed.proxy": N_("Write it as http://host:port."),
    "application.health_url": N_("Begin with http:// or https://, without spaces."),
    "application.health_path": N_("Begin with /, without spaces."),
    "notify.language": N_("Use a language code, such as fr or pt_BR."),
    "notify.mail": N_("Use one address, name or host, without spaces and brackets."),
    "notify.webhook": N_("Begin with http:// or https://, without spaces."),
    "service.timezone": N_(
        "Use a name listed by timedatectl list-timezones, such as Africa/Nairobi."
    ),
    "service.viewer_group": N_("Use the name of a group on this machine."),
    "service.operator_group": N_("Use the name of a group on this machine."),
    "service.approver_group": N_("Use the name of a group on this machine."),
    "people": N_("Use names of accounts on this machine."),
    "databases.host": N_("Use the directory of PostgreSQL's socket, such as /var/run/postgresql."),
    "databases": N_(
        "Use letters, digits, hyphens and underscores, beginning with a letter; at most 48."
    ),
}

# Kind of error to remedy; {values} come from the error's own context.
REMEDIES: Mapping[str, str] = {
    "string_type": N_("Put the value in quotes."),
    "path_type": N_("Write the path in quotes."),
    "int_type": N_("Write digits without quotes."),
    "int_parsing": N_("Write digits without quotes."),
    "int_from_float": N_("Write it without a fraction."),
    "float_type": N_("Write digits without quotes."),
    "float_parsing": N_("Write digits without quotes."),
    "finite_number": N_("Write digits without quotes."),
    "bool_type": N_("Write true or false without quotes."),
    "bool_parsing": N_("Write true or false without quotes."),
    "tuple_type": N_('Write a list: ["...", "..."]'),
    "dict_type": N_("Write it as a table: [{setting}]"),
    "model_type": N_("Write it as a table: [{setting}]"),
    "too_short": N_("Add at least one."),
    "too_long": N_("Maximum number of entries: {max_length}."),
    "string_too_short": N_("Minimum length: {min_length}."),
    "string_too_long": N_("Maximum length: {max_length}."),
    "greater_than": N_("Use a value above {gt}."),
    "greater_than_equal": N_("Use at least {ge}."),
    "less_than": N_("Use a value below {lt}."),
    "less_than_equal": N_("Use at most {le}."),
    "literal_error": N_("Use one of: {expected}."),
    "enum": N_("Use one of: {expected}."),
}


def make_invalid_setting(
    error: ErrorDetails, model: type[BaseModel], lines: Mapping[SettingPath, int]
) -> InvalidSetting:
    """Turn one error of the models into words.

    Args:
        error: As the models report it.
        model: The model of the whole file.
        lines: Where each name stands.
    """
    # The last part "[key]" says that the name itself is wrong, not the value.
    path: SettingPath = tuple(part for part in error["loc"] if part != "[key]")
    setting = _format_setting_name(path)
    line = find_line(lines, path)
    kind = error["type"]
    if kind == "extra_forbidden":
        return InvalidSetting(
            line, setting, LazyText(N_("is not a known setting.")), _suggest_remedy(path, model)
        )
    if kind == "missing":
        table = _format_setting_name(path[:-1])
        remedy = (
            LazyText(N_("Add it to the table [{table}]."), {"table": table})
            if table
            else LazyText(N_("Add it."))
        )
        return InvalidSetting(line, setting, LazyText(N_("is missing.")), remedy)
    values = {"setting": setting, **error.get("ctx", {})}
    if isinstance(values.get("expected"), str):  # pydantic's "'a', 'b' or 'c'"
        values["expected"] = values["expected"].replace(" or ", ", ")
    if kind in REMEDIES:
        return InvalidSetting(line, setting, INVALID, LazyText(REMEDIES[kind], values))
    if kind == "string_pattern_mismatch":
        form = (
            FORMAT_HINTS.get(setting)
            or FORMAT_HINTS.get(_format_setting_name(path[:2]))
            or FORMAT_HINTS.get(_format_setting_name(path[:1]))
        )
        return InvalidSetting(
            line,
            setting,
            INVALID,
            LazyText(form) if form else SEE_DOCUMENTATION,
        )
    cause = error.get("ctx", {}).get("error")
    message = cause.args[0] if isinstance(cause, ValueError) else error["msg"]
    form = FORMAT_HINTS.get(setting)
    return InvalidSetting(
        line,
        setting,
        LazyText(N_("is invalid: {message}."), {"message": message}),
        LazyText(form) if form else SEE_DOCUMENTATION,
    )


def _format_setting_name(path: SettingPath) -> str:
    name = ""
    for part in path:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name


def _iter_models(annotation: object) -> Iterator[type[BaseModel]]:
    if get_args(annotation):  # of a union, or of a list of tables
        for argument in get_args(annotation):
            yield from _iter_models(argument)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation


def iter_settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (table, name) of every setting below a model."""
    for field_name, field in model.model_fields.items():
        name = field.alias or field_name
        yield prefix, name
        for inner in _iter_models(field.annotation):
            yield from iter_settings(inner, f"{prefix}.{name}" if prefix else name)


def _suggest_remedy(path: SettingPath, model: type[BaseModel]) -> LazyText:
    table, wrong = _format_setting_name(path[:-1]), str(path[-1])
    known = list(iter_settings(model))
    here = [name for place, name in known if place == table]
    close = difflib.get_close_matches(wrong, here, n=1, cutoff=0.6)
    if close:
        return LazyText(N_("Did you mean {name}?"), {"name": close[0]})
    elsewhere = [place for place, name in known if name == wrong]
    if elsewhere:
        place = f"[{elsewhere[0]}]" if elsewhere[0] else N_("the top of the file")
        return LazyText(N_("Move it to {place}."), {"place": place})
    return LazyText(N_("Remove it. Known settings: {names}."), {"names": ", ".join(here)})
