"""Attestations of wheels (PEP 740) and cosign's signatures of images: present, absent, failed, unknown."""

import base64
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airgap.connected import wheels
from airgap.connected.provenance import read_provenance
from airgap.errors import InputError
from airgap.lock import Lock, parse_lock, render_lock
from airgap.model import Kind, ProvenanceState, Sha256, WheelsArtifact
from airgap.provenance import describe
from tests import images
from tests.connected.containing import bare_environment, context, image_request, lock
from tests.connected.resolving import ARM, context_at, request_for
from tests.servers.index import Index, make_provenance, make_wheel
from tests.servers.registry import push, registry
from tests.servers.signing import push_signature
from tests.services import need
from tests.stage import Stage

FILE, DATA = make_wheel("one", "1.0")
SHA256 = Sha256(images.sha256(DATA))
CLAIMED = "GitHub org/one (release.yml)"


def test_each_wheel_has_what_its_index_has_of_it(tmp_path: Path) -> None:
    made = {name: make_wheel(name, "1.0") for name in ("one", "two", "three", "four", "five")}
    own = {name: make_provenance(*wheel) for name, wheel in made.items()}
    with Index(login="reader:secret") as index:
        index.add(*made["one"], provenance=own["one"])
        index.add(*made["two"])
        index.add(*made["three"], provenance=make_provenance(made["three"][0], b"other bytes"))
        index.add(*made["four"], provenance=b"")
        index.add(
            *made["five"], provenance=own["five"].replace(b'"version": 1', b'"version": 1, "version": 1')
        )
        request = request_for(*made, index_url=index.url_with_login)
        where = context_at(tmp_path, provenance=True, logins=(index.url_with_login,))
        resolved = wheels.resolve(request, None, where)
        asked = len(index.asked)
        artifact = resolved.artifact
        assert isinstance(artifact, WheelsArtifact)
        again = wheels.resolve(request, artifact, where)
        assert (again.artifact, len(index.asked) > asked) == (artifact, False)
        plain = wheels.resolve(request, artifact, context_at(tmp_path)).artifact
        index.files["one"][FILE].provenance = None
        wheels.fetch(artifact, where)  # what travels is in the store since it was judged
    found = {package.name: package.provenance for package in artifact.packages}
    assert {name: one.state.value for name, one in found.items() if one} == {
        "one": "present",
        "two": "absent",
        "three": "failed",
        "four": "unknown",
        "five": "failed",
    }
    assert [file.path for file in artifact.files[5:]] == [f"{FILE}.provenance"]
    assert where.store.path(artifact.files[5].sha256).read_bytes() == own["one"]
    assert found["one"] and found["one"].publishers == (CLAIMED,)
    assert describe(found["one"]) == f"present, not judged; claims to be of {CLAIMED}"
    assert found["three"] and f"expected it about {made['three'][0]} of sha256" in found["three"].reason
    assert [(f.code, f.subject) for f in resolved.findings] == [
        ("provenance-failed", "serving: five"),
        ("provenance-unknown", "serving: four"),
        ("provenance-failed", "serving: three"),
    ]
    assert isinstance(plain, WheelsArtifact)
    assert {package.provenance for package in plain.packages} == {None}
    assert len(plain.files) == 5
    written = Lock("demo", "1", "demo", SHA256, ARM, {}, (artifact,))
    assert b"secret" not in render_lock(written)
    assert parse_lock(render_lock(written), "lock") == written


def test_a_host_that_does_not_answer_is_not_asked_for_every_wheel(tmp_path: Path) -> None:
    hung_up: list[socket.socket] = []
    with Index() as index, socket.create_server(("127.0.0.1", 0)) as other:
        host = f"127.0.0.1:{other.getsockname()[1]}"

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    hung_up.append(other.accept()[0])
                    hung_up[-1].close()

        hanging_up = threading.Thread(target=hang_up)
        hanging_up.start()
        wanted = [f"package-{number}" for number in range(12)]
        for name in wanted:
            index.add(*make_wheel(name, "1.0"), provenance_url=f"http://{host}/{name}")
        request = request_for(*wanted, index_url=index.url)
        try:
            artifact = wheels.resolve(request, None, context_at(tmp_path, provenance=True)).artifact
        finally:
            other.shutdown(socket.SHUT_RDWR)  # closing it would not wake who waits in accept
            hanging_up.join()
    assert isinstance(artifact, WheelsArtifact)
    assert {p.provenance.reason for p in artifact.packages if p.provenance} == {f"{host} could not be asked"}
    assert 0 < len(hung_up) <= 4  # as many as are asked at once


def test_a_lock_that_names_what_does_not_travel_is_refused() -> None:
    found = {"state": "present", "files": [f"{FILE}.provenance"]}
    untrue = ({"state": "present"}, {"state": "absent", "files": [FILE]}, {"state": "valid"})
    for wrong in (found, {**found, "files": ["other"]}, *untrue):
        document = {
            "format": 1,
            "bundle": {"name": "demo", "version": "1", "channel": "demo"},
            "manifest": {"sha256": SHA256},
            "target": {"python": "3.10", "platform": "linux/arm64", "glibc": "2.28"},
            "tools": {},
            "artifacts": [
                {
                    "kind": "wheels", "name": "serving", "request": "", "requirements": [], "python": "3.10",
                    "packages": [{"name": "one", "version": "1.0", "file": FILE, "provenance": wrong}],
                    "files": [{"path": FILE, "size": 1, "sha256": SHA256, "url": "https://index.test/one"}],
                }
            ],
        }  # fmt: skip
        with pytest.raises(InputError, match=r"packages|provenance"):
            parse_lock(json.dumps(document).encode(), "lock")


def _envelope(document: Any) -> Any:
    return document["attestation_bundles"][0]["attestations"][0]["envelope"]


def _say(document: Any, **said: object) -> None:
    statement = json.loads(base64.b64decode(_envelope(document)["statement"])) | said
    _envelope(document)["statement"] = base64.b64encode(json.dumps(statement).encode()).decode()


OTHER = make_provenance(FILE, b"other bytes")
WRONG: dict[str, tuple[Callable[[Any], object], str]] = {
    "version": (lambda d: d.update(version=2), "version: expected 1"),
    "no bundles": (lambda d: d.update(attestation_bundles=[]), "expected an attestation, found none"),
    "no attestations": (lambda d: d["attestation_bundles"][0].update(attestations=[]), "found none"),
    "no publisher": (lambda d: d["attestation_bundles"][0].pop("publisher"), "publisher"),
    "a publisher of control characters": (
        lambda d: d["attestation_bundles"][0]["publisher"].update(repository="a\x1b[2J"),
        "expected a publisher's name",
    ),
    "no material": (
        lambda d: d["attestation_bundles"][0]["attestations"][0].pop("verification_material"),
        "verification_material",
    ),
    "no signature": (lambda d: _envelope(d).pop("signature"), "signature: missing"),
    "not base64": (lambda d: _envelope(d).update(statement="e30"), "not base64"),
    "another statement": (lambda d: _say(d, _type="x"), "expected https://in-toto.io/Statement/v1"),
    "no subject": (lambda d: _say(d, subject=[]), "found none"),
    "another file": (
        lambda d: _say(d, subject=[{"name": "two.whl", "digest": {"sha256": SHA256}}]),
        f"expected it about {FILE}",
    ),
    "one of two about other bytes": (
        lambda d: d["attestation_bundles"].extend(json.loads(OTHER)["attestation_bundles"]),
        f"expected it about {FILE} of sha256 {SHA256}",
    ),
    "too many": (lambda d: d["attestation_bundles"].extend(d["attestation_bundles"] * 20), "more than 20"),
}


@pytest.mark.parametrize("name", WRONG)
def test_attestations_that_are_none_of_this_wheel_are_refused(name: str) -> None:
    document = json.loads(make_provenance(FILE, DATA))
    assert read_provenance(json.dumps(document).encode(), FILE, SHA256) == (CLAIMED,)
    spoil, expected = WRONG[name]
    spoil(document)
    with pytest.raises(InputError) as caught:
        read_provenance(json.dumps(document).encode(), FILE, SHA256)
    assert expected in caught.value.message


def test_a_signature_travels_where_it_is_about_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("docker-registry", "skopeo")
    bare_environment(monkeypatch, tmp_path / "home")
    layout = images.multi(tmp_path / "layout", "linux/amd64", "linux/arm64")
    where = replace(context(tmp_path), provenance=True)
    with registry(tmp_path / "registry") as running:
        request = image_request(f"{running.host}/team/app:1")
        push(layout.path, running, "team/app:1")
        absent, codes = lock(request, where)
        push_signature(running, "team/app", layout.digest, about="0" * 64)
        failed, warned = lock(request, where)
        digest = push_signature(running, "team/app", layout.digest)
        present, _ = lock(request, where)
        assert lock(request, where, present)[0] == present
        unasked, _ = lock(request, context(tmp_path))
    assert absent.signature and absent.signature.state is ProvenanceState.ABSENT
    assert failed.signature and f"expected one about sha256:{layout.digest}" in failed.signature.reason
    assert (codes, warned) == (["container-narrowed"], ["container-narrowed", "signature-failed"])
    assert present.signature and present.signature.files == (f"blobs/sha256/{digest}",)
    assert [len(a.files) for a in (unasked, absent, failed, present)] == [4, 4, 4, 7]
    assert (present.root, present.files[:4]) == (absent.root, absent.files)
    assert unasked.signature is None
    written = Lock("demo", "1", "demo", SHA256, ARM, {}, (present,))
    assert parse_lock(render_lock(written), "lock") == written


def test_a_registry_that_lost_a_signature_makes_it_unknown_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("docker-registry", "skopeo")
    bare_environment(monkeypatch, tmp_path / "home")
    layout = images.single(tmp_path / "layout")
    with registry(tmp_path / "registry") as running:
        push(layout.path, running, "app:1")
        digest = push_signature(running, "app", layout.digest)
        [layer] = json.loads(running.blob(digest).read_bytes())["layers"]
        running.blob(layer["digest"].removeprefix("sha256:")).unlink()
        artifact, codes = lock(
            image_request(f"{running.host}/app:1"), replace(context(tmp_path), provenance=True)
        )
    assert artifact.signature and artifact.signature.state is ProvenanceState.UNKNOWN
    assert codes == ["signature-unknown"]


# ------------------------------------------------------------------ through the gap


def test_provenance_crosses_the_gap_and_is_said_on_both_sides(tmp_path: Path) -> None:
    need("docker-registry", "skopeo")
    stage = Stage(tmp_path)
    stage.holders("alice")
    layout = images.single(tmp_path / "layout")
    with Index() as index, registry(tmp_path / "registry") as running:
        index.add(FILE, DATA, provenance=make_provenance(FILE, DATA))
        index.add(*make_wheel("two", "1.0"))
        push(layout.path, running, "app:1")
        signed = push_signature(running, "app", layout.digest)
        tables = f'[[wheels]]\nname = "serving"\nrequirements = ["one", "two"]\nindex-url = "{index.url}"\n'
        tables += f'[[containers]]\nname = "app"\nimage = "{running.host}/app:1"\nplain-http = true\n'
        stage.manifest(tables)
        said = stage.run("lock", "demo.toml").out
        for line in (
            f"1 of 2 wheels, not judged; claim to be of {CLAIMED}",
            "signature: present, not judged",
        ):
            assert line in said
        stage.build()
    assert "up to date" in stage.run("lock", "demo.toml").out  # with nobody to ask
    stage.pin()
    stage.run("install", stage.bundle, "--site", "site")
    current = tmp_path / "site/current/wheels/serving"
    assert (current / f"{FILE}.provenance").read_bytes() == make_provenance(FILE, DATA)
    assert (tmp_path / "site/blobs/sha256" / signed).exists()
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", ".", "--quiet"]
    subprocess.run([*pip, "--target", tmp_path / "used", "-r", "requirements.txt"], check=True, cwd=current)
    assert (tmp_path / "used/one/__init__.py").exists()
    shown = stage.run("inspect", stage.bundle).out
    assert "attestations: 1 of 2 wheels, not judged" in shown
    assert "signature: present, not judged" in shown
    serving, app = stage.run("inspect", stage.bundle, "--json").document["artifacts"]
    assert serving["attestations"][FILE] == {"state": "present", "publishers": [CLAIMED], "reason": ""}
    assert app["signature"]["state"] == "present"
    audited = stage.run("audit", "site", "--json", code=None).document
    [one, two] = audited["wheels"]
    assert (one["provenance"]["state"], two["provenance"]["state"]) == ("present", "absent")
    [image] = [a for a in audited["artifacts"] if a["kind"] == Kind.CONTAINER.value]
    assert image["signature"]["state"] == "present"
    assert [f["code"] for f in audited["findings"] if ".provenance" in f["subject"]] == []
    assert [i["digest"] for i in audited["images"]] == [layout.digest]
    assert f"{FILE}.provenance" in stage.run("inspect", stage.bundle, "--why", "one").out


def test_a_site_that_wants_none_has_none(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with Index() as index:
        index.add(FILE, DATA, provenance=make_provenance(FILE, DATA))
        table = f'[[wheels]]\nname = "serving"\nrequirements = ["one"]\nindex-url = "{index.url}"\n'
        manifest = stage.manifest(table)
        manifest.write_text(manifest.read_text().replace("[target]", "provenance = false\n[target]"))
        assert "attestations" not in stage.run("lock", "demo.toml").out
        manifest.write_text(manifest.read_text().replace("provenance = false\n", ""))
        assert "attestations: 1 of 1" in stage.run("lock", "demo.toml").out
