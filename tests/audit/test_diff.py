"""`airgap diff` on real bundles, sites and locks: what changed, how far, and what would travel."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from airgap.audit.difference import new_findings
from airgap.audit.distance import distance
from airgap.cli import run
from airgap.lock import parse_lock, render_lock
from airgap.model import Finding, Severity
from tests import bundles
from tests.audit.test_page import Reader
from tests.servers.index import make_wheel


def shards(**tensors: tuple[str, Sequence[int], bytes]) -> bytes:
    """A safetensors file; each tensor as dtype, shape and bytes."""
    header: dict[str, object] = {}
    data = b""
    for name, (dtype, shape, content) in tensors.items():
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
        data += content
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def licensed(name: str, version: str, licence: str = "MIT", body: str = "") -> tuple[str, bytes]:
    return make_wheel(name, version, requires=[body] if body else [], licence=licence)


OLD_WHEELS = [
    licensed("alpha", "1.2.3"), licensed("beta", "2.0"), licensed("gone", "1.0", "ISC"),
    licensed("same", "1.0"), licensed("rebuilt", "3.1"),
]  # fmt: skip
NEW_WHEELS = [
    licensed("alpha", "1.4.0", "GPL-3.0-only"), licensed("beta", "2.0rc1"), licensed("new", "0.1"),
    licensed("same", "1.0"), licensed("rebuilt", "3.1", body="alpha"),
]  # fmt: skip

OLD_MODEL = {
    "config.json": b"{}",
    "a.safetensors": shards(
        kept=("F32", [2], b"12345678"),
        other=("F32", [1], b"aaaa"),
        cast=("F32", [1], b"cccc"),
        left=("U8", [1], b"l"),
    ),
    "b.safetensors": shards(still=("U8", [3], b"xyz")),
}
NEW_MODEL = {
    "config.json": b"{ }",
    # `kept` moved behind another tensor; its bytes are the same.
    "a.safetensors": shards(
        other=("F32", [1], b"bbbb"),
        kept=("F32", [2], b"12345678"),
        cast=("BF16", [2], b"cccc"),
        came=("U8", [1], b"n"),
    ),
    "b.safetensors": shards(still=("U8", [3], b"xyz")),
}


@pytest.fixture
def before(tmp_path: Path) -> Path:
    contents = [
        bundles.wheels("serving", dict(OLD_WHEELS)),
        bundles.model("tiny", OLD_MODEL, repo="example/tiny", commit="a" * 40),
        bundles.file("notes", b"the same"),
        bundles.file("old", b"no more", path="old.txt"),
    ]
    return bundles.write_bundle(tmp_path / "before", contents, version="1")


@pytest.fixture
def after(tmp_path: Path) -> Path:
    contents = [
        bundles.wheels("serving", dict(NEW_WHEELS)),
        bundles.model("tiny", NEW_MODEL, repo="example/tiny", commit="b" * 40),
        bundles.file("notes", b"the same"),
        bundles.file("fresh", b"one more", path="fresh.txt"),
    ]
    return bundles.write_bundle(tmp_path / "after", contents, version="2", sequence=2)


def compared(capsys: pytest.CaptureFixture[str], *arguments: Path | str) -> dict[str, Any]:
    assert run(["diff", *map(str, arguments), "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def artifact(document: Mapping[str, Any], name: str) -> Any:
    [found] = [one for one in document["artifacts"] if one["name"] == name]
    return found


def test_artifacts_are_added_removed_changed_or_the_same(
    before: Path, after: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = compared(capsys, before, after)
    assert {one["name"]: one["state"] for one in document["artifacts"]} == {
        "serving": "changed", "tiny": "changed", "notes": "same", "fresh": "added", "old": "removed",
    }  # fmt: skip
    facts = {fact["what"]: (fact["before"], fact["after"]) for fact in artifact(document, "tiny")["facts"]}
    assert facts == {"commit": ("a" * 40, "b" * 40)}


def test_versions_move_by_a_distance(before: Path, after: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moves = {one["name"]: one for one in artifact(compared(capsys, before, after), "serving")["packages"]}
    assert set(moves) == {"alpha", "beta", "gone", "new", "rebuilt"}
    assert moves["alpha"]["distance"] == "2 minors up"
    assert moves["beta"]["distance"] == "pre-release, down"
    assert (moves["gone"]["after"], moves["new"]["before"]) == (None, None)
    assert moves["rebuilt"]["rebuilt"] is True
    assert not any(moves[name]["rebuilt"] for name in ("alpha", "beta", "gone", "new"))


def test_licences_are_read_inside_the_wheels(
    before: Path, after: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = compared(capsys, before, after)
    assert document["licences_added"] == [{"licence": "GPL-3.0-only", "subjects": ["serving: alpha"]}]
    assert document["licences_removed"] == [{"licence": "ISC", "subjects": ["serving: gone"]}]


def test_one_licence_in_two_spellings_is_no_new_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = [
        bundles.write_bundle(
            tmp_path / version,
            [bundles.wheels("serving", dict([licensed("one", version, said)]))],
            version=version,
        )
        for version, said in (("1", "Apache 2.0"), ("2", "Apache-2.0"))
    ]
    document = compared(capsys, *sides)
    assert (document["licences_added"], document["licences_removed"]) == ([], [])


def test_what_would_travel_is_what_the_first_side_lacks(
    before: Path, after: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = compared(capsys, before, after)
    changed = {name: data for name, data in NEW_WHEELS if data not in dict(OLD_WHEELS).values()}
    lacking = [*changed.values(), NEW_MODEL["config.json"], NEW_MODEL["a.safetensors"], b"one more"]
    had, has = ({path.name: path for path in (side / "blobs/sha256").iterdir()} for side in (before, after))
    travel = {name: path.read_bytes() for name, path in has.items() if name not in had}
    assert set(lacking) <= set(travel.values())  # and the documents that describe them
    assert document["travel"] == {"blobs": len(travel), "bytes": sum(map(len, travel.values()))}


def test_tensors_are_compared_by_their_headers(
    before: Path, after: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = artifact(compared(capsys, before, after), "tiny")["tensors"]
    assert (tensors["added"], tensors["removed"]) == (["came"], ["left"])
    assert tensors["reshaped"] == [{"name": "cast", "before": "F32 1", "after": "BF16 2"}]
    assert (tensors["changed"], tensors["not_compared"], tensors["same"]) == (None, 2, 1)


def test_tensors_are_compared_by_their_bytes(
    before: Path, after: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = artifact(compared(capsys, before, after, "--tensors"), "tiny")["tensors"]
    assert (tensors["changed"], tensors["not_compared"], tensors["same"]) == (["other"], 0, 2)


def test_a_damaged_file_of_weights_is_said_and_nothing_is_guessed(
    before: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = bundles.model("tiny", OLD_MODEL | {"a.safetensors": b"no header"}, repo="example/tiny")
    damaged = bundles.write_bundle(tmp_path / "damaged", [model])
    tensors = artifact(compared(capsys, before, damaged), "tiny")["tensors"]
    assert len(tensors["unread"]) == 1
    assert (tensors["added"], tensors["removed"], tensors["changed"]) == ([], [], None)


def test_a_bundle_against_a_site(
    before: Path, after: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The site holds another bundle, too: it is not compared, and what it holds need not travel."""
    site = bundles.pin(tmp_path / "site")
    other = bundles.write_bundle(tmp_path / "other", [bundles.file("apart", b"one more")], name="other")
    assert run(["install", str(before), str(other), "--site", str(site)]) == 0
    capsys.readouterr()
    document = compared(capsys, site, after)
    assert "apart" not in {one["name"] for one in document["artifacts"]}
    assert artifact(document, "fresh")["state"] == "added"
    assert document["travel"]["blobs"] == compared(capsys, before, after)["travel"]["blobs"] - 1
    back = compared(capsys, after, site)
    assert artifact(back, "old")["state"] == "added"
    assert "apart" not in {one["name"] for one in back["artifacts"]}


def test_locks_are_compared_without_any_byte(
    before: Path, after: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = []
    for bundle in (before, after):
        blobs = [path.read_bytes() for path in (bundle / "blobs" / "sha256").iterdir()]
        [data] = [blob for blob in blobs if blob.startswith(b'{\n "format"')]
        path = tmp_path / f"{bundle.name}.lock.json"
        path.write_bytes(render_lock(parse_lock(data, "lock")))
        paths.append(path)
    document = compared(capsys, *paths)
    assert artifact(document, "serving")["packages"][0]["distance"] == "2 minors up"
    assert artifact(document, "tiny")["tensors"] is None
    assert document["licences_added"] == []
    assert "not looked for in a lock" in document["notes"][0]
    assert run(["diff", *map(str, paths), "--findings"]) == 2


def test_a_finding_of_other_code_is_a_new_one() -> None:
    """Same place, same message: what runs is in the evidence. A layer's digest there is no news."""

    def findings(line: str, layer: str) -> list[Finding]:
        return [
            Finding("audit-startup-code", Severity.WARNING, "x.pth", "line 1 runs at every start", line),
            Finding("audit-remote-code", Severity.WARNING, "tiny", "2 files or classes", line),
            Finding("audit-setuid", Severity.WARNING, "bin/su", "runs as root", layer),
        ]

    before, after = findings("import a", "layer a"), findings("import b", "layer b")
    assert new_findings(before, after) == (tuple(after[:2]), tuple(before[:2]))
    assert new_findings(before, before) == ((), ())


def test_findings_that_are_new_and_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both sides are audited; that nobody judged the signatures is no finding here."""
    pickle = b"\x80\x04cos\nsystem\n(S'x'\ntR."
    old = bundles.write_bundle(
        tmp_path / "old", [bundles.file("kept", b"x"), bundles.file("bad", pickle, path="a.bin")]
    )
    new = bundles.write_bundle(
        tmp_path / "new", [bundles.file("kept", b"x"), bundles.file("worse", pickle, path="b.bin")]
    )
    assert compared(capsys, old, new)["findings"] is None
    found = compared(capsys, old, new, "--findings")["findings"]
    assert {one["subject"] for one in found["new"]} == {"worse: b.bin"}
    assert {one["subject"] for one in found["gone"]} == {"bad: a.bin"}
    assert compared(capsys, old, old, "--findings")["findings"] == {"new": [], "gone": []}
    site = bundles.pin(tmp_path / "site")
    assert run(["install", str(old), "--site", str(site)]) == 0
    capsys.readouterr()
    assert {one["subject"] for one in compared(capsys, site, new, "--findings")["findings"]["new"]} == {
        "worse: b.bin"
    }
    assert run(["diff", str(old), str(new), "--findings"]) == 0
    shown = capsys.readouterr().out
    assert "new finding: error: worse: b.bin" in shown
    assert "finding gone: bad: a.bin" in shown


def test_nothing_changed(before: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = compared(capsys, before, before)
    assert {one["state"] for one in document["artifacts"]} == {"same"}
    assert document["travel"] == {"blobs": 0, "bytes": 0}


def test_a_person_reads_a_few_lines_and_a_page(
    before: Path, after: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    html = tmp_path / "changes.html"
    assert run(["diff", str(before), str(after), "--tensors", "--html", str(html)]) == 0
    shown = capsys.readouterr().out
    for line in (
        "quickstart 1 (bundle) -> quickstart 2 (bundle)",
        "~ alpha 1.2.3 -> 1.4.0  2 minors up",
        "! rebuilt 3.1: the same version, other bytes",
        "tensors with other bytes: other",
        "new licence: GPL-3.0-only (serving: alpha)",
        "distances are by version numbers",
    ):
        assert line in shown
    page = Reader(html.read_text())
    assert not {"script", "link", "img", "iframe"} & (set(page.elements) - {"link"})
    for text in ("2 minors up", "same version, other bytes", "GPL-3.0-only", "F32 1 → BF16 2"):
        assert text in page.shown


def test_any_volume_stands_for_the_lock_of_its_bundle(
    before: Path, after: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["split", str(after), "--size", "330kB", "-o", str(tmp_path / "discs")]) == 0
    capsys.readouterr()
    whole = compared(capsys, before, after)
    for volume in sorted((tmp_path / "discs").iterdir()):
        found = compared(capsys, before, volume)
        assert [(one["name"], one["state"]) for one in found["artifacts"]] == [
            (one["name"], one["state"]) for one in whole["artifacts"]
        ]
        assert (found["travel"], found["shared_bytes"]) == (whole["travel"], whole["shared_bytes"])
        assert found["notes"] == ["licences of wheels and tensors of models: not looked for in a volume"]
    assert run(["diff", str(before), str(volume), "--findings"]) == 2
    assert "airgap audit takes all volumes together" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_what_is_no_side_is_refused(name: str, before: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run(["diff", str(before), str(tmp_path / name)]) == 3


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("1.2.3", "1.2.4", "1 patch up"), ("1.2", "1.2.2", "2 patches up"), ("2.0", "1.9", "1 major down"),
        ("1.2.3.1", "1.2.3.4", "3 part 4 up"), ("1.0", "1.0.post1", "post-release, up"),
        ("1!1", "2", "another epoch, down"),
        ("1.0+cu121", "1.0+cu124", "local label, up"), ("1.0a1", "1.0a2", "pre-release, up"),
        ("1.0", "1.0.0", ""),
        ("latest", "1.0", ""),
    ],
)  # fmt: skip
def test_distances(before: str, after: str, expected: str) -> None:
    assert distance(before, after) == expected
