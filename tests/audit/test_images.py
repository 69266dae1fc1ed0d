"""An image as an auditor has it: what is left after every layer, and what nobody could read."""

import io
import json
from collections.abc import Sequence

import pytest

from airgap.audit.assemble import Gathered, role_of
from airgap.audit.layers import Replay
from airgap.audit.look import Contents, Looker
from airgap.audit.streams import Peeking
from airgap.audit.types import HEAD, sniff
from airgap.layout import pack
from airgap.model import ContainerArtifact, Sha256
from airgap.readers.image import is_evidence, read_image
from airgap.readers.union import Layer, Union, Wish
from tests.audit import faults
from tests.audit.faults import SYSTEM, Entry, image
from tests.bundles import Content


def see(content: Content, *, without: Sequence[Sha256] = ()) -> Gathered:
    """What an audit gathers of an image, as if its blobs had been read from a bundle."""
    artifact = content.artifact
    assert isinstance(artifact, ContainerArtifact)
    contents: dict[Sha256, Contents] = {}
    for file in artifact.files[1:]:
        data = content.blobs[file.sha256]
        looker = Looker(
            role_of(artifact, file), file.path, file.size, lambda path, depth: 0 if depth else 1 << 20
        )
        looker.forward(
            Peeking(io.BytesIO(data), lambda piece: None), sniff(data[:HEAD], len(data)), len(data)
        )
        if file.sha256 not in without:
            contents[file.sha256] = looker.seen
    gathered = Gathered()
    gathered.add("b", pack(artifact), contents, {artifact.root: content.blobs[artifact.root]})
    return gathered


def codes(gathered: Gathered) -> list[tuple[str, str]]:
    return sorted((one.code, one.subject) for one in gathered.findings)


SU = Entry("usr/bin/su", b"su", 0o4755)


def test_setuid_is_what_is_left_of_it() -> None:
    plain = Entry("usr/bin/su", b"su", 0o755)
    gone = Entry("usr/bin/.wh.su")
    assert codes(see(image("e", [SU]))) == [("audit-setuid", "e: usr/bin/su")]
    assert codes(see(image("e", [SU], [plain]))) == []
    assert codes(see(image("e", [SU], [gone]))) == []
    assert codes(see(image("e", [plain], [SU]))) == [("audit-setuid", "e: usr/bin/su")]


def test_setuid_is_found_through_links_of_directories() -> None:
    merged = Entry("bin", target="usr/bin")
    [one] = (
        see(image("e", [merged, Entry("usr/bin/x", b"")], [Entry("bin/su", b"su", 0o2755)]))
        .images[0]
        .privileged
    )
    assert (one.path, one.mode) == ("usr/bin/su", 0o2755)


def test_a_file_that_a_later_layer_hides_is_still_listed() -> None:
    gathered = see(image("e", [Entry("key.txt", b"text\n")], [Entry(".wh.key.txt")]))
    assert [file.path.partition("!")[2] for file in gathered.files if "!" in file.path] == [
        "key.txt",
        ".wh.key.txt",
    ]


def test_packages_of_every_manager_with_their_distribution() -> None:
    apk = b"C:Q1\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\no:musl\n\n"
    release = Entry("etc/os-release", b"ID=alpine\nVERSION_ID=3.20.1\n")
    [musl] = see(image("e", [release, Entry("lib/apk/db/installed", apk)])).packages
    assert (musl.ecosystem, musl.name, musl.version, musl.distribution, musl.distribution_version) == (
        "apk",
        "musl",
        "1.2.4-r2",
        "alpine",
        "3.20.1",
    )
    assert musl.purl == "pkg:apk/alpine/musl@1.2.4-r2?arch=x86_64&distro=alpine-3.20.1"
    assert musl.path == "lib/apk/db/installed"
    six, ssl = sorted(see(image("e")).packages, key=lambda package: package.ecosystem, reverse=True)
    assert (six.licence, six.path) == ("MIT", "usr/lib/python3/dist-packages/six-1.16.0.dist-info/METADATA")
    assert (ssl.name, ssl.source_name, ssl.architecture) == ("libssl3", "openssl", "amd64")
    assert (ssl.version, ssl.source_version) == ("3.0.1-1+b2", "3.0.1-1")
    assert len(ssl.digest) == 64


def test_lines_that_run_at_every_start() -> None:
    lines = b"import sys; sys.path.append('/x')\n/a/path\n"
    startup = Entry("usr/lib/python3/dist-packages/x.pth", lines)
    elsewhere = Entry("srv/x.pth", lines)
    assert codes(see(image("e", [startup, elsewhere]))) == [
        ("audit-startup-code", "e: usr/lib/python3/dist-packages/x.pth")
    ]


@pytest.mark.parametrize(
    ("link", "target", "real"),
    [
        ("usr/lib/python3/dist-packages/x.pth", "/opt/x", "opt/x"),
        ("usr/lib/python3.11/site-packages", "../../../opt", "opt/x.pth"),
        ("usr/lib/python3/dist-packages/x-1.dist-info", "/opt/x", "opt/x/METADATA"),
        ("var/lib/dpkg", "/opt/dpkg", "opt/dpkg/status"),
        ("var/lib/dpkg/status", "/opt/status", "opt/status"),
        ("var", "/opt", "opt/lib/dpkg/status"),
    ],
)
def test_evidence_behind_a_link_is_said_not_to_have_been_read(link: str, target: str, real: str) -> None:
    entries = [Entry(real, b"import os\n"), Entry(link, target=target)]
    assert codes(see(image("e", entries))) == [("audit-not-looked", "e")]


def test_links_between_places_that_are_read_are_followed() -> None:
    """As distributions make them."""
    merged = Entry("lib", target="usr/lib")
    release = Entry("etc/os-release", target="../usr/lib/os-release")
    rpm = Entry("var/lib/rpm", target="../../usr/lib/sysimage/rpm")
    site = Entry("usr/lib/python3.11/site-packages", target="../python3/dist-packages")
    dangling = Entry("etc/mtab", target="/proc/mounts")
    real = Entry("usr/lib/os-release", faults.OS_RELEASE)
    assert codes(see(image("e", [real, merged, release, rpm, site, dangling]))) == []


@pytest.mark.parametrize(
    "path",
    [
        "usr/lib/python3/dist-packages/sitecustomize.py",
        "usr/local/lib/python3.11/site-packages/usercustomize/__init__.abi3.so",
        "usr/lib/python3.11/sitecustomize.pyc",
    ],
)
def test_modules_that_python_imports_at_every_start(path: str) -> None:
    wanted = [("audit-startup-code", f"e: {path}")]
    code, elsewhere = Entry(path, b"import os\n"), Entry("srv/sitecustomize.py")
    real = Entry("opt/x", b"import os\n")
    assert codes(see(image("e", [code, elsewhere]))) == wanted
    assert codes(see(image("e", [real, Entry(path, target="/opt/x")]))) == wanted
    assert codes(see(image("e", [real], [Entry(path, target="opt/x", hard=True)]))) == wanted
    assert codes(see(image("e", [code], [Entry(f"{path.rpartition('/')[0]}/.wh..wh..opq")]))) == []


@pytest.mark.parametrize("end", ["\r", "\x0c", "\x1c", "\x85", "\u2028"])
def test_a_line_ends_where_python_ends_it(end: str) -> None:
    startup = Entry("usr/lib/python3/dist-packages/x.pth", f"/a/path{end}import os".encode())
    assert codes(see(image("e", [startup]))) == [
        ("audit-startup-code", "e: usr/lib/python3/dist-packages/x.pth")
    ]


def test_secrets_of_the_environment_and_the_history_name_the_variable_and_not_the_value() -> None:
    gathered = see(
        image("e", env=("AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLF", "DB_PASSWORD=correct-horse", "HOME=/"))
    )
    assert codes(gathered) == [
        ("audit-secret", "e: config: Env AWS_ACCESS_KEY_ID"),
        ("audit-secret", "e: config: Env DB_PASSWORD"),
    ]
    assert gathered.images[0].environment == ("AWS_ACCESS_KEY_ID", "DB_PASSWORD", "HOME")
    assert "correct-horse" not in repr(gathered)


@pytest.mark.parametrize(
    "more",
    [
        {"container_config": {"Env": [f"GITHUB_TOKEN={'ghp_' + '1234567890abcdefghij' * 2}"]}},
        {"history": [{"created_by": "COPY", "comment": "ghp_" + "1234567890abcdefghij" * 2}]},
        {"ghp_" + "1234567890abcdefghij" * 2: 1},
    ],
)
def test_secrets_are_found_wherever_they_stand_in_a_config(more: dict[str, object]) -> None:
    [(code, subject)] = codes(see(image("e", more=more)))
    assert code == "audit-secret"
    assert subject.startswith("e: config: ")
    assert "1234567890" not in subject


def test_a_long_line_hides_no_token() -> None:
    token = "x" * 4090 + " ghp_" + "1234567890abcdefghij" * 2
    assert codes(see(image("e", env=(f"PADDING={token}",)))) == [("audit-secret", "e: config: Env PADDING")]


def test_digests_in_the_environment_are_no_secrets() -> None:
    usual = ("GPG_KEY=A035C8C19219BA821ECEA86B64E628F8D684696D", f"PYTHON_SHA256={'24887b92' * 8}")
    assert codes(see(image("e", env=usual))) == []


def test_a_layer_that_could_not_be_read_makes_nothing_of_the_image_certain() -> None:
    content = image("e", SYSTEM, [SU])
    gathered = see(content, without=[content.artifact.files[3].sha256])
    [(code, subject)] = codes(gathered)
    assert (code, subject) == ("audit-not-looked", "e")
    assert content.artifact.files[3].sha256 in gathered.findings[0].message


@pytest.mark.parametrize(
    "config", [b"{}", b"[]", b'{"architecture": 1, "os": "linux"}', b'{"config": {"Env": "A=b"}}']
)
def test_a_config_that_is_none_is_a_finding(config: bytes) -> None:
    content = image("e")
    artifact = content.artifact
    assert isinstance(artifact, ContainerArtifact)
    contents = Contents(role_of(artifact, artifact.files[1]), kept={"": config})
    gathered = Gathered()
    gathered.add("b", pack(artifact), {artifact.files[1].sha256: contents}, dict(content.blobs))
    assert ("audit-malformed", "e: config") in codes(gathered)
    assert json.loads(config) is not None


def test_a_kept_layer_stands_for_the_layer_itself() -> None:
    """Putting together what was kept gives the packages that reading the layers gives."""
    layers = [SYSTEM, [Entry("var/lib/dpkg/status", faults.DPKG.replace(b"libssl3", b"zlib1g"))]]
    blobs = [faults.layer(*entries) for entries in layers]
    opened = [Layer(str(n), lambda data=data: io.BytesIO(data)) for n, data in enumerate(blobs)]  # type: ignore[misc]
    direct = read_image("d", opened)
    union = Union(Wish(is_evidence, 1 << 20, 1 << 20))
    for number, data in enumerate(blobs):
        content = image("e", layers[number]).artifact
        looker = Looker(role_of(content, content.files[2]), "layer", len(data), lambda path, depth: 0)
        looker.forward(Peeking(io.BytesIO(data), lambda piece: None), "gzip", len(data))
        assert looker.seen.layer
        union.apply_kept(Replay(looker.seen.layer), str(number))
    assert {path: file.data for path, file in union.files().items()} == {
        "etc/os-release": faults.OS_RELEASE,
        "usr/lib/python3/dist-packages/six-1.16.0.dist-info/METADATA": SYSTEM[3].data,
        "var/lib/dpkg/status": layers[1][0].data,
    }
    assert [package.name for package in direct.packages] == ["zlib1g"]


def test_a_second_name_of_a_setuid_file_outlives_the_first() -> None:
    second = Entry("usr/bin/mu", mode=0o755, target="usr/bin/su", hard=True)
    gone = Entry("usr/bin/.wh.su")
    assert codes(see(image("e", [SU, second]))) == [
        ("audit-setuid", "e: usr/bin/mu"),
        ("audit-setuid", "e: usr/bin/su"),
    ]
    assert codes(see(image("e", [SU, second], [gone]))) == [("audit-setuid", "e: usr/bin/mu")]
    assert codes(see(image("e", [SU], [second], [gone]))) == [("audit-setuid", "e: usr/bin/mu")]


@pytest.mark.parametrize("target", [Entry("usr/bin/su", b"su", 0o755), Entry("usr/bin/su", target="gone")])
def test_a_hard_link_brings_a_mode_of_its_own(target: Entry) -> None:
    """docker gives the file the mode and the owner of the link's entry."""
    link = Entry("srv/x", mode=0o4755, target="usr/bin/su", hard=True)
    wanted = [] if target.target else [("audit-setuid", "e: srv/x")]
    assert codes(see(image("e", [target], [link]))) == wanted
    assert codes(see(image("e", [target, link]))) == wanted


def test_secrets_of_labels_commands_and_steps_of_the_build() -> None:
    hub = "hf_" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7cF0xR"
    command = ("--api-key", "correct-horse-9", "--port", "8000")
    steps = (
        "RUN |1 PASSWORD=correct-horse-9 /bin/sh -c true",
        "COPY . .",
        "ENV PASSWORD=$SECRET",
        "ARG DB_PASSWORD=correct-horse-9",
    )
    gathered = see(
        image(
            "e",
            env=(f"HF_TOKEN={hub}", "MAX_TOKENS=4096"),
            steps=steps,
            labels={"token": hub},
            command=command,
        )
    )
    assert codes(gathered) == [
        ("audit-secret", "e: config: Env HF_TOKEN"),
        ("audit-secret", "e: config: command"),
        ("audit-secret", "e: config: history[0]"),
        ("audit-secret", "e: config: history[3]"),
        ("audit-secret", "e: config: label token"),
    ]
    messages = [one.message for one in gathered.findings]
    assert "what looks like a secret (Hugging Face Token): hf…" in messages
    assert not any("correct-horse" in one or hub in one for one in messages)


def test_packages_of_an_image_have_their_licences_as_spdx_spells_them() -> None:
    said = b"Metadata-Version: 2.1\nName: x\nVersion: 1\nLicense: Apache 2.0\n"
    where = "usr/lib/python3/dist-packages/x-1.dist-info/METADATA"
    [package] = see(image("e", [Entry(where, said)])).packages
    assert package.licence == "Apache-2.0"


def test_capabilities_of_a_file_are_rights_that_whoever_starts_it_has() -> None:
    raw = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw, effective
    ping = Entry("usr/bin/ping", b"ping", 0o755, capability=raw)
    [finding] = see(image("e", [ping])).findings
    assert (finding.code, finding.subject) == ("audit-setuid", "e: usr/bin/ping")
    assert "file capabilities" in finding.message
    assert codes(see(image("e", [ping], [Entry("usr/bin/.wh.ping")]))) == []


COPYRIGHT = (
    b"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"
    b"Files: *\nCopyright: someone\nLicense: Apache-2.0\n\nFiles: debian/*\nLicense: GPL-2+\n"
)
DOC = "usr/share/doc/libssl3"


def licence(*layers: Sequence[Entry]) -> tuple[str, str]:
    """Of libssl3, and by which file."""
    gathered = see(image("e", SYSTEM, *layers))
    assert codes(gathered) == []
    (package,) = [one for one in gathered.packages if one.name == "libssl3"]
    return package.licence, package.licence_by


def test_a_debian_package_has_the_licences_of_its_copyright_file() -> None:
    stated = ("Apache-2.0 AND GPL-2.0-or-later", f"{DOC}/copyright")
    assert licence([Entry(f"{DOC}/copyright", COPYRIGHT)]) == stated
    assert licence([Entry(f"./{DOC}/copyright", COPYRIGHT)]) == stated
    assert licence() == ("", "")
    assert licence([Entry(f"{DOC}/copyright", b"It was debianized by hand.")]) == ("", "")
    assert licence([Entry("usr/share/doc/other/copyright", COPYRIGHT)]) == ("", "")


def test_a_copyright_file_is_what_is_left_of_it() -> None:
    whole = Entry(f"{DOC}/copyright", COPYRIGHT)
    newer = Entry(f"{DOC}/copyright", COPYRIGHT.replace(b"Apache-2.0", b"Expat"))
    assert licence([whole], [newer])[0] == "MIT AND GPL-2.0-or-later"
    assert licence([whole], [Entry(f"{DOC}/.wh.copyright")]) == ("", "")
    assert licence([whole], [Entry("usr/share/.wh.doc")]) == ("", "")


def test_a_linked_documentation_is_followed_within_the_image() -> None:
    common = Entry("usr/share/doc/openssl/copyright", COPYRIGHT)
    for link in (
        Entry(DOC, target="openssl"),
        Entry(DOC, target="/usr/share/doc/openssl"),
        Entry(DOC, target="../../../../../../usr/share/doc/openssl"),
        Entry(f"{DOC}/copyright", target="../openssl/copyright"),
        Entry(f"{DOC}/copyright", target="usr/share/doc/openssl/copyright", hard=True),
    ):
        stated, by = licence([common, link])
        assert stated == "Apache-2.0 AND GPL-2.0-or-later"
        assert by == (f"{DOC}/copyright" if link.hard else common.path)
    assert licence([Entry(DOC, target="libssl3")]) == ("", "")
    assert licence([Entry(DOC, target="../../../etc")], [Entry("etc/copyright", COPYRIGHT)]) == ("", "")


def test_copyright_files_that_are_too_large_or_too_many_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    large = COPYRIGHT + b" \n" * 131_072
    assert licence([Entry(f"{DOC}/copyright", large)]) == ("", "")
    monkeypatch.setattr("airgap.audit.layers.MAX_COPYRIGHTS", 30)
    others = [Entry(f"usr/share/doc/a{n}/copyright", COPYRIGHT) for n in range(3)]
    assert licence([*others, Entry(f"{DOC}/copyright", COPYRIGHT)]) == ("", "")
    assert licence([Entry(f"{DOC}/copyright", COPYRIGHT), *others])[0]


def test_copyright_files_take_no_room_from_what_must_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    room = sum(len(entry.data) for entry in SYSTEM) + 200
    monkeypatch.setattr("airgap.audit.layers.MAX_TOTAL", room)
    monkeypatch.setattr("airgap.audit.images.MAX_TOTAL", room)
    padded = COPYRIGHT + b" text\n" * ((room - len(COPYRIGHT)) // 6)
    gathered = see(image("e", [Entry(f"{DOC}/copyright", padded), *SYSTEM]))
    assert {package.name for package in gathered.packages} == {"libssl3", "six"}
    assert codes(gathered) == []


def test_evidence_that_is_a_link_to_a_copyright_file_was_not_read() -> None:
    text = COPYRIGHT + b"\nPackage: hidden\nVersion: 1\n"
    link = Entry("var/lib/dpkg/status", target=f"{DOC}/copyright", hard=True)
    gathered = see(image("e", [Entry(f"{DOC}/copyright", text), link]))
    assert [code for code, _ in codes(gathered)] == ["audit-not-looked"]
