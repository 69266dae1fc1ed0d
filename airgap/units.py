"""Amounts as a person reads them."""


def human_bytes(count: int) -> str:
    """1 234 567 -> '1.2 MB' (powers of 1000, as media are sold)."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("the loop returns at its last unit")
