"""Patches: a blob that shares most of its bytes with blobs of the base travels as what is new in it."""

import hashlib
import io
import json
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.errors import InputError
from airgap.model import Sha256
from airgap.patch import LITERAL, Piece, Recipe, apply, merged, read_header, render_header
from airgap.units import human_bytes
from tests.delta.chain import Sides, shipped
from tests.isolated.sites import problems, snapshot

SIZE = 2_000_000


def weights(seed: int) -> bytes:
    return random.Random(seed).randbytes(SIZE)


def tuned(data: bytes) -> bytes:
    """A fine-tune of some layer in the middle, behind a header that grew."""
    return (
        b"longer header"
        + data[: SIZE // 2]
        + random.Random(99).randbytes(200_000)
        + data[SIZE // 2 + 200_000 :]
    )


def name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Tuning(Sides):
    """Release 1 has the weights, release 2 a fine-tune of them."""

    def lock(self, number: int) -> None:
        data = weights(1) if number == 1 else tuned(weights(1))
        self.stage.write("notes.txt", f"release {number}\n")
        self.stage.write("model/config.json", "{}")
        self.stage.write("model/model.bin", data)
        path = self.stage.manifest(
            '\n[[files]]\nname = "notes"\npath = "notes.txt"\n[[models]]\nname = "tuned"\npath = "model"\n'
        )
        path.write_text(path.read_text().replace('version = "1"', f'version = "{number}"'))
        self.stage.run("lock", "demo.toml")


@pytest.fixture
def sides(tmp_path: Path) -> Tuning:
    made = Tuning.at(tmp_path)
    assert isinstance(made, Tuning)
    made.site()
    made.release(1)
    made.install(1)
    return made


def patched(sides: Tuning) -> None:
    built = sides.release(2, "--base", sides.inventory()["id"], "--patch")
    assert ": 1 blob of 2.0 MB" in built.out and "no patches" not in built.out


def test_a_fine_tune_travels_as_its_new_bytes_and_arrives_whole(sides: Tuning) -> None:
    patched(sides)
    bundle = sides.bundle(2)
    assert name_of(tuned(weights(1))) not in shipped(bundle)
    assert sum(path.stat().st_size for path in (bundle / "blobs" / "sha256").iterdir()) < 500_000
    sides.stage.run("verify", bundle, "--site", "site")
    sides.install(2)
    site = sides.stage.directory / "site"
    assert (site / "current" / "models" / "tuned" / "model.bin").read_bytes() == tuned(weights(1))
    assert problems(site) == []
    sides.stage.run("status", "--site", "site", "--verify")


def test_nothing_of_a_patch_stays_on_the_site(sides: Tuning) -> None:
    patched(sides)
    sides.install(2)
    site = sides.stage.directory / "site"
    stated = sides.stage.run("inspect", sides.bundle(2), "--json").document
    assert len(shipped(sides.bundle(2)) - shipped(site)) == 1  # the patch
    assert list((site / "staging").iterdir()) == []
    assert list(stated["base"]["patched"]) == [name_of(tuned(weights(1)))]


def test_the_same_base_gives_the_same_patch(sides: Tuning) -> None:
    base = sides.inventory()["id"]
    sides.release(2, "--base", base, "--patch")
    first = shipped(sides.bundle(2))
    sides.release(2, "--base", base, "--patch", "--replace", lock=False)
    assert shipped(sides.bundle(2)) == first


def test_without_its_source_it_is_refused_and_nothing_is_touched(sides: Tuning) -> None:
    patched(sides)
    sides.site("other")
    other = sides.stage.directory / "other"
    before = snapshot(other)
    refused = sides.install(2, "other", code=10)
    assert (
        f"what a patch makes into model tuned: model.bin: {human_bytes(SIZE)}, sha256 {name_of(weights(1))}"
        in (refused.err.replace("\n    ", "\n"))
    )
    assert snapshot(other) == before


def test_a_source_that_changed_on_the_site_makes_nothing(sides: Tuning) -> None:
    patched(sides)
    site = sides.stage.directory / "site"
    source = site / "blobs" / "sha256" / name_of(weights(1))
    data = bytearray(source.read_bytes())
    data[SIZE // 4] ^= 1
    source.chmod(0o644)
    source.write_bytes(data)
    before = (site / "current").readlink()
    refused = sides.install(2, code=6)
    assert "what its patch makes of the site's blobs is not what was signed" in refused.err
    assert (site / "current").readlink() == before
    assert name_of(tuned(weights(1))) not in shipped(site)


def test_again_after_gc_took_the_source_changes_nothing(sides: Tuning) -> None:
    patched(sides)
    sides.install(2)
    sides.stage.run("gc", "--site", "site", "--keep", "1")
    assert name_of(weights(1)) not in shipped(sides.stage.directory / "site")
    assert "already installed" in sides.install(2).out


def test_again_when_blob_and_source_are_lost_the_source_is_asked_for(sides: Tuning) -> None:
    patched(sides)
    sides.install(2)
    sides.stage.run("gc", "--site", "site", "--keep", "1")
    made = sides.stage.directory / "site" / "blobs" / "sha256" / name_of(tuned(weights(1)))
    data = bytearray(made.read_bytes())
    data[SIZE // 4] ^= 1
    made.chmod(0o644)
    made.write_bytes(data)
    assert name_of(weights(1)) in sides.install(2, code=10).err


def test_a_damaged_patch_is_a_finding_like_any_blob(sides: Tuning) -> None:
    patched(sides)
    stated = json.loads(sides.stage.run("inspect", sides.bundle(2), "--json").out)
    (patch,) = [
        path
        for path in (sides.bundle(2) / "blobs" / "sha256").iterdir()
        if 200_000 < path.stat().st_size < 500_000
    ]
    data = bytearray(patch.read_bytes())
    data[-1] ^= 1
    patch.chmod(0o644)
    patch.write_bytes(data)
    assert patch.name in sides.stage.run("verify", sides.bundle(2), "--site", "site", code=6).out
    assert sides.install(2, code=6).code == 6
    assert stated["blobs"] == len(shipped(sides.bundle(2)))


def test_plan_says_of_how_much_a_patch_may_make_less(sides: Tuning) -> None:
    base = sides.inventory()["id"]
    sides.lock(2)
    said = sides.stage.run("plan", "demo.toml", "--base", base).out
    assert "build --patch may make less of 2.0 MB of them" in said
    assert sides.stage.run("plan", "demo.toml", "--base", base, "--json").document["patchable"] == len(
        tuned(weights(1))
    )
    assert "--patch" not in sides.stage.run("plan", "demo.toml").out


def test_nothing_is_made_of_a_blob_that_the_store_has_damaged(sides: Tuning) -> None:
    directory = sides.stage.directory
    shutil.copy(directory / "demo.lock.json", directory / "first.lock.json")  # it states no bytes
    blob = next(directory.rglob(f"cache/blobs/sha256/{name_of(weights(1))}"))
    data = bytearray(blob.read_bytes())
    data[10] ^= 1
    blob.unlink()
    blob.write_bytes(data)
    built = sides.release(2, "--base", "first.lock.json", "--patch")
    assert "no patches" in built.out
    assert name_of(tuned(weights(1))) in shipped(sides.bundle(2))


def test_patch_without_base_is_wrong_usage(sides: Tuning) -> None:
    assert "--patch compares" in sides.release(2, "--patch", code=2).err


def test_what_shares_too_little_travels_whole(sides: Tuning) -> None:
    base = sides.inventory()["id"]
    sides.lock(2)
    sides.stage.write("model/model.bin", weights(7))
    sides.stage.run("lock", "demo.toml")
    built = sides.release(2, "--base", base, "--patch", lock=False)
    assert "no patches: no large blob shares a fifth" in built.out
    assert name_of(weights(7)) in shipped(sides.bundle(2))


# ------------------------------------------------------------------ the format

OLD = bytes(range(256)) * 8
SOURCE = Sha256("1" * 64)


@st.composite
def recipes(draw: st.DrawFn) -> tuple[Recipe, bytes]:
    """A recipe over OLD and its literal bytes, as a maker would number them."""
    literals = b""
    pieces = []
    for _ in range(draw(st.integers(1, 20))):
        if draw(st.booleans()):
            offset = draw(st.integers(0, len(OLD) - 1))
            pieces.append(Piece(1, offset, draw(st.integers(1, len(OLD) - offset))))
        else:
            data = draw(st.binary(min_size=1, max_size=30))
            pieces.append(Piece(LITERAL, len(literals), len(data)))
            literals += data
    return Recipe(sum(piece.length for piece in pieces), (SOURCE,), tuple(pieces)), literals


def made(recipe: Recipe, literals: bytes) -> bytes:
    out = io.BytesIO()

    def read(source: int, buffer: memoryview, offset: int) -> int:
        data = (literals if source == LITERAL else OLD)[offset : offset + len(buffer)]
        buffer[: len(data)] = data
        return len(data)

    def write(data: memoryview) -> None:
        out.write(data)

    apply(recipe, read, write)
    return out.getvalue()


@given(recipes())
def test_a_header_reads_back_and_merging_changes_nothing(drawn: tuple[Recipe, bytes]) -> None:
    recipe, literals = drawn
    data = render_header(recipe) + literals
    stream = io.BytesIO(data)
    assert read_header(stream, {SOURCE: len(OLD)}, len(data)) == recipe
    assert stream.read() == literals
    fewer = Recipe(recipe.size, recipe.sources, tuple(merged(recipe.pieces)))
    assert made(fewer, literals) == made(recipe, literals)
    assert len(made(recipe, literals)) == recipe.size


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ((Piece(2, 0, 1),), "names source 2 of 1"),
        ((Piece(1, len(OLD), 1),), f"takes 1 bytes at {len(OLD)} of {len(OLD)}"),
        ((Piece(LITERAL, 0, 11),), "takes 11 bytes at 0 of 10"),
        ((Piece(1, 0, 0),), "takes 0 bytes"),
        ((Piece(1, 0, 5),), "do not add up to the 10 bytes"),
    ],
)
def test_a_piece_outside_of_its_source_is_refused(pieces: tuple[Piece, ...], said: str) -> None:
    data = render_header(Recipe(10, (SOURCE,), pieces)) + b"0123456789"
    with pytest.raises(InputError, match=said):
        read_header(io.BytesIO(data), {SOURCE: len(OLD)}, len(data))


@pytest.mark.parametrize("length", [0, 5, 2**40, 2**63])
def test_a_header_longer_than_its_patch_is_refused(length: int) -> None:
    data = length.to_bytes(8, "little") + b"{}"
    with pytest.raises(InputError):
        read_header(io.BytesIO(data), {}, len(data))
