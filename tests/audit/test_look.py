"""What is seen inside of one blob, and where looking ends."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import pickle
import sys
import zipfile
import zlib
from collections.abc import Callable

import pytest
import zstandard

from airgap.audit import findings
from airgap.audit.look import Contents, Looker, Noticed, Role
from airgap.audit.streams import Budget, Peeking
from airgap.audit.types import HEAD, recognised
from airgap.errors import InputError
from airgap.readers.source import BytesSource
from airgap.readers.tar import TarStream
from airgap.readers.zip import Archive
from tests.audit.faults import HARMLESS, MALICIOUS
from tests.readers.images import tar

ELF = b"\x7fELF" + bytes(60)


def zipped(stored: bool = False, /, **members: bytes) -> bytes:
    """A zip of these members; `__` in a name is a `/`."""
    compression = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name.replace("__", "/")), data, compression)
    return out.getvalue()


def look(data: bytes, role: Role = Role.FILE, name: str = "given") -> Contents:
    looker = Looker(role, name, len(data), lambda path, depth: 0)
    kind = recognised(lambda count: data[:count], len(data), name)
    looker.seen.type = kind
    if kind == "zip":
        looker.archive(Archive(BytesSource(data), name))
    else:
        looker.forward(Peeking(io.BytesIO(data), lambda piece: None), kind, len(data))
    return looker.seen


def codes(seen: Contents) -> list[tuple[str, str]]:
    return [(one.rule.code, one.path) for one in seen.noticed]


def only(seen: Contents) -> Noticed:
    [one] = seen.noticed
    return one


def test_every_file_is_listed_with_its_digest_however_deep() -> None:
    inner = zipped(pkg__data=b"deep")
    blob = gzip.compress(tar([("dir/inner.zip", inner), ("plain", b"text\n")]))
    seen = look(blob)
    assert {one.path: (one.type, one.size, one.depth) for one in seen.inner} == {
        "dir/inner.zip!pkg/data": ("text", 4, 2),
        "dir/inner.zip": ("zip", len(inner), 1),
        "plain": ("text", 5, 1),
    }
    assert all(len(one.sha256) == 64 for one in seen.inner)
    [deep] = [one for one in seen.inner if one.path.endswith("data")]
    assert deep.sha256 == hashlib.sha256(b"deep").hexdigest()
    assert not seen.noticed


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("damage", range(12))
def test_what_is_small_is_seen_as_what_streams(
    role: Role, damage: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "a": b"",
        "b.pth": b"import os\n",
        "c.json": b'{"class_name": "Lambda"}',
        "d.png": ELF,
        "e": MALICIOUS,
        "f": gzip.compress(tar([("etc/passwd", b"root:x:0:0::/:\n"), ("x", zipped(y=b"text"))]), mtime=0),
        "g": b"-----BEGIN PRIVATE KEY-----\n",
        "h": b"\x89HDF\r\n\x1a\n" + b'"class_name": "Lambda"',
        "i": bytes(300_000),
    }
    packed = zipped(**files) if role is not Role.LAYER else b""
    blob = bytearray(packed or gzip.compress(tar([*files.items()]), mtime=0))
    if damage:
        blob[len(blob) * damage // 13] ^= 0x55
    try:
        small = look(bytes(blob), role)
    except InputError:
        return  # its directory is damaged: nothing is looked at
    monkeypatch.setattr(Archive, "whole", lambda archive, member: None)
    monkeypatch.setattr(TarStream, "held", lambda tar: None)
    assert look(bytes(blob), role) == small
    assert damage or len(small.inner) == len(files) + 3


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_file_that_is_compressed_alone_is_looked_into(compress: Callable[[bytes], bytes]) -> None:
    seen = look(compress(MALICIOUS))
    assert codes(seen) == [("audit-pickle-code", "!")]
    [one] = seen.inner
    assert (one.path, one.type, one.size) == ("!", "pickle", len(MALICIOUS))


@pytest.mark.parametrize("compress", [bz2.compress, lzma.compress])
def test_streams_behind_each_other_are_one(compress: Callable[[bytes], bytes]) -> None:
    [one] = look(compress(b"first ") + compress(b"second")).inner
    assert one.sha256 == hashlib.sha256(b"first second").hexdigest()


def test_archives_in_archives_end_at_a_stated_depth_and_it_is_said() -> None:
    data = MALICIOUS
    for _ in range(6):
        data = zipped(inner=data)
    seen = look(data)
    assert codes(seen) == [("audit-not-looked", "inner!inner!inner!inner")]
    assert len(seen.inner) == 4


@pytest.mark.parametrize(
    "bomb",
    [
        gzip.compress(bytes(Budget.FREE + 1)),
        zipped(big=bytes(Budget.FREE + 1)),
        zipped(False, **{f"n{n}": bytes(Budget.FREE // 8) for n in range(9)}),
        lzma.compress(gzip.compress(bytes(Budget.FREE + 1))),
    ],
    ids=["gzip", "zip", "many", "nested"],
)
def test_a_bomb_is_found_and_not_unpacked_further(bomb: bytes) -> None:
    seen = look(bomb)
    assert codes(seen) == [("audit-bomb", "")]
    assert seen.unpacked <= Budget.FREE + (1 << 20)


def test_more_names_than_anything_has_are_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Budget, "NAMES", 3)
    assert codes(look(zipped(a=b"", b=b"", c=b"", d=b""))) == [("audit-bomb", "")]
    assert codes(look(tar([(name, "directory") for name in "abcd"]))) == [("audit-bomb", "")]


def test_much_for_its_size_is_a_surprise_before_it_is_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airgap.audit.look.OVERSIZE", 1_000_000)
    blob = gzip.compress(bytes(2_000_000))
    assert codes(look(blob)) == [("audit-oversize", "")]
    assert codes(look(gzip.compress(bytes(900_000)))) == []


def test_damage_inside_is_a_finding_and_the_rest_is_looked_at() -> None:
    broken = bytearray(zipped(True, a=b"x" * 100))
    broken[40] ^= 1
    seen = look(tar([("broken.zip", bytes(broken)), ("after", MALICIOUS)]))
    assert codes(seen) == [("audit-malformed", "broken.zip"), ("audit-pickle-code", "after")]
    assert "CRC-32" in seen.noticed[0].message


def test_compressed_data_that_ends_early_is_a_finding() -> None:
    for compress in (gzip.compress, bz2.compress, lzma.compress):
        assert codes(look(compress(b"text " * 100)[:-9])) == [("audit-malformed", "")]


def test_an_archive_too_large_to_hold_inside_another_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airgap.audit.look.MAX_HELD", 200)
    inner = zipped(True, a=bytes(300))
    assert codes(look(tar([("inner.zip", inner)]))) == [("audit-not-looked", "inner.zip")]


# ------------------------------------------------------------------ pickles


@pytest.mark.parametrize("role", list(Role))
def test_a_pickle_that_calls_is_found_wherever_it_is_and_whatever_its_name(role: Role) -> None:
    blob = tar([("data.json", MALICIOUS)])
    one = only(look(gzip.compress(blob) if role is Role.LAYER else zipped(data=MALICIOUS), role))
    assert one.rule is findings.PICKLE_CODE
    assert "os.system" in one.message


def test_a_pickle_of_weights_is_worth_a_warning_and_one_of_a_package_is_not() -> None:
    assert only(look(HARMLESS, Role.MODEL)).rule is findings.PICKLE
    assert only(look(zipped(archive__data=HARMLESS), Role.MODEL)).path == "archive/data"
    assert look(zipped(tests__data=HARMLESS), Role.WHEEL).noticed == []


@pytest.mark.parametrize("version", [1, 2])
def test_arrays_of_objects_are_pickles_behind_a_header(version: int) -> None:
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n"
    start = b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(2 * version, "little") + header
    assert only(look(start + MALICIOUS, Role.WHEEL)).rule is findings.PICKLE_CODE
    assert look(start + HARMLESS, Role.WHEEL).noticed == []
    assert only(look(start + HARMLESS, Role.MODEL)).rule is findings.PICKLE


def test_what_a_scanner_does_not_know_is_named() -> None:
    unknown = b"\x80\x02cmy.project\nThing\n)R."
    assert "my.project.Thing" in only(look(unknown, Role.MODEL)).message


def test_a_pickle_of_which_only_a_part_was_read_says_so() -> None:
    large = pickle.dumps([bytes(3_000_000), "end"])
    one = only(look(large, Role.MODEL))
    assert one.rule is findings.PICKLE
    assert "only its first 2097152 bytes" in one.message


def test_without_the_scanner_a_pickle_was_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picklescan.scanner", None)
    one = only(look(MALICIOUS, Role.WHEEL))
    assert one.rule is findings.NOT_LOOKED
    assert "airgap[audit]" in one.message


# ------------------------------------------------------------------ other code


def test_weights_that_carry_functions() -> None:
    config = b'{"layers": [{"class_name": "Lambda", "config": {}}]}'
    assert only(look(zipped(False, **{"config.json": config}), Role.MODEL)).rule is findings.MODEL_CODE
    assert (
        only(look(b"\x89HDF\r\n\x1a\n" + bytes(2_000_000) + config, Role.MODEL)).rule is findings.MODEL_CODE
    )
    over_two_reads = b"\x89HDF\r\n\x1a\n" + bytes((1 << 20) - 30) + config
    assert only(look(over_two_reads, Role.MODEL)).rule is findings.MODEL_CODE
    assert look(b"\x89HDF\r\n\x1a\n" + bytes(2000), Role.MODEL).noticed == []


@pytest.mark.parametrize(
    "layer",
    [
        b'{"class_name" : "Lambda"}',
        b'{"class\\u005fname": "L\\u0061mbda"}',
        b'{"a": "' + b"x" * (1 << 20) + b'", "class_name": "Lambda"}',
    ],
)
def test_a_function_among_weights_is_found_however_it_is_written(layer: bytes) -> None:
    assert codes(look(zipped(**{"config.json": layer}), Role.MODEL)) == [("audit-model-code", "config.json")]


def test_torchscript_is_code() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("model/code/__torch__/net.py", "def forward(self): ...")
    assert codes(look(out.getvalue(), Role.MODEL)) == [("audit-model-code", "model/code/__torch__/net.py")]
    assert look(out.getvalue(), Role.WHEEL).noticed == []


@pytest.mark.parametrize(
    ("role", "name", "found"),
    [
        (Role.MODEL, "helper", True),
        (Role.MODEL, "weights.bin", True),
        (Role.FILE, "tool", False),
        (Role.FILE, "data.csv", True),
        (Role.DOCUMENT, "config.json", False),
    ],
)
def test_programs_are_out_of_place_where_data_was_declared(role: Role, name: str, found: bool) -> None:
    assert [one.rule for one in look(ELF, role, name).noticed] == [findings.EXECUTABLE] * found


def test_programs_in_packages_are_out_of_place_under_names_of_data() -> None:
    assert codes(look(zipped(False, **{"a.json": ELF, "a.so": ELF, "b.bin": ELF}), Role.WHEEL)) == [
        ("audit-executable", "a.json")
    ]
    assert look(gzip.compress(tar([("a.json", ELF)])), Role.LAYER).noticed == []


# ------------------------------------------------------------------ secrets

TOKEN = b"ghp_" + b"1234567890abcdefghij" * 2


def test_secrets_in_texts_are_found_and_masked() -> None:
    [one] = look(b"first line\ntoken = " + TOKEN + b"\n").secrets
    assert (one.path, one.line) == ("", 2)
    assert one.rule.startswith("GitHub Token")
    assert TOKEN.decode() not in repr(one)


def test_private_keys_are_found_by_content_wherever_they_are() -> None:
    key = b"-----BEGIN PRIVATE KEY-----\nAAAA\n"
    blob = gzip.compress(tar([("srv/notes.txt", key)]))
    assert [one.path for one in look(blob, Role.LAYER).secrets] == ["srv/notes.txt"]


def test_a_pickle_under_a_name_that_loaders_unpickle_may_begin_with_anything() -> None:
    hidden = b"I1\n0" + MALICIOUS
    assert codes(look(hidden, Role.MODEL, "weights.bin")) == [("audit-pickle-code", "")]
    assert codes(look(zipped(**{"a.pkl": hidden}), Role.MODEL)) == [("audit-pickle-code", "a.pkl")]
    assert codes(look(b"I am a text of no interest.", Role.MODEL, "weights.bin")) == []


@pytest.mark.parametrize(
    "before",
    [
        b"GGUF" + bytes(5),
        b"GIF89a" + bytes(3),
        b"C\x07\x00\x00\x00\x00\x00\x00{",
        b"N0" * HEAD,
        b"B\0\0\x01\0" + bytes(1 << 16),
    ],
    ids=["gguf", "gif", "safetensors", "long", "longer"],
)
def test_a_pickle_that_begins_as_something_else_is_found_under_its_name(before: bytes) -> None:
    data = before + b"0" + MALICIOUS + bytes(70_000)
    assert codes(look(data, Role.MODEL, "pytorch_model.bin")) == [("audit-pickle-code", "")]
    assert codes(look(zipped(a__bin=data, **{"w.pt": data}))) == [("audit-pickle-code", "w.pt")]


def test_what_may_be_a_pickle_far_behind_its_beginning_is_taken_for_one() -> None:
    far = b"B" + (3 << 20).to_bytes(4, "little") + bytes(3 << 20) + b"0" + MALICIOUS
    assert codes(look(far, Role.MODEL, "pytorch_model.bin")) == [("audit-pickle", "")]
    assert codes(look(far[: 3 << 20], Role.MODEL, "pytorch_model.bin")) == []  # it ends before


def test_pickles_that_joblib_compresses_are_looked_into() -> None:
    seen = look(zlib.compress(MALICIOUS), Role.MODEL, "forest.joblib")
    assert codes(seen) == [("audit-pickle-code", "!")]
    [one] = look(zlib.compress(bytes(5_000_000))).inner
    assert (one.size, one.type) == (5_000_000, "data")
    assert codes(look(zlib.compress(os.urandom(5000))[:-9])) == [("audit-malformed", "")]
    assert look(b"x\x9c is how no zlib stream goes on").type == "data"


def test_wheels_and_images_among_files_are_not_judged_as_such_and_it_is_said() -> None:
    wheel = zipped(**{"x-1.0.dist-info/METADATA": b"Name: x\n", "x.pth": b"import os\n"})
    assert codes(look(wheel)) == [("audit-not-looked", "")]
    assert codes(look(zipped(**{"a.whl": wheel}), Role.MODEL)) == [("audit-not-looked", "a.whl")]
    assert codes(look(wheel, Role.WHEEL)) == []
    for name in ("oci-layout", f"{'a' * 64}/layer.tar", "repositories"):
        image = tar([("manifest.json", b"[]"), (name, b"{}"), ("blobs/sha256/x", b"x")])
        assert codes(look(image)) == [("audit-not-looked", "")]
        assert codes(look(gzip.compress(image), Role.MODEL)) == [("audit-not-looked", "")]
        assert codes(look(image, Role.LAYER)) == []


def test_archives_that_cannot_be_opened_here_are_said_not_to_have_been() -> None:
    seven = b"7z\xbc\xaf\x27\x1c" + bytes(40)
    assert codes(look(seven, Role.MODEL)) == [("audit-not-looked", "")]
    assert codes(look(zipped(inner=seven))) == [("audit-not-looked", "inner")]


@pytest.mark.parametrize("role", [Role.LAYER, Role.FILE])
@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress, bytes])
def test_a_tar_that_is_cut_off_between_two_entries_is_not_whole(
    compress: Callable[[bytes], bytes], role: Role
) -> None:
    whole = tar([("first", b"1" * 600), ("second", b"2")])
    assert codes(look(compress(whole), role)) == []
    cut = whole[: 512 + 1024]
    [found] = look(compress(cut), role).noticed
    assert (found.rule, found.path) == (findings.MALFORMED, "")
    assert "cut off" in found.message


def test_a_zstd_frame_that_never_ends_does_not_hide_the_end_of_its_tar() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    cut = tar([("first", b"1" * 600), ("second", b"2")])[: 512 + 1024]
    begun = frame.compress(cut) + frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    assert codes(look(begun, Role.LAYER)) == [("audit-malformed", "")]


def test_what_lies_behind_the_end_of_a_tar_is_said_and_padding_is_not() -> None:
    whole = tar([("first", b"1")])
    assert codes(look(whole + bytes(40_000), Role.LAYER)) == []
    assert codes(look(gzip.compress(whole + tar([("hidden", b"2")])), Role.LAYER)) == [
        ("audit-malformed", "")
    ]
    assert codes(look(gzip.compress(whole + bytes(Budget.FREE)), Role.LAYER)) == [("audit-bomb", "")]
