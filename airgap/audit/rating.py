"""How severe an advisory is: from its CVSS vectors, and from the word its database gives it.

Vectors are scored by the `cvss` package (the `audit` extra). Without it only words count, and an advisory
that has none is `unknown`, which no limit on severity lets pass.
"""

import importlib
import importlib.util
import re
from collections.abc import Iterable
from enum import StrEnum

CVSS_REMEDY = "pip install 'airgap[audit]', which brings cvss, tells the severity of CVSS vectors"
MAX_VECTOR = 500
"""Characters; a CVSS 4.0 vector with every metric has some 250."""


class Rating(StrEnum):
    """Qualitative severity (CVSS 3.1, section 5), the worst first; UNKNOWN may be any of them."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    NONE = "none"
    UNKNOWN = "unknown"

    def exceeds(self, limit: "Rating") -> bool:
        """Whether it is worse than `limit` allows. What is unknown may be."""
        if self is Rating.UNKNOWN:
            return limit is not Rating.CRITICAL
        order = list(Rating)
        return order.index(self) < order.index(limit)


_WORDS = {"moderate": Rating.MEDIUM, "important": Rating.HIGH} | {rating.value: rating for rating in Rating}
_CLASSES = (("CVSS:4.", "CVSS4"), ("CVSS:3.", "CVSS3"), ("", "CVSS2"))
_BOUNDS = ((9.0, Rating.CRITICAL), (7.0, Rating.HIGH), (4.0, Rating.MEDIUM), (0.1, Rating.LOW))


def rate(identifiers: Iterable[str], vectors: Iterable[str], words: Iterable[str]) -> Rating:
    """The worst of what is said of one vulnerability under all its names.

    Malicious packages (`MAL-…`) have no vector: whoever installs one has lost, so they are critical.
    """
    if any(identifier.startswith("MAL-") for identifier in identifiers):
        return Rating.CRITICAL
    said = [_WORDS.get(word, Rating.UNKNOWN) for word in words]
    said += [_of_score(score) for vector in vectors if (score := base_score(vector)) is not None]
    known = [rating for rating in said if rating is not Rating.UNKNOWN]
    return min(known, key=list(Rating).index, default=Rating.UNKNOWN)


def base_score(vector: str) -> float | None:
    """0.0 to 10.0; None for what is no CVSS 2, 3 or 4 vector, and without the package `cvss`."""
    if len(vector) > MAX_VECTOR or not re.fullmatch(r"[A-Za-z0-9:./]+", vector) or not scores_vectors():
        return None
    cvss = importlib.import_module("cvss")
    name = next(name for prefix, name in _CLASSES if vector.startswith(prefix))
    try:
        return float(getattr(cvss, name)(vector).base_score)
    except cvss.CVSSError:
        return None


def scores_vectors() -> bool:
    """Whether the package `cvss` is installed."""
    return importlib.util.find_spec("cvss") is not None


def _of_score(score: float) -> Rating:
    return next((rating for bound, rating in _BOUNDS if score >= bound), Rating.NONE)
