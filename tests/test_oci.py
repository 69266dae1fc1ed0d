import contextlib
import json
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.errors import InputError
from airgap.model import Platform, Sha256
from airgap.oci import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    ImageIndex,
    ImageManifest,
    Reference,
    parse_config,
    parse_image,
    same_platform,
    select,
)

HEX = "ab" * 32


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("ubuntu", "docker.io/library/ubuntu:latest"),
        ("ubuntu:22.04", "docker.io/library/ubuntu:22.04"),
        ("vllm/vllm-openai:v0.19.1", "docker.io/vllm/vllm-openai:v0.19.1"),
        ("docker.io/ubuntu", "docker.io/library/ubuntu:latest"),
        ("index.docker.io/library/ubuntu", "docker.io/library/ubuntu:latest"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a/b__c/d--e:x", "localhost:5000/a/b__c/d--e:x"),
        ("[::1]:5000/a:x", "[::1]:5000/a:x"),
        ("quay.io/a/b@sha256:" + HEX, f"quay.io/a/b@sha256:{HEX}"),
        (f"nvcr.io/nvidia/x:24.01@sha256:{HEX}", f"nvcr.io/nvidia/x:24.01@sha256:{HEX}"),
        ("Registry/a:1", "Registry/a:1"),
    ],
)
def test_references_are_read_as_docker_reads_them(text: str, full: str) -> None:
    assert str(Reference.parse(text)) == full


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Ubuntu",
        "a//b",
        "/a",
        "a/",
        "docker.io/a:",
        "a@sha256:" + "g" * 64,
        "a@sha256:" + "a" * 63,
        "a@md5:" + "a" * 32,
        "https://docker.io/a",
        "user:secret@docker.io/a",
        "a b",
        "a\n",
        "a..b/c",
        "x.io/" + "a" * 256,
        HEX,
        "a:" + "t" * 129,
        "x.io:999999/a",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected"):
        Reference.parse(text)


word = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)


@given(
    st.sampled_from(["docker.io", "localhost", "r.example:5000", "10.0.0.1:80"]),
    st.lists(word, min_size=2, max_size=4).map("/".join),
    word,
    st.booleans(),
)
def test_a_reference_survives_being_written_and_read(host: str, path: str, tag: str, pinned: bool) -> None:
    reference = Reference(host, path, tag, Sha256(HEX) if pinned else None)
    assert Reference.parse(str(reference)) == reference


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_an_input_error(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InputError:
        return
    assert Reference.parse(str(reference)) == reference
    assert re.fullmatch(r"[!-~]+", str(reference))


def descriptor(**more: object) -> dict[str, object]:
    return {"mediaType": OCI_CONFIG, "digest": f"sha256:{HEX}", "size": 3, **more}


def manifest(**more: object) -> bytes:
    table = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(), "layers": [descriptor()]}
    return json.dumps(table | more).encode()


def index(*platforms: str | None, **more: object) -> bytes:
    entries = []
    for number, text in enumerate(platforms):
        entry = descriptor(mediaType=OCI_MANIFEST, digest=f"sha256:{number:064x}")
        if text:
            os, architecture, *variant = text.split("/")
            entry["platform"] = {"os": os, "architecture": architecture} | (
                {"variant": variant[0]} if variant else {}
            )
        entries.append(entry)
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries} | more).encode()


def test_a_manifest_is_read_with_unknown_keys_and_go_nulls() -> None:
    image = parse_image(manifest(annotations=None, subject=None, future={"x": 1.5}), "m")
    assert image == ImageManifest(
        OCI_MANIFEST, Descriptor(OCI_CONFIG, Sha256(HEX), 3), (Descriptor(OCI_CONFIG, Sha256(HEX), 3),)
    )


def test_the_announced_type_stands_in_for_one_that_is_missing() -> None:
    data = manifest(mediaType=None)
    assert parse_image(data, "m", media_type=DOCKER_MANIFEST).media_type == DOCKER_MANIFEST
    assert parse_image(data, "m").media_type == OCI_MANIFEST


@pytest.mark.parametrize(
    ("data", "announced", "message"),
    [
        (manifest(manifests=[]), "", "both an image index and an image manifest"),
        (manifest(), OCI_INDEX, "as it was announced"),
        (manifest(), DOCKER_MANIFEST, "as it was announced"),
        (manifest(mediaType=OCI_INDEX), "", "expected an image manifest"),
        (index(mediaType=DOCKER_MANIFEST), "", "expected an image index"),
        (b'{"schemaVersion":1,"fsLayers":[]}', "", "schema 1"),
        (b'{"schemaVersion":3,"manifests":[]}', "", "expected 2"),
        (b"[]", "", "expected a table"),
        (b'{"schemaVersion":2}', "", "config"),
        (b'{"schemaVersion":2,"schemaVersion":2}', "", "twice"),
        (manifest(Layers=[]), "", "Layers: expected layers"),
        (manifest(**{"layer\u017f": []}), "", "layer.: expected layers"),
        (manifest(layers=[descriptor(Digest=f"sha256:{'b' * 64}")]), "", "Digest: expected digest"),
        (index(Manifests=[]), "", "Manifests: expected manifests"),
        (manifest(config=descriptor(digest="sha512:" + "a" * 128)), "", "config.digest"),
        (manifest(config=descriptor(size=-1)), "", "config.size"),
        (manifest(layers=[descriptor(mediaType="a b")]), "", "layers.0..mediaType"),
        (b" " * (4 * 1024 * 1024 + 1), "", "allowed"),
    ],
)
def test_documents_that_readers_would_read_differently_are_refused(
    data: bytes, announced: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        parse_image(data, "m", media_type=announced)


def test_every_problem_of_a_manifest_is_named_at_once() -> None:
    with pytest.raises(InputError) as raised:
        parse_image(manifest(config=descriptor(size="x"), layers=[descriptor(digest="?")]), "m")
    assert len(raised.value.problems) == 2


@given(
    st.binary(max_size=200)
    | st.builds(
        lambda v: json.dumps(v).encode(),
        st.dictionaries(
            st.sampled_from(["schemaVersion", "manifests", "layers", "config", "mediaType"]),
            st.recursive(
                st.none() | st.integers() | st.text(max_size=5),
                lambda c: (
                    st.lists(c, max_size=3)
                    | st.dictionaries(st.sampled_from(["digest", "size", "platform"]), c, max_size=3)
                ),
            ),
        ),
    )
)
def test_any_bytes_are_an_image_or_an_input_error(data: bytes) -> None:
    with contextlib.suppress(InputError):
        parse_image(data, "m")


def parsed_index(*platforms: str | None) -> ImageIndex:
    image = parse_image(index(*platforms), "i")
    assert isinstance(image, ImageIndex)
    return image


def numbers(entries: tuple[Descriptor, ...]) -> list[int]:
    return [int(entry.digest, 16) for entry in entries]


def test_wanted_platforms_are_kept_in_the_order_of_the_index() -> None:
    chosen = select(
        parsed_index("linux/amd64", "unknown/unknown", "linux/arm64/v8", "linux/s390x"),
        ("linux/arm64", "linux/amd64"),
        "i",
    )
    assert numbers(chosen.kept) == [0, 2]
    assert numbers(chosen.left_out) == [1, 3]


def test_all_keeps_attestations_too() -> None:
    chosen = select(parsed_index("linux/amd64", "unknown/unknown", None), ("all",), "i")
    assert (numbers(chosen.kept), chosen.left_out) == ([0, 1, 2], ())


def test_the_first_of_equal_platforms_is_taken() -> None:
    chosen = select(parsed_index("windows/amd64", "windows/amd64"), ("windows/amd64",), "i")
    assert (numbers(chosen.kept), numbers(chosen.left_out)) == ([0], [1])


def test_a_missing_platform_names_those_that_exist() -> None:
    with pytest.raises(InputError, match=r"linux/riscv64; its platforms are linux/amd64, linux/arm64/v8"):
        select(parsed_index("linux/amd64", "linux/arm64/v8", "unknown/unknown"), ("linux/riscv64",), "i")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/amd64", "linux/amd64/v1", True),
        ("linux/amd64", "linux/amd64/v3", False),
        ("linux/arm", "linux/arm/v7", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/amd64", "windows/amd64", False),
    ],
)
def test_implied_variants_are_written_out_before_comparing(one: str, other: str, same: bool) -> None:
    assert same_platform(Platform.parse(one), Platform.parse(other)) is same


def test_docker_lists_are_indexes() -> None:
    assert isinstance(parse_image(index(mediaType=DOCKER_INDEX), "i"), ImageIndex)


def test_a_config_says_platform_and_diff_ids() -> None:
    data = {
        "os": "linux",
        "architecture": "arm64",
        "variant": "v8",
        "rootfs": {"diff_ids": [f"sha256:{HEX}"]},
    }
    config = parse_config(json.dumps(data).encode(), "c")
    assert (str(config.platform), config.diff_ids) == ("linux/arm64/v8", (HEX,))
    labels = {"config": {"Labels": {"OS": "x", "user": "y"}}, "history": [{"comment": "x"}]}
    assert parse_config(json.dumps(data | labels).encode(), "c") == config
    others: list[dict[str, object]] = [
        {"Config": {}}, {"config": {"env": ["TOKEN=x"]}}, {"config": {"USER": "root"}},
    ]  # fmt: skip
    for other in others:
        with pytest.raises(InputError, match="as Go's readers take it"):
            parse_config(json.dumps(data | other).encode(), "c")
    with pytest.raises(InputError, match="rootfs"):
        parse_config(b'{"os":"linux","architecture":"arm64"}', "c")
    with pytest.raises(InputError, match=r"diff_ids\[0\]"):
        parse_config(b'{"os":"linux","architecture":"a","rootfs":{"diff_ids":["x"]}}', "c")
