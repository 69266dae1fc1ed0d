"""What a medium, a stream or a kill could do to a site while a bundle arrives; each once did."""

import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airgap.cli import run
from airgap.errors import InputError
from airgap.isolated import stream
from airgap.isolated.arrival import Arrival, arrivals
from airgap.isolated.receive import Received
from airgap.isolated.site import Site
from airgap.isolated.stream import receive_stream
from airgap.layout import record_name
from airgap.model import Sha256
from airgap.progress import Silent
from airgap.records import MAX_RECORDS
from airgap.volumes import Item, parse_list
from airgap.wanted import Held
from tests import bundles
from tests.isolated.sites import problems

BIG = 900_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bundle` in three `volumes`, its only large blob in ranges."""
    top = tmp_path_factory.mktemp("hostile")
    bundles.write_bundle(top / "bundle", [bundles.model("weights", {"big.bin": os.urandom(BIG)})])
    assert run(["split", str(top / "bundle"), "--size", "500kB", "-o", str(top / "volumes")]) == 0
    return top


@pytest.fixture
def bundle(made: Path) -> Path:
    return made / "bundle"


def airgap(*arguments: str | Path, site: Path) -> int:
    return run([*map(str, arguments), "--site", str(site)])


# ------------------------------------------------------------------ streams


def streamed(volumes: list[Path], *strange: tuple[str, bytes]) -> bytes:
    """Volumes as one stream; `strange` files come after the first statement."""
    out = io.BytesIO()

    def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))

    held = [
        {str(path.relative_to(volume)): path for path in volume.rglob("*") if path.is_file()}
        for volume in volumes
    ]
    everywhere = set.intersection(*map(set, held))
    order = ("bundle.dsse.json", "", "volume.json", "item", "SHA384SUMS")

    def place(path: str) -> tuple[int, str]:
        item = path.startswith(("parts/", "blobs/")) and path not in everywhere
        return order.index(path if path in order else "item" if item else ""), path

    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for volume, paths in zip(volumes, held, strict=True):
            for path in sorted(paths, key=place):
                add(tar, f"{volume.name}/{path}", paths[path].read_bytes())
                if path == "bundle.dsse.json" and volume == volumes[0]:
                    for name, data in strange:
                        add(tar, f"{volume.name}/{name}", data)
    return out.getvalue()


def receive(site: Path, data: bytes, code: int) -> dict[str, list[dict[str, object]]]:
    argv = [sys.executable, "-m", "airgap", "receive", "-", "--site", str(site), "--json"]
    done = subprocess.run(argv, input=data, capture_output=True, check=False)
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    found: dict[str, list[dict[str, object]]] = json.loads(done.stdout)
    return found


def test_a_stream_whose_names_are_deep_or_strange_gives_what_is_good_of_it(
    volumes: list[Path], site: Path
) -> None:
    deep = "/".join("a" * 1500)
    strange = [(deep, b"x"), ("notes.txt", b"x"), ("verify", b"x"), ("roots/a/b", b"x")]
    first, *_ = receive(site, streamed(volumes, *strange), 6)["volumes"]
    assert isinstance(first["findings"], list)
    assert {finding["subject"] for finding in first["findings"]} == {name for name, _ in strange}
    assert airgap("install", site=site) == 0


def test_files_that_nobody_signed_are_counted_not_listed_without_end(volumes: list[Path], site: Path) -> None:
    strange = [(f"x/{n}", b"") for n in range(3000)]
    first, *_ = receive(site, streamed(volumes, *strange), 6)["volumes"]
    assert isinstance(first["findings"], list)
    assert len(first["findings"]) == 1001
    assert "2000 more files" in first["findings"][-1]["message"]


@pytest.mark.parametrize("spoiled", ["bundle.dsse.json", "volume.json", "roots", "records"])
def test_one_bad_volume_of_a_stream_stops_no_other(volumes: list[Path], site: Path, spoiled: str) -> None:
    bad = volumes[1]
    if spoiled == "records":
        add_junk_records(bad, MAX_RECORDS + 1)
    elif spoiled == "roots":
        (bad / "roots").mkdir()
        for number in range(1001):
            (bad / "roots" / f"{number + 1}.root.json").touch()
    else:
        (bad / spoiled).write_bytes(b"{}")
    document = receive(site, streamed(volumes), 7 if spoiled == "bundle.dsse.json" else 6)
    assert [one["sound"] for one in document["volumes"]] == [True, False, True]
    (arrival,) = document["arrivals"]
    assert arrival["complete"] == (spoiled in ("records", "volume.json"))


def test_a_stream_of_volumes_without_their_lists_says_so(volumes: list[Path], site: Path) -> None:
    for volume in volumes:
        (volume / "SHA384SUMS").unlink()
    document = receive(site, streamed(volumes), 6)
    codes = [[finding["code"] for finding in one["findings"]] for one in document["volumes"]]  # type: ignore[attr-defined]
    assert codes == [["integrity-missing"]] * 3
    assert not list(site.glob("arrivals/*/ranges/*"))


def test_an_item_that_comes_twice_in_a_stream_is_a_finding_and_is_taken_once(
    volumes: list[Path], site: Path
) -> None:
    twice = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(streamed(volumes))) as tar,
        tarfile.open(fileobj=twice, mode="w", format=tarfile.PAX_FORMAT) as out,
    ):
        for member in tar:
            for _ in range(1 + ("/parts/" in member.name)):
                out.addfile(member, tar.extractfile(member))
    document = receive(site, twice.getvalue(), 6)
    for volume in document["volumes"]:
        assert isinstance(volume["findings"], list)
        assert [finding["code"] for finding in volume["findings"]] == ["integrity-unexpected"]
    assert airgap("install", site=site) == 0
    assert problems(site) == []


def many_ranges(bundle: Path) -> io.BytesIO:
    """One volume as a stream, its blob in ten ranges."""
    argv = [sys.executable, "-m", "airgap", "split", str(bundle), "--size", "stream", "--tar", "-o", "-"]
    return io.BytesIO(
        subprocess.run([*argv, "--file-limit", "100kB"], capture_output=True, check=True).stdout
    )


def take(sent: io.BytesIO, site: Path) -> Received:
    now = datetime.now(UTC).replace(microsecond=0)
    (received,) = receive_stream(sent, Site(site), now, asked="", progress=Silent()).volumes
    return received


def test_of_a_stream_no_more_ranges_wait_for_their_list_than_it_has_lines(
    bundle: Path, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_RANGES", 2)
    received = take(many_ranges(bundle), site)
    assert {finding.code for finding in received.findings} == {"integrity-unexpected"}
    assert len(list(site.glob("arrivals/*/ranges/*"))) == 2


@pytest.mark.parametrize("limit", ["MAX_DOCUMENTS", "MAX_DOCUMENT_FILES"])
def test_of_a_stream_no_more_documents_are_staged_than_any_volume_has(
    bundle: Path, site: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(stream, limit, 5)
    received = take(many_ranges(bundle), site)
    assert received.refused and "before volume.json" in received.refused.message
    assert not list(site.glob("arrivals/*")) + list((site / "staging").iterdir())


def test_a_pipe_that_cannot_be_read_is_the_hosts_fault_and_no_traceback(site: Path) -> None:
    argv = [sys.executable, "-m", "airgap", "receive", "-", "--site", str(site)]
    descriptor = os.open("/dev/null", os.O_WRONLY)
    done = subprocess.run(argv, stdin=descriptor, capture_output=True, text=True, check=False)
    os.close(descriptor)
    assert (done.returncode, "Traceback" in done.stderr) == (9, False), done.stderr
    closed = subprocess.run(
        ["sh", "-c", '"$@" <&-', "sh", *argv], capture_output=True, text=True, check=False
    )
    assert (closed.returncode, "Traceback" in closed.stderr) == (9, False), closed.stderr


# ------------------------------------------------------------------ volumes


def add_junk_records(volume: Path, count: int) -> None:
    (volume / "records").mkdir(exist_ok=True)
    for number in range(count):
        data = b"%d" % number
        (volume / "records" / record_name(data)).write_bytes(data)


def test_too_many_records_on_a_volume_are_a_finding_and_its_items_are_taken(
    volumes: list[Path], site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_junk_records(volumes[0], MAX_RECORDS + 1)
    assert airgap("receive", *volumes, site=site) == 6
    assert "more than 32 names" in capsys.readouterr().out
    assert airgap("install", site=site) == 0


def test_records_of_a_volume_are_hashed_one_at_a_time_and_not_beyond_their_number(
    volumes: list[Path], site: Path
) -> None:
    (volumes[0] / "records").mkdir()
    for number in range(300):
        with open(volumes[0] / "records" / f"{number:064x}.dsse.json", "wb") as out:
            out.truncate(4 * 1024 * 1024)
    argv = [sys.executable, "-m", "airgap", "verify", *map(str, volumes), "--site", str(site)]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (600 * 1024 * 1024, 600 * 1024 * 1024))

    done = subprocess.run(argv, capture_output=True, text=True, check=False, preexec_fn=limit)
    assert done.returncode == 6, done.stderr
    assert "more than 32 names" in done.stdout


def test_a_list_is_read_as_sha384sum_reads_it() -> None:
    line = b"0" * 96 + b"  a"
    assert list(parse_list(line + b"\n")) == ["a"]
    for data in (line + b"\x0b" + line + b"b\n", line + b"\r\n", line, line + b"\n\n", b"\n" * 1000):
        with pytest.raises(InputError):
            parse_list(data)


def test_very_many_ranges_take_no_quadratic_time() -> None:
    held = Held()
    begun = time.process_time()
    for number in range(40_000):
        item = Item(Sha256("a"), number * 10, 5, whole=False)
        held.add(item)
        assert held.covers(item)
    assert time.process_time() - begun < 5


# ------------------------------------------------------------------ arrivals


def the_arrival(site: Path) -> Arrival:
    (arrival,) = arrivals(Site(site))
    return arrival


@pytest.fixture
def careful() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_what_arrives_can_be_seen_by_others_whatever_the_umask(
    volumes: list[Path], site: Path, careful: None
) -> None:
    assert airgap("receive", *volumes[:2], site=site) == 10
    top = the_arrival(site).top
    for path in (top, *top.iterdir(), *(top / "bundle").rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_killed_while_documents_are_renewed_it_can_still_be_installed(
    volumes: list[Path], site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert airgap("receive", *volumes, site=site) == 0
    howto = the_arrival(site).bundle / "verify" / "HOWTO.txt"
    howto.write_text("an older text")

    child = os.fork()
    if child == 0:
        monkeypatch.setattr(os, "replace", lambda *paths: os._exit(9))
        airgap("receive", volumes[0], site=site)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 9 << 8
    howto.write_bytes((volumes[0] / "verify" / "HOWTO.txt").read_bytes())
    assert airgap("install", site=site) == 0
    assert problems(site) == []


def test_killed_before_its_last_blob_was_put_together_it_can_still_be_installed(
    volumes: list[Path], site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(Arrival, "_assemble", lambda *arguments: os._exit(9))
        airgap("receive", *volumes, site=site)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 9 << 8
    assert airgap("install", site=site) == 0
    assert problems(site) == []


def test_a_blob_that_was_cut_short_in_the_site_is_replaced_by_what_arrived(
    bundle: Path, volumes: list[Path], site: Path, tmp_path: Path
) -> None:
    assert airgap("install", bundle, site=site) == 0
    big = next(path for path in (site / "blobs" / "sha256").iterdir() if path.stat().st_size == BIG)
    big.chmod(0o644)
    os.truncate(big, 1000)
    data = next((bundle / "blobs" / "sha256").glob(big.name)).read_bytes()
    other = bundles.write_bundle(tmp_path / "b", [bundles.model("other", {"big.bin": data})], name="other")
    assert run(["split", str(other), "--size", "500kB", "-o", str(tmp_path / "v")]) == 0
    assert airgap("install", *sorted((tmp_path / "v").iterdir()), site=site) == 0
    assert hashlib.sha256(big.read_bytes()).hexdigest() == big.name


def test_what_was_installed_from_elsewhere_arrives_no_more(
    bundle: Path, volumes: list[Path], site: Path
) -> None:
    assert airgap("receive", *volumes[:2], site=site) == 10
    assert airgap("install", bundle, site=site) == 0
    assert arrivals(Site(site)) == []
    assert airgap("receive", *volumes[:2], site=site) == 0
    assert airgap("install", bundle, site=site) == 0
    assert arrivals(Site(site)) == []


def test_an_arrival_that_was_superseded_stops_no_other(
    bundle: Path, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, sequence in (("quickstart", 2), ("quickstart", 3), ("other", 1)):
        made = tmp_path / f"{name}{sequence}"
        bundles.write_bundle(made, [bundles.file(name, os.urandom(9000))], name=name, sequence=sequence)
        assert run(["split", str(made), "--size", "500kB", "-o", f"{made}-volumes"]) == 0
        assert airgap("receive", *Path(f"{made}-volumes").iterdir(), site=site) == 0
    assert airgap("install", site=site) == 0
    assert {held.name: held.sequence for held in Site(site).record().bundles} == {"quickstart": 3, "other": 1}
    (older,) = arrivals(Site(site))  # until it is forgotten
    capsys.readouterr()
    assert airgap("status", site=site) == 0
    said = capsys.readouterr().out
    assert f"arriving, {older.payload[:12]}: quickstart 2026.11, channel quickstart, sequence 2" in said
    assert "no install takes it" in said and f"airgap receive --forget {older.payload[:12]}" in said
    assert airgap("status", "--json", site=site) == 0
    assert json.loads(capsys.readouterr().out)["arriving"][0]["superseded"]
    assert airgap("install", site=site) == 10
