"""The one error tree. Each class knows its exit code; the command line catches `AirgapError` only.

AirgapError                    1  never raised itself
├── InputError                 3  bad manifest, lock, key file or other input
├── SourceError                4  a registry, hub, index or file server failed or refused
├── BlockedError               5  `check` proved that something cannot run
├── IntegrityError             6  bytes are not what was promised
├── TrustError                 7  signature, key or root
├── PolicyError                8  a policy rule forbids it
├── HostError                  9  this host cannot: space, permission, a missing tool
└── MissingPartError          10  a base or a volume is not here

An exception outside this tree is a defect in airgap: Python prints it and exits 1.
"""

from collections.abc import Sequence
from typing import ClassVar


class AirgapError(Exception):
    """Something the user can act on: what happened, and in `remedy` what to do next."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class InputError(AirgapError):
    """Input from outside is malformed; `problems` holds every one that was found."""

    exit_code = 3

    def __init__(self, message: str, *, problems: Sequence[str] = (), remedy: str = "") -> None:
        super().__init__("\n".join((message, *(f"  {p}" for p in problems))), remedy=remedy)
        self.problems = tuple(problems)


class SourceError(AirgapError):
    """A registry, hub, index or file server failed, refused, or does not hold what was asked for."""

    exit_code = 4


class BlockedError(AirgapError):
    """The composition is proven unable to run on the declared target."""

    exit_code = 5


class IntegrityError(AirgapError):
    """Bytes differ from what a digest, a lock or a signed statement promised."""

    exit_code = 6


class TrustError(AirgapError):
    """A signature, key, root or floor does not allow this to be believed."""

    exit_code = 7


class PolicyError(AirgapError):
    """The site's policy forbids this."""

    exit_code = 8


class HostError(AirgapError):
    """This host cannot do it: no space, no permission, a tool or engine is missing."""

    exit_code = 9


class MissingPartError(AirgapError):
    """A base bundle or a volume that is needed is not here."""

    exit_code = 10
