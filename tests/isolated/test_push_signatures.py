"""`airgap push` of an image with the signatures that travelled with it, to two sorts of registry."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from airgap.image_signatures import JWS, SIGNATURE, SIMPLE_SIGNING
from tests import images
from tests.servers.referrers import with_referrers
from tests.servers.registry import RunningRegistry, push, registry
from tests.servers.signing import (
    BUNDLE,
    OCI_INDEX,
    OCI_MANIFEST,
    payload,
    push_blob,
    push_index,
    push_referrer,
    push_signature,
    put_manifest,
)
from tests.services import need
from tests.stage import Stage


@dataclass(frozen=True)
class Carried:
    """A site that an image and its signatures came to."""

    stage: Stage
    image: str
    tagged: str
    referring: tuple[str, ...]


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Carried:
    need("docker-registry", "skopeo")
    directory = tmp_path_factory.mktemp("signed")
    stage = Stage(directory)
    stage.holders("alice")
    layout = images.single(directory / "layout")
    both = images.multi(directory / "multi", "linux/amd64", "linux/arm64")
    with registry(directory / "registry") as plain, with_referrers(plain) as (running, _):
        push(layout.path, plain, "app:1")
        push(both.path, plain, "both:1")
        image = layout.digest, (layout.path / "blobs/sha256" / layout.digest).stat().st_size
        tagged = push_signature(running, "app", layout.digest)
        push_signature(running, "both", both.digest)
        referring = [str(push_referrer(running, "app", image, kind)["digest"]) for kind in (BUNDLE, JWS)]
        tables = [
            f'[[containers]]\nname = "{name}"\nimage = "{running.host}/{name}:1"\nplain-http = true\n'
            for name in ("app", "both")
        ]
        stage.manifest("".join(tables))
        stage.run("lock", "demo.toml")
        stage.build()
    stage.pin()
    stage.run("install", stage.bundle, "--site", "site")
    return Carried(stage, layout.digest, tagged, tuple(referring))


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[RunningRegistry]:
    with registry(tmp_path / "target") as running:
        yield running


def _push(carried: Carried, running: RunningRegistry, *options: str, name: str = "app") -> Any:
    where = f"{running.host}/team/app:1"
    return carried.stage.run(
        "push", name, where, "--site", "site", "--plain-http", "--json", *options
    ).document


def _get(running: RunningRegistry, what: str) -> Any:
    accept = {"Accept": f"{OCI_MANIFEST}, {OCI_INDEX}"}
    answer = requests.get(f"http://{running.host}/v2/team/app/{what}", headers=accept, timeout=10)
    return answer if answer.status_code == 200 else None


def _digest(running: RunningRegistry, tag: str) -> str:
    answer = _get(running, f"manifests/{tag}")
    return images.sha256(answer.content) if answer else ""


def test_signatures_are_where_their_tools_look_for_them(carried: Carried, plain: RunningRegistry) -> None:
    done = _push(carried, plain)
    assert _digest(plain, "1") == carried.image
    assert _digest(plain, f"sha256-{carried.image}.sig") == carried.tagged
    [layer] = _get(plain, f"manifests/sha256:{carried.tagged}").json()["layers"]
    assert _get(plain, f"blobs/{layer['digest']}").content == payload(carried.image)
    listed = _get(plain, f"manifests/sha256-{carried.image}").json()["manifests"]
    assert [(one["digest"], one["artifactType"]) for one in listed] == [
        (carried.referring[0], BUNDLE),
        (carried.referring[1], "application/vnd.cncf.notary.signature"),
    ]
    assert listed[0]["annotations"] == {"org.opencontainers.image.created": "2026-01-01T00:00:00Z"}
    for digest in carried.referring:
        assert f"sha256:{_digest(plain, digest)}" == digest
    tag = f"sha256-{carried.image}.sig"
    assert [(one["tag"], one["kept_out"]) for one in done["signatures"]] == [
        (tag, None),
        (None, None),
        (None, None),
    ]
    where = f"{plain.host}/team/app:1"
    said = carried.stage.run("push", "app", where, "--site", "site", "--plain-http").out
    assert f"signature sha256:{carried.tagged}: there too, under the tag {tag}; not judged" in said
    assert said.count("there too, as a referrer of the image; not judged") == 2
    again = _push(carried, plain)
    assert (again["sent"]["blobs"], again["signatures"]) == (0, done["signatures"])
    assert _get(plain, f"manifests/sha256-{carried.image}").json()["manifests"] == listed


def test_a_registry_with_the_api_lists_them_itself(carried: Carried, plain: RunningRegistry) -> None:
    with with_referrers(plain) as (running, state):
        _push(carried, running)
        assert [one["digest"] for one in state.listed[f"sha256:{carried.image}"]] == list(carried.referring)
        assert _digest(plain, f"sha256-{carried.image}") == ""  # no tag that stands in for the API
        state.forgets = True
        state.listed.clear()
        where = f"{running.host}/other:1"
        said = carried.stage.run("push", "app", where, "--site", "site", "--plain-http", code=4).err
    assert "is there as it was signed, not all its signatures" in said
    assert "--without-signatures" in said


def test_a_registry_that_alters_them_is_caught(carried: Carried, plain: RunningRegistry) -> None:
    tags = [f"sha256-{carried.image}.sig", carried.referring[0]]
    for altered in tags:
        with with_referrers(plain) as (running, state):
            state.altered = altered
            where = f"{running.host}/team/app:1"
            said = carried.stage.run("push", "app", where, "--site", "site", "--plain-http", code=6).err
        assert f"{altered} is sha256:" in said


def test_they_can_be_left_out(carried: Carried, plain: RunningRegistry) -> None:
    assert _push(carried, plain, "--without-signatures")["signatures"] == []
    assert _digest(plain, "1") == carried.image
    assert not _get(plain, f"manifests/sha256-{carried.image}.sig")


def test_what_others_signed_there_stays(carried: Carried, plain: RunningRegistry) -> None:
    tag = f"sha256-{carried.image}.sig"
    other = push_blob(plain, "team/app", payload(carried.image), SIMPLE_SIGNING)
    other["annotations"] = {SIGNATURE: "b3RoZXI="}
    config = push_blob(plain, "team/app", b"{}", "application/vnd.oci.image.config.v1+json")
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [other]}
    theirs = put_manifest(plain, "team/app", document, OCI_MANIFEST, tag)
    [kept_out, *_] = _push(carried, plain)["signatures"]
    assert f"{tag} there holds other signatures, {theirs['digest']}" in kept_out["kept_out"]
    assert f"sha256:{_digest(plain, tag)}" == theirs["digest"]
    # cosign adds a layer to what is there: ours among theirs is there
    document["layers"] = [other, _ours(carried)]
    grown = put_manifest(plain, "team/app", document, OCI_MANIFEST, tag)
    [there, *_] = _push(carried, plain)["signatures"]
    assert there["kept_out"] is None
    assert f"sha256:{_digest(plain, tag)}" == grown["digest"]


def _ours(carried: Carried) -> Any:
    blob = carried.stage.directory / "site/blobs/sha256" / carried.tagged
    return json.loads(blob.read_bytes())["layers"][0]


def test_a_list_of_others_is_added_to_and_what_is_no_list_is_left(
    carried: Carried, plain: RunningRegistry
) -> None:
    tag = f"sha256-{carried.image}"
    _push(carried, plain, "--without-signatures")
    theirs = push_referrer(plain, "team/app", (carried.image, 1), SIMPLE_SIGNING)
    push_index(plain, "team/app", tag, [theirs])
    _push(carried, plain)
    listed = _get(plain, f"manifests/{tag}").json()["manifests"]
    assert [one["digest"] for one in listed] == [theirs["digest"], *carried.referring]
    image = _get(plain, "manifests/1")
    kind = image.headers["Content-Type"]
    put_manifest(plain, "team/app", image.json(), kind, tag)
    where = f"{plain.host}/team/app:1"
    said = carried.stage.run("push", "app", where, "--site", "site", "--plain-http", code=4).err
    assert f"the tag {tag}" in said
    assert _get(plain, f"manifests/{tag}").headers["Content-Type"] == kind


def test_signatures_of_an_index_stay_where_one_image_of_it_goes(
    carried: Carried, plain: RunningRegistry
) -> None:
    [kept_out] = _push(carried, plain, name="both")["signatures"]
    assert "which is not there" in kept_out["kept_out"]
    tags = requests.get(f"http://{plain.host}/v2/team/app/tags/list", timeout=10).json()["tags"]
    assert tags == ["1"]


def test_a_signature_that_was_changed_in_the_site_is_not_pushed(
    carried: Carried, plain: RunningRegistry
) -> None:
    blob = carried.stage.directory / "site/blobs/sha256" / _ours(carried)["digest"].removeprefix("sha256:")
    before, mode = blob.read_bytes(), blob.stat().st_mode
    blob.chmod(0o644)
    try:
        blob.write_bytes(before.replace(b"cosign", b"cosine"))
        where = f"{plain.host}/team/app:1"
        said = carried.stage.run("push", "app", where, "--site", "site", "--plain-http", code=6).err
    finally:
        blob.write_bytes(before)
        blob.chmod(mode)
    assert "its bytes are others" in said
    assert not _get(plain, "manifests/1")


def test_why_says_what_is_a_signature(carried: Carried) -> None:
    stage = carried.stage
    manifest = stage.run("inspect", stage.bundle, "--why", carried.tagged).out
    assert ": manifest of a signature of the image " in manifest
    assert ", found upstream and not judged (" in manifest
    part = stage.run("inspect", stage.bundle, "--why", _ours(carried)["digest"].removeprefix("sha256:")).out
    assert ": part of a signature of the image " in part
    assert "app: " in (image := stage.run("inspect", stage.bundle, "--why", carried.image).out)
    assert ": part of the image" in image
