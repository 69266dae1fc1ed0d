"""Amounts as a person reads them."""


def human_bytes(count: int) -> str:
    """1 234 567 -> '1.2 MB' (powers of 1000, as media are sold)."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("the loop returns at its last unit")


def human_seconds(seconds: float) -> str:
    """75 -> '1 min 15 s'; below a second 'a second'."""
    if seconds < 1:
        return "a second"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (0 if hours else rest, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def amount(count: int, one: str, more: str = "") -> str:
    """1 -> '1 file', 2 -> '2 files'; `more` where that is not the word with an s."""
    return f"{count} {noun(count, one, more)}"


def noun(count: int, one: str, more: str = "") -> str:
    """The word alone: 1 -> 'file', 2 -> 'files'."""
    return one if count == 1 else more or f"{one}s"


def shortage(needed: int, free: int) -> str:
    """(1500, 1400) -> '1.5 kB needed, 1.4 kB free: 100 B too little', in bytes."""
    return f"{human_bytes(needed)} needed, {human_bytes(free)} free: {human_bytes(needed - free)} too little"
