"""Works that tests have done in processes, which import all that lies beside them: so nothing else does."""

import os
import signal
import time
from dataclasses import dataclass

from airgap.audit import processes, reading
from airgap.audit.reading import BlobSource, Seen, Wanted
from airgap.errors import InputError
from airgap.media import NotAFileError
from airgap.progress import Progress


@dataclass(frozen=True)
class Task:
    name: str


def work(shared: object, task: Task, progress: Progress) -> tuple[object, str]:
    print("what a library prints", flush=True)
    progress.advance(5)
    match task.name:
        case "bad.whl":
            raise InputError("bad", problems=["one"], remedy="do")
        case "link.whl":
            raise NotAFileError("link")
        case "defect.whl":
            raise ValueError("defect")
        case "killed.whl":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit.whl":
            os._exit(3)
        case "talks.whl":
            progress._replies.write(b"\xff")  # type: ignore[attr-defined]
            stay(progress)
        case "stays.whl":
            stay(progress)
    return shared, task.name


def stay(progress: Progress) -> None:
    """Tell of progress, then be there until killed; where nobody does that, end in another way."""
    progress.advance(processes.STEP)
    time.sleep(20)
    os._exit(4)


def killed_at_beta(media: BlobSource, one: Wanted, progress: Progress) -> Seen:
    if one.name.startswith("beta"):
        os.kill(os.getpid(), signal.SIGKILL)
    return reading._apart(media, one, progress)


def endless(media: BlobSource, one: Wanted, progress: Progress) -> Seen:
    """Says through a FIFO which process it is, then never ends."""
    with open(os.environ["PIDS"], "w") as pids:
        print(os.getpid(), file=pids)
    while True:
        time.sleep(60)
