"""Facts as JSON has them: dataclasses of evidence, answers and comparisons, field by field."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from enum import StrEnum

from airgap.destination import target_table
from airgap.model import Finding, Target
from airgap.trust.instant import render_instant


def table_of(value: object, leave_out: Iterable[str] = ()) -> dict[str, object]:
    """Its fields by name, but for some."""
    assert is_dataclass(value)
    names = [one.name for one in fields(value) if one.name not in leave_out]
    return {name: _json(getattr(value, name)) for name in names}


def _json(value: object) -> object:
    """Any value of those modules as JSON has it."""
    match value:
        case Finding():
            return value.as_json()
        case Target():
            return target_table(value)
        case datetime():
            return render_instant(value)
        case date():
            return value.isoformat()
        case StrEnum():
            return value.value
        case tuple():
            return [_json(item) for item in value]
        case Mapping():
            return {str(key): _json(item) for key, item in value.items()}
        case None | bool() | int() | float() | str():
            return value
        case _:
            return table_of(value)
