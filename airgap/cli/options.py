"""Options and values that several verbs take, spelled once."""

import re
from datetime import datetime, timedelta
from pathlib import Path

import click

from airgap.errors import InputError
from airgap.trust.instant import parse_instant

FILE = click.Path(path_type=Path)
"""A path whose existence the verb itself judges, so that its absence is exit code 3 with advice."""

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


class Lifetime(click.ParamType[timedelta]):
    """Days, written `365d`."""

    name = "days"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"([1-9][0-9]{0,4})d", str(value))
        if not match:
            self.fail(f"expected a number of days such as 365d, found {value!r}", param, ctx)
        return timedelta(days=int(match[1]))


class Instant(click.ParamType[datetime]):
    """A second of UTC, written as in signed documents."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return parse_instant(str(value))
        except InputError as error:
            self.fail(error.message, param, ctx)


LIFETIME = Lifetime()
INSTANT = Instant()
