"""What is installed in an image: after whiteouts and links, in every compression, in little memory."""

import gzip
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.errors import InputError
from airgap.oci import Descriptor, ImageManifest, parse_image
from airgap.readers.image import Inventory, layers_of, read_image
from airgap.readers.union import Layer
from tests.readers.images import DIRECTORY, SITE, Content, Link, blob, gone, layer, package, tar
from tests.services import need

DIST = "usr/lib/python3/dist-packages"


def inventory(*layers: Layer, wanted: Callable[[str], bool] = lambda path: False) -> Inventory:
    return read_image("d" * 64, layers, wanted)


def installed(found: Inventory) -> list[tuple[str, str]]:
    return [(d.name, d.version) for d in found.distributions if d.site]


OLD, NEW = "transformers-4.57.6.dist-info", "transformers-5.5.4.dist-info"


def test_a_layer_that_upgrades_a_package_leaves_only_the_newer() -> None:
    base = layer(*package("transformers", "4.57.6"), *package("vllm", "0.19.1"))
    upgrade = layer(gone(f"{SITE}/{OLD}"), *package("transformers", "5.5.4"))
    assert installed(inventory(base)) == [("transformers", "4.57.6"), ("vllm", "0.19.1")]
    found = inventory(base, upgrade)
    assert installed(found) == [("transformers", "5.5.4"), ("vllm", "0.19.1")]
    (copy,) = found.copies("Transformers")
    assert (copy.path, copy.layer, copy.site) == (f"{SITE}/{NEW}/METADATA", upgrade.digest, SITE)
    assert copy.metadata and copy.metadata.requires == ("x>=1",)


def test_two_copies_are_both_reported_and_vendored_ones_are_not_importable() -> None:
    found = inventory(
        layer(
            *package("torch", "2.10.0"),
            *package("torch", "2.9.1", DIST),
            *package("torch", "1.0", f"{SITE}/other/_vendor"),
            *package("torch", "1.1", "root/.cache/uv/archive-v0/abc"),
        )
    )
    assert [(d.version, d.site) for d in found.copies("torch")] == [("2.10.0", SITE), ("2.9.1", DIST)]
    assert len(found.distributions) == 4


def test_a_whiteout_works_below_its_layer_and_not_in_it() -> None:
    base = layer(*package("a", "1"))
    assert installed(inventory(base, layer(*package("a", "2"), gone(f"{SITE}/a-1.dist-info")))) == [
        ("a", "2")
    ]
    same = layer(gone(f"{SITE}/a-1.dist-info"), *package("a", "1"))
    after = layer(*package("a", "1"), gone(f"{SITE}/a-1.dist-info"))
    assert installed(inventory(base, same)) == installed(inventory(base, after)) == [("a", "1")]


@pytest.mark.parametrize("first", [True, False])
def test_an_opaque_directory_hides_everything_below_it(first: bool) -> None:
    opaque: tuple[str, Content] = (f"{SITE}/.wh..wh..opq", b"")
    members = [opaque, *package("b", "1")] if first else [*package("b", "1"), opaque]
    assert installed(inventory(layer(*package("a", "1")), layer(*members))) == [("b", "1")]


@pytest.mark.parametrize("content", [b"a file", Link("/nowhere")])
def test_what_is_no_directory_replaces_one(content: Content) -> None:
    base = layer(*package("a", "1"))
    assert installed(inventory(base, layer((SITE, content)))) == []
    assert installed(inventory(base, layer((f"{SITE}/a-1.dist-info/METADATA", DIRECTORY)))) == []
    assert installed(inventory(base, layer((SITE, DIRECTORY)))) == [("a", "1")]


def test_paths_are_followed_through_links_to_directories() -> None:
    base = layer(("usr/lib", DIRECTORY), ("lib", Link("usr/lib")), ("lib64", Link("/lib")))
    upper = layer(*package("a", "1", "lib64/python3.11/site-packages"))
    found = inventory(base, upper)
    assert [d.site for d in found.distributions] == [SITE]
    assert installed(inventory(base, upper, layer(gone("lib/python3.11/site-packages/a-1.dist-info")))) == []


def test_a_path_leads_where_its_links_lead_now() -> None:
    files = package("a", "1", "srv/site-packages")
    layers = [layer(*files), layer(("srv", Link("opt")), *files), layer(gone("srv"), *files)]
    sites = [{d.site for d in inventory(*layers[: n + 1]).distributions} for n in range(3)]
    assert sites == [{"srv/site-packages"}, {"opt/site-packages"}, {"opt/site-packages", "srv/site-packages"}]


def test_a_link_may_lead_up_and_on_to_another() -> None:
    links = (("opt", Link("real")), ("srv", Link("usr/../opt")))
    found = inventory(layer(*links, *package("a", "1", "srv/site-packages")))
    assert [d.site for d in found.distributions] == ["real/site-packages"]


def test_links_never_lead_out_of_the_image_and_loops_are_refused() -> None:
    found = inventory(layer(("srv", Link("../../../opt")), *package("a", "1", "srv/site-packages")))
    assert [d.site for d in found.distributions] == ["opt/site-packages"]
    with pytest.raises(InputError, match="symbolic links on the way"):
        inventory(layer(("a", Link("b")), ("b", Link("a")), ("a/x", b"")))
    with pytest.raises(InputError, match="leads out of the image"):
        inventory(layer(("../etc/os-release", b"")))


def test_hard_links_are_files_also_to_what_nobody_asked_for() -> None:
    """As uv installs from its cache, and stores such as ostree name files by their digest."""
    metadata = package("a", "1")[1][1]
    stored = layer(
        ("objects/ab/cdef", metadata), (f"{SITE}/a-1.dist-info/METADATA", Link("objects/ab/cdef", True))
    )
    (found,) = inventory(stored).copies("a")
    assert found.metadata and found.metadata.requires == ("x>=1",) and not inventory(stored).unread
    first = layer(
        *package("b", "2"), (f"{DIST}/b-2.dist-info/METADATA", Link(f"{SITE}/b-2.dist-info/METADATA", True))
    )
    assert len(inventory(first).copies("b")) == 2
    below = inventory(layer(("o", metadata)), layer((f"{SITE}/c-3.dist-info/METADATA", Link("o", True))))
    assert installed(below) == [("c", "3")], "the directory's name is what is left"
    assert below.unread, "and that its bytes are not there is said"


def test_old_forms_and_system_packages_are_read() -> None:
    found = inventory(
        layer(
            (f"{DIST}/PyYAML-6.0.egg-info", b"Metadata-Version: 1.0\nName: PyYAML\nVersion: 6.0\n"),
            (f"{DIST}/six-1.16.0.egg-info/PKG-INFO", b"Name: six\nVersion: 1.16.0\n"),
            (f"{SITE}/old-1.0-py3.11.egg/EGG-INFO/PKG-INFO", b"Name: old\nVersion: 1.0\n"),
            (f"{SITE}/odd-2.5-py3.11.egg-info/PKG-INFO", b"\xff not a header"),
            (
                "var/lib/dpkg/status",
                b"Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9\n"
                b"Description: x\n Package: no\n\n"
                b"Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n",
            ),
            ("var/lib/dpkg/status.d/tzdata", b"Package: tzdata\nVersion: 2024a\nArchitecture: all\n"),
            ("var/lib/dpkg/status.d/tzdata.md5sums", b"Package: no\nVersion: 1\n"),
            ("lib/apk/db/installed", b"C:Q1\nP:musl\nV:1.2.5-r0\nA:x86_64\n\nP:zlib\nV:1.3\nA:x86_64\n"),
            ("etc/os-release", Link("../usr/lib/os-release")),
            ("usr/lib/os-release", b'NAME="Debian GNU/Linux"\nVERSION_ID="12"\n# x\nID=debian\n'),
        )
    )
    assert installed(found) == [("odd", "2.5"), ("old", "1.0"), ("pyyaml", "6.0"), ("six", "1.16.0")]
    assert [(p.manager, p.name, p.version, p.architecture) for p in found.packages] == [
        ("apk", "musl", "1.2.5-r0", "x86_64"),
        ("apk", "zlib", "1.3", "x86_64"),
        ("dpkg", "libc6", "2.36-9", "amd64"),
        ("dpkg", "tzdata", "2024a", "all"),
    ]
    assert found.os_release == {"NAME": "Debian GNU/Linux", "VERSION_ID": "12", "ID": "debian"}


def test_files_a_rule_wants_come_along() -> None:
    base = layer(*package("a", "1"), ("srv/backend.py", b"import vllm\n"), ("srv/big.py", b"#" * 17_000_000))
    found = inventory(base, wanted=lambda path: path.endswith(".py") and path.startswith("srv/"))
    assert found.paths() == {"srv/backend.py", "srv/big.py"}
    assert found.read("srv/backend.py", 100) == b"import vllm\n"
    with pytest.raises(InputError, match="more than is read"):
        found.read("srv/big.py", 1 << 30)
    with pytest.raises(InputError, match="found none"):
        found.read("srv/other.py", 100)
    assert any("srv/big.py" in reason for reason in found.unread)


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_every_compression_gives_the_same(compression: str) -> None:
    data = tar(package("a", "1"))
    if compression == "gzip":
        data = gzip.compress(data)
    elif compression == "zstd":
        data = pytest.importorskip("zstandard").ZstdCompressor().compress(data)
    assert installed(inventory(blob(data))) == [("a", "1")]


def test_a_layer_that_cannot_be_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("compression.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, module, None)
    found = inventory(blob(b"\x28\xb5\x2f\xfd...."), layer(*package("a", "1")))
    assert installed(found) == [("a", "1")]
    (reason,) = found.unread
    assert "layer 1 of 2" in reason and "zstd" in reason and "airgap[images]" in reason


_PATHS = [
    "a-1.dist-info/METADATA",
    "a-1.dist-info",
    "b",
    "b/a-2.dist-info/METADATA",
    "l",
    "l/a-3.dist-info/METADATA",
]
_MEMBERS = st.tuples(
    st.sampled_from([*_PATHS, ".wh.b", ".wh.a-1.dist-info", ".wh..wh..opq", "b/.wh..wh..opq", ".wh.l"]),
    st.sampled_from(
        [b"Name: x\nVersion: 1\n", b"Name: x\nVersion: 2\n", DIRECTORY, Link("b"), Link("b", True)]
    ),
)


@given(st.lists(st.lists(_MEMBERS, max_size=5), min_size=1, max_size=3))
def test_any_stack_is_read_or_refused_and_an_empty_layer_changes_nothing(
    stack: list[list[tuple[str, Content]]],
) -> None:
    layers = [blob(tar(members)) for members in stack]
    try:
        found = inventory(*layers)
    except InputError:
        return
    assert inventory(*layers, blob(tar([]))).distributions == found.distributions
    assert inventory(*layers, blob(tar([(".wh..wh..opq", b"")]))).distributions == ()


# ------------------------------------------------------------------ real builders and installers


@pytest.fixture
def rootfs(tmp_path: Path) -> Iterator[Path]:
    need("umoci")
    yield tmp_path / "bundle/rootfs"


def umoci(*arguments: str, cwd: Path) -> None:
    subprocess.run(["umoci", *arguments], cwd=cwd, check=True, capture_output=True)


def wheel(directory: Path, name: str, version: str) -> Path:
    import zipfile

    path = directory / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", f"__version__ = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def test_an_image_that_umoci_built_of_what_pip_installed(rootfs: Path, tmp_path: Path) -> None:
    umoci("init", "--layout", "image", cwd=tmp_path)
    umoci("new", "--image", "image:v1", cwd=tmp_path)
    umoci("unpack", *(["--rootless"] if os.getuid() else []), "--image", "image:v1", "bundle", cwd=tmp_path)
    for version, tag in (("4.57.6", "v2"), ("5.5.4", "v3")):
        made = wheel(tmp_path, "transformers", version)
        command = [
            sys.executable,
            "-m",
            "pip",
            "--isolated",
            "install",
            "--no-index",
            "--no-deps",
            "--upgrade",
        ]
        target = rootfs / SITE
        if target.exists():  # pip removes no older dist-info from a --target
            subprocess.run(["rm", "-r", str(target)], check=True)
        subprocess.run([*command, "--quiet", "--target", str(target), str(made)], check=True)
        umoci("repack", "--refresh-bundle", "--image", f"image:{tag}", "bundle", cwd=tmp_path)
    found = inventory(*_stored(tmp_path / "image", "v3"))
    assert len(_stored(tmp_path / "image", "v3")) == 2
    assert installed(found) == [("transformers", "5.5.4")]
    assert installed(inventory(*_stored(tmp_path / "image", "v2"))) == [("transformers", "4.57.6")]


def _stored(layout: Path, name: str) -> tuple[Layer, ...]:
    index = json.loads((layout / "index.json").read_bytes())
    entry = next(
        e for e in index["manifests"] if e["annotations"]["org.opencontainers.image.ref.name"] == name
    )
    blobs = layout / "blobs" / "sha256"
    manifest = parse_image((blobs / entry["digest"].removeprefix("sha256:")).read_bytes(), "image")
    assert isinstance(manifest, ImageManifest)

    def open_blob(descriptor: Descriptor) -> BinaryIO:
        return open(blobs / descriptor.digest, "rb")

    return layers_of(manifest, open_blob)


# ------------------------------------------------------------------ a large layer

GIB = 2**30

MEASURE = """
import re, sys
from pathlib import Path
from airgap.readers.image import read_image
from airgap.readers.union import Layer
found = read_image("d" * 64, [Layer("l", lambda: open(sys.argv[1], "rb"))])
peak = re.search("VmHWM:\\s+([0-9]+) kB", Path("/proc/self/status").read_text())[1]
print([d.name for d in found.distributions], int(peak) // 1024)
"""
"""VmHWM, because ru_maxrss begins with the memory of the process that forked this one."""


def test_a_layer_of_a_gigabyte_takes_little_memory(tmp_path: Path) -> None:
    """1 GiB of tar in a megabyte of gzip: a file of zeros between two packages."""
    path = tmp_path / "layer.tar.gz"
    header = tar([("zeros", b"")])[:512]
    size = b"%011o\0" % GIB
    filled = header[:124] + size + header[136:148] + b" " * 8 + header[156:]
    filled = filled[:148] + b"%06o\0 " % sum(filled) + filled[156:]
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
    with open(path, "wb") as out:
        out.write(
            compressor.compress(tar(package("before", "1"))[: 512 * 10].rstrip(b"\0").ljust(512 * 4, b"\0"))
        )
        out.write(compressor.compress(filled))
        for _ in range(GIB >> 20):
            out.write(compressor.compress(bytes(1 << 20)))
        out.write(compressor.compress(tar(package("after", "1"))) + compressor.flush())
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True
    )
    names, _, megabytes = done.stdout.rpartition(" ")
    assert names == "['after', 'before']"
    assert int(megabytes) < 150
