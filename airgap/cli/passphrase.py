"""Where commands that use a key get its passphrase."""

import os
import sys
from collections.abc import Callable
from typing import TypeVar

import click

from airgap.errors import TrustError
from airgap.keyfiles import PASSPHRASE_FILE, PassphraseSource

Command = TypeVar("Command", bound=Callable[..., object])


def passphrase_option(command: Command) -> Command:
    """Adds `--passphrase-fd` as the parameter `passphrase_fd`."""
    return click.option(
        "--passphrase-fd",
        type=click.IntRange(min=0),
        metavar="N",
        help=f"Read passphrases and PINs from file descriptor N. Else {PASSPHRASE_FILE}, else the prompt.",
    )(command)


def passphrases(fd: int | None, *, confirm: bool = False) -> PassphraseSource:
    """The source for this run; `confirm` asks twice, for a passphrase that is being chosen."""

    def ask(question: str, *, confirm: bool = confirm) -> str:
        if not sys.stdin.isatty():
            raise TrustError(
                f"{question}: there is no terminal to ask on",
                remedy=f"set {PASSPHRASE_FILE} to a file that holds it, or use --passphrase-fd",
            )
        answer: str = click.prompt(question, hide_input=True, confirmation_prompt=confirm, err=True)
        return answer

    def ask_pin(question: str) -> str:
        return ask(question, confirm=False)

    return PassphraseSource(ask, ask_pin=ask_pin, fd=fd, environ=os.environ)
