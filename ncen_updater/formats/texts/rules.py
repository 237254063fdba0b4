"""What a release asks of the value of a setting. Pure."""

from __future__ import annotations

from ncen_updater.formats.manifest import SettingRule

BOOLEANS = frozenset({"true", "false", "yes", "no", "1", "0"})


def describe_rule_violation(rule: SettingRule, value: object) -> str:
    """Say in what a value breaks a rule, without telling the value; empty where it does not."""
    number = _parse_number(rule, value)
    if rule.type in ("integer", "number") and number is None:
        return f"{rule.type}"
    if rule.type == "boolean" and str(value).lower() not in BOOLEANS:
        return "boolean"
    size = number if number is not None else float(len(str(value)))
    if rule.least is not None and size < rule.least:
        return f">= {rule.least:g}"
    if rule.most is not None and size > rule.most:
        return f"<= {rule.most:g}"
    if rule.one_of and str(value) not in rule.one_of:
        return " | ".join(rule.one_of)
    return ""


def _parse_number(rule: SettingRule, value: object) -> float | None:
    if rule.type not in ("integer", "number") or isinstance(value, bool):
        return None
    try:
        return float(int(str(value), 10)) if rule.type == "integer" else float(str(value))
    except ValueError:
        return None
