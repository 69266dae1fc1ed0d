"""Real wheels as the public index serves them, by range; and the same ranges recorded, to be read offline.

`python -m tests.readers.recordings` records anew what the readers ask for. A recording holds the bytes of
those ranges and nothing else, so a reader that asks for others fails.
"""

import json
import lzma
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from airgap.connected.ranges import RemoteSource
from airgap.connected.transfer import Transfer
from airgap.decode import Fields, parse_json
from airgap.progress import Silent
from airgap.readers.source import Source, inside
from airgap.readers.zip import Archive
from airgap.store import Store

DIRECTORY = Path(__file__).parents[1] / "data" / "readiness"

VLLM = {
    version: f"vllm-{version}-cp38-abi3-manylinux_2_31_x86_64.whl"
    for version in ("0.17.1", "0.19.0", "0.19.1")
}
VLLM["0.33.0"] = "vllm-0.33.0-cp38-abi3-manylinux_2_28_x86_64.whl"
TRANSFORMERS = {
    version: f"transformers-{version}-py3-none-any.whl"
    for version in ("4.57.6", "5.5.0", "5.5.4", "5.19.0", "5.23.0")
}


@dataclass(frozen=True)
class Offered:
    """A file as the index lists it."""

    url: str
    size: int
    sha256: str


@cache
def _offers(project: str, transfer: Transfer) -> dict[str, Offered]:
    """Every file of a project, over the index's JSON (PEP 691)."""
    accept = {"Accept": "application/vnd.pypi.simple.v1+json"}
    url = f"https://pypi.org/simple/{project}/"
    reply = transfer.get(url, what=project, max_bytes=64 << 20, headers=accept)
    page = Fields(parse_json(reply.body, project, floats=True))
    return {
        file.text("filename"): Offered(
            file.text("url"), file.integer("size"), file.table("hashes").text("sha256")
        )
        for file in page.tables("files")
    }


class Online:
    """Wheels on the public index; `sources` counts the traffic."""

    def __init__(self, directory: Path) -> None:
        self._transfer = Transfer(Store(directory), Silent())
        self.sources: dict[str, RemoteSource] = {}

    def open(self, file: str) -> Archive:
        if file not in self.sources:
            offered = _offers(file.partition("-")[0], self._transfer)[file]
            self.sources[file] = RemoteSource(
                offered.url, self._transfer, size=offered.size, digest=offered.sha256
            )
        return Archive(self.sources[file], file)

    @property
    def traffic(self) -> int:
        return sum(source.traffic for source in self.sources.values())


class _Sparse:
    """The recorded ranges of one file."""

    def __init__(self, digest: str, size: int, ranges: dict[int, bytes]) -> None:
        self.digest = digest
        self.size = size
        self._ranges = ranges

    def read(self, start: int, count: int) -> bytes:
        inside(self.size, start, count, "recording")
        for begin, data in self._ranges.items():
            if begin <= start and start + count <= begin + len(data):
                return data[start - begin :][:count]
        raise AssertionError(f"bytes {start} to {start + count} were not recorded")


class Replay:
    """The recorded wheels."""

    def __init__(self) -> None:
        self._data = lzma.decompress((DIRECTORY / "ranges.xz").read_bytes())
        self._index = json.loads((DIRECTORY / "index.json").read_text())

    def open(self, file: str) -> Archive:
        recorded = self._index[file]
        ranges = {begin: self._data[at : at + count] for begin, count, at in recorded["ranges"]}
        return Archive(_Sparse(recorded["sha256"], recorded["size"], ranges), file)


class _Recorder:
    """A source that remembers what was asked of it."""

    def __init__(self, inner: Source) -> None:
        self._inner = inner
        self.size, self.digest = inner.size, inner.digest
        self.asked: list[tuple[int, int]] = []

    def read(self, start: int, count: int) -> bytes:
        self.asked.append((start, start + count))
        return self._inner.read(start, count)

    def ranges(self) -> list[tuple[int, int]]:
        """What was asked for, joined where it touches."""
        joined: list[tuple[int, int]] = []
        for begin, end in sorted(self.asked):
            if joined and begin <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((begin, end))
        return joined


class _Recording(Online):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.recorders: dict[str, _Recorder] = {}

    def open(self, file: str) -> Archive:
        super().open(file)
        recorder = self.recorders.setdefault(file, _Recorder(self.sources[file]))
        return Archive(recorder, file)


def main() -> None:
    from tests.readers.test_field_note import read_everything

    with TemporaryDirectory() as directory:
        wheels = _Recording(Path(directory))
        read_everything(wheels)
        index, data = {}, bytearray()
        for file, recorder in sorted(wheels.recorders.items()):
            ranges = []
            for begin, end in recorder.ranges():
                ranges.append([begin, end - begin, len(data)])
                data += recorder.read(begin, end - begin)
            index[file] = {"sha256": recorder.digest, "size": recorder.size, "ranges": ranges}
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    (DIRECTORY / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    (DIRECTORY / "ranges.xz").write_bytes(lzma.compress(bytes(data), preset=9 | lzma.PRESET_EXTREME))
    print(f"{len(index)} wheels, {len(data)} bytes of them, {wheels.traffic} bytes of traffic")


if __name__ == "__main__":
    main()
