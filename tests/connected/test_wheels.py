"""Locking wheels for a machine that is not this one: choice, pins, bad requirements, sdists, local wheels."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from airgap.connected import wheels
from airgap.connected.resolver_protocol import Choice, ask
from airgap.connected.wheels_uv import cross_check
from airgap.errors import InputError, IntegrityError
from airgap.model import Finding, Local, Made, Platform, Remote, Severity, Sha256, Target, WheelsArtifact
from tests.connected.resolving import ARM, context_at, names, pins, request_for
from tests.servers.index import Index, make_sdist, make_wheel


@pytest.fixture
def index() -> Iterator[Index]:
    with Index() as served:
        yield served


def codes(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.code for finding in findings]


@pytest.mark.parametrize("pages", ["html", "json", "both"])
def test_both_forms_of_index_give_the_same_lock(index: Index, pages: str, tmp_path: Path) -> None:
    index.pages = pages
    index.sizes = pages == "both"
    file, data = make_wheel("one", "1.0", requires=["two>=2"], requires_python=">=3.8")
    index.add(file, data)
    index.add(*make_wheel("two", "2.0"))
    index.add(*make_wheel("two", "3.0"), requires_python=">=3.99")
    resolved = wheels.resolve(request_for("one", index_url=index.url), None, context_at(tmp_path))
    artifact = resolved.artifact
    assert isinstance(artifact, WheelsArtifact)
    assert pins(artifact) == {"one": "1.0", "two": "2.0"}
    one = artifact.files[0]
    assert (one.size, one.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert one.origin == Remote(f"http://127.0.0.1:{index.port}/files/one/{file}")
    package = artifact.packages[0]
    assert (package.index, package.requires_python, package.requires) == (index.url, ">=3.8", ("two",))
    assert resolved.findings == ()


def test_markers_and_tags_are_the_targets(index: Index, tmp_path: Path) -> None:
    index.add(
        *make_wheel(
            "app",
            "1.0",
            requires=[
                "backport; python_version < '3.11'",
                "cuda; platform_machine == 'x86_64'",
                "native",
                "future; python_version >= '3.11'",
            ],
        )
    )
    index.add(*make_wheel("backport", "1.0"))
    for arch in ("x86_64", "aarch64"):
        for python in ("cp310", "cp311"):
            index.add(*make_wheel("native", "1.0", tag=f"{python}-{python}-manylinux_2_28_{arch}"))
            index.add(*make_wheel("native", "2.0", tag=f"{python}-{python}-manylinux_2_34_{arch}"))
    resolved = wheels.resolve(request_for("app", index_url=index.url), None, context_at(tmp_path))
    assert names(resolved.artifact) == [
        "app-1.0-py3-none-any.whl",
        "backport-1.0-py3-none-any.whl",
        "native-1.0-cp310-cp310-manylinux_2_28_aarch64.whl",
    ]
    assert codes(resolved.findings) == []


def test_requires_python_is_read_from_metadata_for_the_target(index: Index, tmp_path: Path) -> None:
    index.add(*make_wheel("one", "1.0", requires_python=">=3.8"))
    index.add(*make_wheel("one", "2.0", requires_python=">=3.11"))
    resolved = wheels.resolve(request_for("one", index_url=index.url), None, context_at(tmp_path))
    assert pins(resolved.artifact) == {"one": "1.0"}


def test_the_best_tag_then_the_highest_build_is_chosen(index: Index, tmp_path: Path) -> None:
    for tag, build in [
        ("py3-none-any", "9"),
        ("cp310-abi3-manylinux2014_aarch64", ""),
        ("cp310-cp310-manylinux2014_aarch64", "1"),
        ("cp310-cp310-manylinux2014_aarch64", "2"),
        ("cp310-cp310-manylinux1_x86_64", "3"),
    ]:
        index.add(*make_wheel("one", "1.0", tag=tag, build=build))
    resolved = wheels.resolve(request_for("one", index_url=index.url), None, context_at(tmp_path))
    assert names(resolved.artifact) == ["one-1.0-2-cp310-cp310-manylinux2014_aarch64.whl"]


def test_no_wheel_for_the_target_names_the_tags_that_exist(index: Index, tmp_path: Path) -> None:
    index.add(*make_wheel("one", "1.0", tag="cp310-cp310-manylinux_2_34_aarch64"))
    index.add(*make_wheel("one", "1.0", tag="cp312-cp312-manylinux_2_17_aarch64"))
    with pytest.raises(InputError) as caught:
        wheels.resolve(request_for("one==1.0", index_url=index.url), None, context_at(tmp_path))
    assert "one 1.0: no wheel for the target" in caught.value.message
    assert "cp310-cp310-manylinux_2_34_aarch64, cp312-cp312-manylinux_2_17_aarch64" in caught.value.message


def test_a_conflict_is_told_in_pips_words(index: Index, tmp_path: Path) -> None:
    index.add(*make_wheel("one", "1.0", requires=["two<2"]))
    index.add(*make_wheel("two", "1.0"))
    index.add(*make_wheel("two", "2.0"))
    with pytest.raises(InputError) as caught:
        wheels.resolve(request_for("one", "two>=2", index_url=index.url), None, context_at(tmp_path))
    assert caught.value.problems[-2:] == (
        "    The user requested two>=2",
        "    one 1.0 depends on two<2",
    )
    assert "To fix this" not in caught.value.message


@pytest.mark.parametrize(
    ("requirement", "said"),
    [
        ("absent", "absent: no index has a project of this name"),
        ("one==7", "No matching|Could not find a version that satisfies the requirement one==7"),
        ("new", "new 1.0 requires Python >=3.99; the target has 3.10.0"),
        ("one=>1", "Invalid requirement"),
        ("--pre", "expected a requirement such as"),
        ("one @ git+https://example.org/one", "a source tree is not a wheel"),
        ("one --hash=sha512:00", "expected a --hash=sha256"),
    ],
)
def test_bad_requirements(index: Index, tmp_path: Path, requirement: str, said: str) -> None:
    index.add(*make_wheel("one", "1.0"))
    index.add(*make_wheel("new", "1.0"), requires_python=">=3.99")
    with pytest.raises(InputError, match=said):
        wheels.resolve(request_for(requirement, index_url=index.url), None, context_at(tmp_path))


def test_an_unchanged_request_needs_no_network_and_pins_stay(index: Index, tmp_path: Path) -> None:
    context = context_at(tmp_path)
    index.add(*make_wheel("one", "1.0"))
    request = request_for("one", index_url=index.url)
    first = wheels.resolve(request, None, context).artifact
    assert isinstance(first, WheelsArtifact)
    index.add(*make_wheel("one", "2.0"))
    index.add(*make_wheel("two", "1.0"))
    index.asked.clear()
    assert wheels.resolve(request, first, context).artifact is first
    assert index.asked == []
    grown = request_for("one", "two", index_url=index.url)
    assert pins(wheels.resolve(grown, first, context).artifact) == {"one": "1.0", "two": "1.0"}
    raised = request_for("one>=2", index_url=index.url)
    assert pins(wheels.resolve(raised, first, context).artifact) == {"one": "2.0"}
    assert pins(wheels.resolve(request, None, context).artifact) == {"one": "2.0"}


def test_a_second_lock_is_the_same(index: Index, tmp_path: Path) -> None:
    index.add(*make_wheel("one", "1.0", requires=["two[extra]", "three"]))
    index.add(*make_wheel("two", "1.0", requires=["three; extra == 'extra'"]))
    index.add(*make_wheel("three", "1.0"))
    request = request_for("one", index_url=index.url)
    first = wheels.resolve(request, None, context_at(tmp_path))
    assert wheels.resolve(request, None, context_at(tmp_path, store="another")) == first


def test_requirements_file_and_constraints_are_part_of_the_request(index: Index, tmp_path: Path) -> None:
    index.add(*make_wheel("one", "1.0"))
    index.add(*make_wheel("one", "2.0"))
    (tmp_path / "requirements.in").write_text("-r more.in\n")
    (tmp_path / "more.in").write_text("one # the one\n")
    (tmp_path / "constraints.txt").write_text("one<2\n")
    context = context_at(tmp_path)
    request = request_for(
        requirements_file="requirements.in", constraints=("constraints.txt",), index_url=index.url
    )
    artifact = wheels.resolve(request, None, context).artifact
    assert isinstance(artifact, WheelsArtifact)
    assert (pins(artifact), artifact.requirements) == ({"one": "1.0"}, ("one",))
    assert wheels.resolve(request, artifact, context).artifact is artifact
    (tmp_path / "more.in").write_text("one==2.0\n")
    (tmp_path / "constraints.txt").write_text("\n")
    assert pins(wheels.resolve(request, artifact, context).artifact) == {"one": "2.0"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--extra-index-url https://example.org/simple", "every source belongs in the manifest"),
        ("--find-links https://example.org/wheels", "every source belongs in the manifest"),
        ("--no-binary one", "cannot be honoured"),
        ("-e .", "a source tree is not a wheel"),
        ("-r https://example.org/requirements.txt", "expected a file"),
        ("-r absent.in", "absent.in: cannot be read"),
    ],
)
def test_a_requirements_file_adds_no_source(index: Index, tmp_path: Path, line: str, said: str) -> None:
    index.add(*make_wheel("one", "1.0"))
    (tmp_path / "requirements.in").write_text(f"{line}\none\n")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'here'\nversion = '1'\n")
    request = request_for(requirements_file="requirements.in", index_url=index.url)
    with pytest.raises(InputError, match=said):
        wheels.resolve(request, None, context_at(tmp_path))


@pytest.mark.parametrize("ranges", [True, False])
def test_hashes_in_requirements_are_checked(index: Index, tmp_path: Path, ranges: bool) -> None:
    index.ranges = ranges
    file, data = make_wheel("one", "1.0")
    index.add(file, data)
    right, wrong = hashlib.sha256(data).hexdigest(), "0" * 64
    good = request_for(f"one==1.0 --hash=sha256:{right}", index_url=index.url)
    assert names(wheels.resolve(good, None, context_at(tmp_path)).artifact) == [file]
    with pytest.raises(InputError, match=f"{wrong}|{right}"):
        wheels.resolve(
            request_for(f"one==1.0 --hash=sha256:{wrong}", index_url=index.url), None, context_at(tmp_path)
        )


def test_yanked_and_local_versions_are_said(index: Index, tmp_path: Path) -> None:
    index.add(*make_wheel("one", "1.0"), yanked="it breaks")
    index.add(*make_wheel("two", "2.0"))
    index.add(*make_wheel("two", "2.0+cpu"))
    request = request_for("one==1.0", "two==2.0", index_url=index.url)
    resolved = wheels.resolve(request, None, context_at(tmp_path))
    assert pins(resolved.artifact) == {"one": "1.0", "two": "2.0+cpu"}
    assert isinstance(resolved.artifact, WheelsArtifact)
    assert [package.yanked for package in resolved.artifact.packages] == ["it breaks", None]
    assert [(f.code, f.severity, f.subject) for f in resolved.findings] == [
        ("wheels-yanked", Severity.WARNING, "serving: one"),
        ("wheels-local-version", Severity.WARNING, "serving: two"),
    ]
    assert "it breaks" in resolved.findings[0].message and "2.0+cpu" in resolved.findings[1].message
    meant = request_for("two==2.0+cpu", index_url=index.url)
    assert wheels.resolve(meant, None, context_at(tmp_path)).findings == ()


def test_a_file_without_digest_is_downloaded_at_lock(index: Index, tmp_path: Path) -> None:
    file, data = make_wheel("one", "1.0")
    index.add(file, data, digest=False)
    context = context_at(tmp_path)
    resolved = wheels.resolve(request_for("one", index_url=index.url), None, context)
    assert isinstance(resolved.artifact, WheelsArtifact)
    [locked] = resolved.artifact.files
    assert locked.sha256 == hashlib.sha256(data).hexdigest()
    assert context.store.holds(locked.sha256, len(data))
    assert codes(resolved.findings) == ["wheels-digest-recorded"]


def test_fetch_brings_every_wheel_once(index: Index, tmp_path: Path) -> None:
    file, data = make_wheel("one", "1.0")
    index.add(file, data)
    context = context_at(tmp_path)
    artifact = wheels.resolve(request_for("one", index_url=index.url), None, context).artifact
    assert isinstance(artifact, WheelsArtifact)
    index.asked.clear()
    wheels.fetch(artifact, context)
    assert context.store.path(artifact.files[0].sha256).read_bytes() == data
    wheels.fetch(artifact, context)
    assert index.asked == [f"GET /files/one/{file}"]


def test_a_wheel_that_changed_on_the_index_is_refused(index: Index, tmp_path: Path) -> None:
    file, data = make_wheel("one", "1.0")
    index.add(file, data)
    context = context_at(tmp_path)
    artifact = wheels.resolve(request_for("one", index_url=index.url), None, context).artifact
    assert isinstance(artifact, WheelsArtifact)
    index.add(file, data[:-1] + b"x")
    with pytest.raises(IntegrityError, match=artifact.files[0].sha256):
        wheels.fetch(artifact, context)
    assert not context.store.holds(artifact.files[0].sha256)


def test_local_wheels_are_locked_by_path_and_watched(index: Index, tmp_path: Path) -> None:
    file, data = make_wheel("ours", "1.0")
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / file).write_bytes(data)
    context = context_at(tmp_path)
    request = request_for("ours", index_url=index.url, find_links=("wheels",))
    artifact = wheels.resolve(request, None, context).artifact
    assert isinstance(artifact, WheelsArtifact)
    assert artifact.files[0].origin == Local(f"wheels/{file}")
    assert artifact.packages[0].index == ""
    assert wheels.resolve(request, artifact, context).artifact is artifact
    _, changed = make_wheel("ours", "1.0", requires_python=">=3.9")
    (tmp_path / "wheels" / file).write_bytes(changed)
    with pytest.raises(IntegrityError, match="as locked"):
        wheels.fetch(artifact, context_at(tmp_path, store="empty"))
    again = wheels.resolve(request, artifact, context).artifact
    assert isinstance(again, WheelsArtifact)
    assert again.files[0].sha256 == hashlib.sha256(changed).hexdigest()


def test_a_path_in_requirements_begins_at_the_manifest(index: Index, tmp_path: Path) -> None:
    file, data = make_wheel("ours", "1.0")
    (tmp_path / file).write_bytes(data)
    resolved = wheels.resolve(request_for(f"./{file}", index_url=index.url), None, context_at(tmp_path))
    assert isinstance(resolved.artifact, WheelsArtifact)
    assert resolved.artifact.files[0].origin == Local(file)
    assert str(tmp_path) not in repr(resolved.artifact)
    assert resolved.findings == ()


def test_find_links_that_do_not_exist_are_an_error(index: Index, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        wheels.resolve(
            request_for("one", index_url=index.url, find_links=("absent",)), None, context_at(tmp_path)
        )


def test_an_sdist_needs_leave(index: Index, tmp_path: Path) -> None:
    index.add(*make_sdist("docopt", "0.6.2"))
    with pytest.raises(InputError, match=r"docopt 0\.6\.2: only an sdist exists") as caught:
        wheels.resolve(request_for("docopt", index_url=index.url), None, context_at(tmp_path))
    assert 'allow-sdist = ["docopt"]' in caught.value.remedy


def test_an_allowed_sdist_becomes_the_same_wheel_each_time(index: Index, tmp_path: Path) -> None:
    sdist, data = make_sdist("docopt", "0.6.2")
    index.add(sdist, data)
    request = request_for("docopt", index_url=index.url, allow_sdist=("docopt",))
    artifact = wheels.resolve(request, None, context_at(tmp_path)).artifact
    assert isinstance(artifact, WheelsArtifact)
    [locked] = artifact.files
    assert locked.path == artifact.packages[0].file == "docopt-0.6.2-py3-none-any.whl"
    url = f"http://127.0.0.1:{index.port}/files/docopt/{sdist}"
    assert locked.origin == Made("wheel-from-sdist", Remote(url), Sha256(hashlib.sha256(data).hexdigest()))
    empty = context_at(tmp_path, store="empty")
    wheels.fetch(artifact, empty)
    assert empty.store.holds(locked.sha256, locked.size)
    unlike = replace(artifact, files=(replace(locked, sha256=Sha256("0" * 64)),))
    with pytest.raises(IntegrityError, match="built again"):
        wheels.fetch(unlike, empty)


def test_an_sdist_that_compiles_is_refused(index: Index, tmp_path: Path) -> None:
    index.add(*make_sdist("fast", "1.0", extension=True))
    request = request_for("fast", index_url=index.url, allow_sdist=("fast",))
    with pytest.raises(InputError, match="expected a py3-none-any wheel, found cp312-cp312-linux_x86_64"):
        wheels.resolve(request, None, context_at(tmp_path))


def test_uv_stops_a_lock_it_disagrees_with(index: Index, tmp_path: Path) -> None:
    index.add(*make_wheel("one", "1.0"))
    index.add(*make_wheel("one", "2.0"))
    question = wheels._question(request_for("one", index_url=index.url), None, context_at(tmp_path))
    answer = ask(question)
    assert cross_check("serving", question, answer, ARM) == []
    [choice] = answer.choices
    older = replace(answer, choices=(replace(choice, version="1.0"),))
    with pytest.raises(InputError, match=r"one: pip 1\.0, uv 2\.0"):
        cross_check("serving", question, older, ARM)
    tampered = replace(answer, choices=(replace(choice, sha256=Sha256("0" * 64)),))
    with pytest.raises(InputError, match="none that uv saw"):
        cross_check("serving", question, tampered, ARM)
    extra: Choice = replace(choice, name="backport", version="3.0")
    with pytest.raises(InputError, match=r"backport: pip 3\.0, uv not needed"):
        cross_check("serving", question, replace(answer, choices=(choice, extra)), ARM)


def test_what_uv_cannot_be_asked_is_said(index: Index, tmp_path: Path) -> None:
    index.add(*make_wheel("one", "1.0"))
    request = request_for("one", index_url=index.url)
    near = wheels.resolve(request, None, context_at(tmp_path, replace(ARM, glibc="2.30")))
    assert codes(near.findings) == ["wheels-cross-checked-nearby"]
    s390x = Target("3.12", Platform("linux", "s390x"), "2.35")
    unnamed = wheels.resolve(request, None, context_at(tmp_path, s390x))
    assert codes(unnamed.findings) == ["wheels-not-cross-checked"]


def test_tools_are_named_with_their_versions() -> None:
    tools = wheels.tool_versions()
    assert tools["pip"] == "26.3" and tools["pip-tools"] == "7.6.2" and tools["uv"][0].isdigit()


def test_a_lock_holds_no_path_of_this_machine(index: Index, tmp_path: Path) -> None:
    index.add(*make_wheel("one", "1.0"))
    artifact = wheels.resolve(request_for("one", index_url=index.url), None, context_at(tmp_path)).artifact
    assert str(tmp_path) not in repr(artifact) and os.getcwd() not in repr(artifact)
