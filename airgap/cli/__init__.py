"""The command line: one thin module per verb, found by name and imported only when it is used.

So the isolated side can ship without the connected side's verbs, and `airgap --help` starts fast.
"""

import errno
import gc
import importlib
import importlib.util
import os
import sys
from typing import ClassVar

import click

from airgap import __version__
from airgap.cli.streams import settle_streams
from airgap.cli.terminal import print_error
from airgap.errors import AirgapError, HostError

EPILOG = """\b
Exit codes
  0 done                            6 integrity: bytes are not what was promised
  1 a defect in airgap              7 signature or trust
  2 usage                           8 policy
  3 bad manifest, lock or input     9 this host cannot (space, permission, tool)
  4 a source failed                10 a base or volume is missing
  5 blocked by check              130 interrupted
"""

INTERRUPTED = 130

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)

GARBAGE = 50_000
"""Objects between two collections: Python's 700 costs a tenth of the start, and we make few cycles."""


class Verbs(click.Group):
    """Imports `airgap.cli.<verb>` on demand; the command there has the verb's name."""

    connected: ClassVar[tuple[str, ...]] = (
        "init", "lock", "plan", "check", "gap", "build", "sign", "split", "acknowledge",
    )  # fmt: skip
    isolated: ClassVar[tuple[str, ...]] = (
        "verify", "receive", "install", "status", "rollback", "uninstall", "gc", "export", "load", "push",
        "inventory", "smoke", "receipt",
    )  # fmt: skip
    both: ClassVar[tuple[str, ...]] = (
        "inspect", "audit", "diff", "policy", "attest", "key", "trust", "probe",
    )  # fmt: skip

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [verb for verb in (*self.connected, *self.isolated, *self.both) if _carried(verb)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in (*self.connected, *self.isolated, *self.both):
            import difflib  # noqa: PLC0415  only who misspells waits for it

            if near := difflib.get_close_matches(cmd_name, self.list_commands(ctx)):
                raise click.UsageError(f"No such command {cmd_name!r}. Did you mean {near[0]!r}?", ctx)
            return None
        try:
            module = importlib.import_module(f"airgap.cli.{cmd_name}")
        except ModuleNotFoundError as error:
            if error.name and error.name.partition(".")[0] != "airgap":
                raise HostError(
                    f"airgap {cmd_name} needs the Python package {error.name!r}",
                    remedy="on the connected side: pip install 'airgap[connected]'",
                ) from error
            raise HostError(
                f"airgap {cmd_name} is not part of this installer",
                remedy="it belongs on the connected side"
                if cmd_name in self.connected
                else "it needs airgap as an installed package",
            ) from error
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rooms = {"Connected side": self.connected, "Isolated side": self.isolated, "Both": self.both}
        for title, verbs in rooms.items():
            if here := [(verb, HELP[verb]) for verb in verbs if _carried(verb)]:
                with formatter.section(title):
                    formatter.write_dl(here)


def _carried(verb: str) -> bool:
    """The one-file installer holds the isolated side's verbs alone."""
    return importlib.util.find_spec(f"airgap.cli.{verb}") is not None


HELP = {
    "init": "write a starter manifest",
    "lock": "resolve a manifest to exact digests",
    "plan": "show what a build would fetch and need",
    "check": "say what cannot run on the target",
    "gap": "say which releases can run a model",
    "build": "fetch everything and make the signed bundle",
    "sign": "add a holder's signatures to a bundle",
    "split": "cut a bundle into volumes that fit on media",
    "verify": "check signatures and every byte of a bundle",
    "receive": "take in volumes, one by one, until all are here",
    "install": "verify bundles and unpack them into a site",
    "status": "show what a site holds, and whether it is whole",
    "rollback": "go back to an earlier generation",
    "uninstall": "leave bundles or artifacts out of the next generation",
    "gc": "free what no generation needs",
    "export": "write an installed container as one tar",
    "load": "load an installed container into an engine",
    "push": "push an artifact to a registry",
    "receipt": "tell the other side what was installed",
    "acknowledge": "record what a site says that it holds",
    "inventory": "show what a site holds, for a delta",
    "smoke": "run a command against a site and sign what ran on which GPU",
    "inspect": "show what is in a bundle",
    "diff": "show what changed between locks, bundles or sites",
    "policy": "write a policy: what a site lets in",
    "attest": "put records of smoke runs into a bundle",
    "audit": "look inside of everything, and say what is wrong",
    "key": "make holders' key pairs",
    "trust": "make and pin the root of trust",
    "probe": "print this host's facts as a [target]",
}


@click.group(cls=Verbs, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="airgap")
def airgap() -> None:
    """Carry wheels, models, containers and files across an air gap in one signed bundle."""


def main() -> None:
    """The console script: run a verb, turn the error tree into messages and exit codes."""
    gc.set_threshold(GARBAGE)
    settle_streams()
    try:
        code = run(sys.argv[1:])
    except OSError as error:
        if error.errno not in UNWRITABLE or error.filename is not None:  # a refused file has a name
            raise
        _leave_output()
        print_error(
            f"the output cannot be written: {error.strerror}",
            "send it where it can be written and run the same command again; finished work is kept",
        )
        code = HostError.exit_code
    sys.exit(code)


def _leave_output() -> None:
    """What waits in stdout goes nowhere, instead of being tried again when Python ends."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; anything but an AirgapError is a defect and raises."""
    try:
        result = airgap.main(args=arguments, prog_name="airgap", standalone_mode=False)
    except AirgapError as error:
        print_error(error.message, error.remedy)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        print_error("interrupted", "run the same command again: finished work is kept")
        return INTERRUPTED
    except SystemExit:  # click's answer where whoever reads stdout has ended
        return HostError.exit_code
    return result if isinstance(result, int) else 0
