"""What is packed is looked into in processes: the same is found, and none of them dies unseen or stays."""

import os
import select
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from pathlib import Path
from threading import Event
from typing import cast
from zipimport import zipimporter

import pytest

from airgap.audit import processes, reading
from airgap.audit.evidence import Audit
from airgap.audit.processes import Workers
from airgap.audit.run import Judge, audit_bundle
from airgap.audit.site import audit_site
from airgap.audit.volumes import audit_volumes
from airgap.cli import run
from airgap.errors import HostError, InputError
from airgap.isolated.site import Site
from airgap.layout import read_envelope
from airgap.media import Media, NotAFileError
from airgap.progress import Progress, Silent
from airgap.workers import Stopped
from tests import bundles
from tests.audit.faults import SYSTEM, Entry, image, model_files, wheel
from tests.audit.works import Task, killed_at_beta, work
from tests.bundles import Content

NOW = datetime.fromisoformat("2026-11-01T00:00:00+00:00")


Started = list["subprocess.Popen[bytes]"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """Processes are worth it from the first byte; those that were started."""
    found: Started = []
    popen = subprocess.Popen

    def noted(*arguments: object, **options: object) -> "subprocess.Popen[bytes]":
        process = popen(*arguments, **options)  # type: ignore[call-overload]
        found.append(process)
        return process  # type: ignore[no-any-return]

    monkeypatch.setattr(reading, "WORTH_PROCESSES", 0)
    monkeypatch.setattr(subprocess, "Popen", noted)
    return found


class Counted(Silent):
    """Progress that adds up."""

    def __init__(self) -> None:
        self.count = 0

    def advance(self, count: int) -> None:
        self.count += count


def contents() -> list[Content]:
    """Some of it has faults that an audit finds."""
    zipped = "inner.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.pkl", b"cos\nsystem\n(S'true'\ntR.")
        archive.writestr("large.bin", os.urandom(3_000_000))
    return [
        bundles.wheels(
            "packages",
            dict(
                [
                    wheel("alpha", members={"alpha.pth": b"import os", "alpha/x.bin": os.urandom(3_000_000)}),
                    wheel("beta", licence="Proprietary"),
                    wheel("gamma"),
                ]
            ),
        ),
        image("engine", SYSTEM, [Entry("bin/su", b"\x7fELF" + bytes(100), 0o4755)], [Entry("opt/a", b"a")]),
        bundles.model("tiny", model_files(), repo="org/tiny"),
        bundles.file("zipped", Path(zipped).read_bytes(), zipped),
    ]


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return bundles.write_bundle(tmp_path / "bundle", contents())


def audited(bundle: Path, jobs: int, progress: Progress | None = None) -> Audit:
    with Media(bundle) as media:
        envelope = read_envelope(media)
        return audit_bundle(media, "", Judge(NOW), envelope, progress=progress or Silent(), jobs=jobs)


# ------------------------------------------------------------------ the same is found


def test_processes_find_what_threads_find_and_count_every_byte(bundle: Path, started: Started) -> None:
    counted = [Counted(), Counted()]
    threads = audited(bundle, 2, counted[0])
    assert not started
    assert audited(bundle, 4, counted[1]) == threads
    assert 1 < len(started) <= 4
    assert counted[0].count == counted[1].count > 6_000_000
    codes = {finding.code for finding in threads.findings}
    assert {"audit-startup-code", "audit-setuid", "audit-pickle-code"} <= codes


def test_bytes_that_are_not_the_signed_ones_are_found_as_by_threads(bundle: Path, started: Started) -> None:
    damaged, linked, gone = sorted(
        path
        for path in (bundle / "blobs" / "sha256").iterdir()
        if path.read_bytes().startswith((b"PK", b"\x1f\x8b"))
    )[:3]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    linked.rename(bundle.parent / "elsewhere")
    linked.symlink_to(bundle.parent / "elsewhere")
    gone.unlink()
    threads = audited(bundle, 1)
    assert len([one for one in threads.findings if one.code.startswith("integrity-")]) == 3
    assert audited(bundle, 4) == threads
    assert started


def test_volumes_and_sites_are_read_so_too(
    tmp_path: Path, bundle: Path, started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["split", str(bundle), "--size", "900kB", "-o", str(tmp_path / "volumes")]) == 0
    site = bundles.pin(tmp_path / "site")
    assert run(["install", str(bundle), "--site", str(site)]) == 0
    capsys.readouterr()

    def both(jobs: int) -> tuple[Audit, Audit]:
        with ExitStack() as stack:
            media = [stack.enter_context(Media(one)) for one in sorted((tmp_path / "volumes").iterdir())]
            assert len(media) > 2
            cut = audit_volumes(media, "", Judge(NOW), progress=Silent(), jobs=jobs)
        return cut, audit_site(Site(site), "", "", Judge(NOW), progress=Silent(), jobs=jobs)

    threads = both(2)
    assert not started
    assert both(4) == threads
    assert len(started) > 2


def test_the_directory_that_was_opened_is_read_whatever_has_its_name_now(
    tmp_path: Path, bundle: Path, started: Started
) -> None:
    threads = audited(bundle, 1)
    with Media(bundle) as media:
        envelope = read_envelope(media)
        bundle.rename(tmp_path / "moved")
        bundles.write_bundle(bundle, [bundles.file("other", b"other")])
        assert audit_bundle(media, "", Judge(NOW), envelope, progress=Silent(), jobs=4) == threads
    assert started


def test_what_was_not_worth_it_starts_none(
    bundle: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("a process"))
    audited(bundle, 4)


def test_each_byte_is_read_once_by_all_of_them_together(tmp_path: Path, started: Started) -> None:
    """By the count of system calls, to which a process that ended adds its own."""
    many = [wheel(f"w{n}", members={"x.bin": os.urandom(16_000_000)}) for n in range(4)]
    bundle = bundles.write_bundle(tmp_path / "bundle", [bundles.wheels("many", dict(many))])

    def counted() -> int:
        lines = Path("/proc/self/io").read_text().splitlines()
        return int(dict(line.split(": ") for line in lines)["rchar"])

    before = counted()
    found = audited(bundle, 4)
    modules = 6_000_000 * len(started)
    assert len(started) > 1
    assert found.totals.read <= counted() - before < found.totals.read + modules


# ------------------------------------------------------------------ errors and deaths


@contextmanager
def workers(stop: Event | None = None) -> Iterator[Workers[Task, tuple[object, str]]]:
    with Workers(work, "shared", stop or Event()) as found:
        yield found


def test_answers_and_errors_come_back_as_they_are() -> None:
    counted = Counted()
    with workers() as ours:
        with pytest.raises(InputError) as bad:
            ours.ask(Task("bad.whl"), counted)
        assert (bad.value.problems, bad.value.remedy) == (("one",), "do")
        with pytest.raises(NotAFileError):
            ours.ask(Task("link.whl"), counted)
        with pytest.raises(ValueError, match="defect") as defect:
            ours.ask(Task("defect.whl"), counted)
        assert "in work" in defect.value.__notes__[0]
        assert ours.ask(Task("good.whl"), counted) == ("shared", "good.whl")
    assert counted.count == 20


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("killed.whl", "was killed by SIGKILL"),
        ("exit.whl", "ended with exit code 3"),
        ("talks.whl", "was killed by SIGKILL"),
    ],
)
def test_one_that_dies_is_an_error_that_names_the_blob(name: str, how: str, started: Started) -> None:
    with workers() as ours, pytest.raises(HostError, match=f"{name}.*{how}") as error:
        ours.ask(Task(name), Silent())
    assert "--jobs" in error.value.remedy
    assert not any(map(alive, started))


def test_an_audit_ends_with_the_error_and_leaves_none(
    bundle: Path, started: Started, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reading, "_apart", killed_at_beta)
    assert run(["audit", str(bundle), "--jobs", "4", "-o", "evidence"]) == HostError.exit_code
    assert "beta-1.0-py3-none-any.whl: the process that looked into it was killed" in capsys.readouterr().err
    assert not Path("evidence").exists()
    assert started
    assert not any(map(alive, started))


def alive(process: "subprocess.Popen[bytes]") -> bool:
    """Whether a child of ours is there, if only as a zombie."""
    return Path(f"/proc/{process.pid}").exists()


# ------------------------------------------------------------------ interrupts


AUDIT = """
import sys
from airgap.audit import reading
from airgap.cli import main
from tests.audit.works import endless
reading.WORTH_PROCESSES, reading._apart = 0, endless
main()
"""


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_whoever_ends_the_audit_ends_them_all(
    tmp_path: Path, bundle: Path, sent: signal.Signals, code: int
) -> None:
    os.mkfifo(tmp_path / "pids")
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PIDS": str(tmp_path / "pids"), "PYTHONPATH": root}
    argv = [sys.executable, "-P", "-c", AUDIT, "audit", str(bundle), "--jobs", "3"]
    with ExitStack() as stack, (tmp_path / "stderr").open("wb") as stderr:
        audit = stack.enter_context(
            subprocess.Popen(
                argv, env=environment, stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True
            )
        )
        stack.callback(audit.kill)  # else what fails here would wait for it
        held = three_that_work(tmp_path / "pids", audit, stack)
        os.killpg(audit.pid, sent)  # as a terminal does
        assert audit.wait(60) == code
        for process in held:
            assert select.select([process], [], [], 60)[0], "it is still there"
    said = (tmp_path / "stderr").read_text()
    assert "Traceback" not in said
    assert ("interrupted" in said) == (sent == signal.SIGINT)


def three_that_work(pids: Path, audit: "subprocess.Popen[bytes]", stack: ExitStack) -> list[int]:
    """By descriptor, which the stack closes, as soon as all three have said so."""

    def closed(descriptor: int) -> int:
        stack.callback(os.close, descriptor)
        return descriptor

    fifo, ended = closed(os.open(pids, os.O_RDWR)), closed(os.pidfd_open(audit.pid))
    said = b""
    while said.count(b"\n") < 3:
        assert select.select([fifo, ended], [], [], 60)[0] == [fifo], "no three of them work"
        said += os.read(fifo, 100)
    return [closed(os.pidfd_open(int(pid))) for pid in said.split()]


def test_once_it_is_to_stop_none_is_started(started: Started) -> None:
    stop = Event()
    stop.set()
    with workers(stop) as ours, pytest.raises(Stopped):
        ours.ask(Task("good.whl"), Silent())
    assert not started


class Stopping(Silent):
    """Progress that sets `stop` at the first word of it."""

    def __init__(self, stop: Event) -> None:
        self.stop = stop

    def advance(self, count: int) -> None:
        self.stop.set()


def test_one_that_is_killed_because_all_stop_is_no_error_of_its_own(started: Started) -> None:
    stop = Event()
    with workers(stop) as ours, pytest.raises(Stopped):
        ours.ask(Task("stays.whl"), Stopping(stop))
    assert [process.returncode for process in started] == [-signal.SIGKILL]


# ------------------------------------------------------------------ where there can be none


def test_a_host_that_lets_none_start_is_audited_in_threads(
    bundle: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = audited(bundle, 1)

    def refused(*arguments: object, **options: object) -> None:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", refused)
    assert audited(bundle, 4) == threads


def test_in_the_one_file_installer_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes.possible()
    with zipfile.ZipFile(tmp_path / "installer.pyz", "w") as archive:
        archive.writestr("airgap/audit/processes.py", "")
    loader = zipimporter(str(tmp_path / "installer.pyz"))
    monkeypatch.setattr(processes, "__spec__", ModuleSpec(processes.__name__, cast(Loader, loader)))
    assert not processes.possible()


def test_modules_that_lie_on_the_medium_are_not_imported(bundle: Path) -> None:
    """`audit .` on a medium that brings an airgap, and a pickle, of its own."""
    for name in ("airgap", "pickle", "sitecustomize"):
        (bundle / f"{name}.py").write_text("open('imported', 'w')\n")
    code = (
        "from airgap.audit import reading; reading.WORTH_PROCESSES = 0; import airgap.cli; airgap.cli.main()"
    )
    argv = [sys.executable, "-P", "-c", code, "audit", ".", "--jobs", "4"]
    done = subprocess.run(argv, cwd=bundle, capture_output=True, text=True, check=False, timeout=120)
    assert "findings:" in done.stdout, done.stderr
    assert not (bundle / "imported").exists()
