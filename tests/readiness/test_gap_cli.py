"""`airgap gap` as a person runs it: against an index and a hub on loopback, and once the public index."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session

from airgap.cli import run
from tests.readiness.compositions import GEMMA
from tests.readiness.test_check_cli import PASSWORD, transformers, vllm, wheel
from tests.readiness.test_field_note import BLOCKS
from tests.servers.hub import Hub
from tests.servers.index import Index

CONFIG = '{"model_type": "tiny", "architectures": ["Tiny"]}'

TRAFFIC = 20_000_000
"""Bytes that the field note's matrix may cost."""


@pytest.fixture
def index() -> Iterator[Index]:
    with Index(login=f"alice:{PASSWORD}") as served:
        served.add(*vllm("1.0", "<5"))
        served.add(*vllm("1.1", ">=5"))
        served.add(*transformers("4.0", ""))
        served.add(*transformers("5.0", ""))
        served.add(*transformers("5.1"))
        served.add(*transformers("5.2"))
        served.add(*transformers("5.2.1"))
        yield served


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AIRGAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "config.json").write_text(CONFIG)
    return str(tmp_path / "config.json")


def asked(capsys: pytest.CaptureFixture[str], index: Index, *arguments: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = run(["gap", *arguments, "--index-url", index.url_with_login, "--json"])
    out = capsys.readouterr().out
    assert PASSWORD not in out
    return code, json.loads(out)


def cells(document: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {
        (c["vllm"], c["transformers"]): " ".join([c["verdict"], *c["reasons"]]) for c in document["cells"]
    }


def test_the_newest_of_the_last_lines_and_since_when(
    config: str, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(index.asked)
    code, found = asked(capsys, index, config, "--last", "3")
    assert (code, cells(found)) == (
        0,
        {
            ("1.0", "5.0"): "blocked pin type",
            ("1.0", "5.1"): "blocked pin",
            ("1.0", "5.2.1"): "blocked pin",
            ("1.1", "5.0"): "blocked type",
            ("1.1", "5.1"): "no_blocker",
            ("1.1", "5.2.1"): "no_blocker",
        },
    )
    since = {one["project"]: (one["version"], one["not_in"], one["note"]) for one in found["since"]}
    assert since == {"vllm": ("1.0", None, "the oldest on the index"), "transformers": ("5.1", "5.0", "")}
    assert found["requests"] == len(index.asked) - before
    assert found["traffic_bytes"] > 0


def test_since_when_is_found_before_the_oldest_that_was_asked_for(
    config: str, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    _, found = asked(capsys, index, config, "--transformers", "5.2.1", "--vllm", ">=1.1")
    assert cells(found) == {("1.1", "5.2.1"): "no_blocker"}
    assert [(one["version"], one["not_in"]) for one in found["since"]] == [("1.0", None), ("5.1", "5.0")]


@pytest.mark.parametrize("named", ["config.json", ".", "../mine"])
def test_a_model_is_called_by_its_directory(
    named: str,
    config: str,
    index: Index,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(CONFIG)
    monkeypatch.chdir(tmp_path / "mine")
    _, found = asked(capsys, index, named, "--last", "1")
    assert found["model"]["name"] == "mine"


def test_since_when_is_left_open_where_an_older_release_cannot_be_read(
    config: str, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    index.add(*wheel("vllm", "0.9", requires="transformers"))
    _, found = asked(capsys, index, config, "--last", "1")
    [since] = [one for one in found["since"] if one["project"] == "vllm"]
    assert (since["version"], since["not_in"]) == ("1.0", None)
    assert since["note"].startswith(
        "or earlier: of 0.9 it cannot be read (vllm/model_executor/models/registry.py"
    )


def test_no_pair_without_a_blocker_is_exit_code_5(
    config: str, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = asked(capsys, index, config, "--transformers", "4.0", "--transformers", "==5.0")
    assert code == 5
    assert "no transformers that was looked at is proven to have tiny" in found["notes"]


def test_a_repeated_run_costs_the_pages_again_and_no_more(
    config: str, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(capsys, index, config)
    before = len(index.asked)
    _, found = asked(capsys, index, config)
    assert index.asked[before:] == ["GET /simple/vllm/", "GET /simple/transformers/"]
    assert found["requests"] == 2


def test_the_bound_holds_and_what_it_kept_from_being_read_is_unknown(
    config: str, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = asked(capsys, index, config, "--requests", "3")
    assert (code, found["requests"]) == (5, 3)
    assert "no_blocker" not in cells(found).values()
    assert "all 3 requests that were allowed are spent" in json.dumps(found)


def test_a_damaged_wheel_is_unread(config: str, index: Index, capsys: pytest.CaptureFixture[str]) -> None:
    file, data = transformers("5.3")
    index.add(file, data[:-30])
    _, found = asked(capsys, index, config, "--transformers", "5.3")
    assert set(cells(found).values()) == {"unknown unread"}


def test_the_page_is_written(
    config: str, index: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "gap.html"
    arguments = ["gap", config, "--index-url", index.url_with_login, "--html", str(page)]
    assert run(arguments) == 0
    shown = capsys.readouterr().out
    assert "of at most 400 requests" in shown
    assert "transformers 5.0 lacks tiny" in shown
    assert "transformers 5.0 lacks tiny" in page.read_text()
    assert PASSWORD not in page.read_text() + shown
    assert run([*arguments[:-1], str(tmp_path / "none" / "gap.html")]) == 9


def test_the_target_decides_wheel_tags(
    config: str, index: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, data = vllm("1.2", ">=5")
    index.add(file.replace("py3-none-any", "cp38-abi3-manylinux_2_28_x86_64"), data)
    arguments = [config, "--vllm", "1.2", "--transformers", "5.1"]
    assert asked(capsys, index, *arguments)[0] == 0
    (tmp_path / "arm.toml").write_text(
        '[target]\npython = "3.12"\nplatform = "linux/arm64"\nglibc = "2.35"\n'
    )
    code, found = asked(capsys, index, *arguments, "--target", str(tmp_path / "arm.toml"))
    assert (code, cells(found)) == (5, {("1.2", "5.1"): "blocked tag"})


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere/at/all"], 3, "expected a config.json, its directory, or a repository"),
        (["CONFIG", "--vllm", "9.9"], 3, "no release on the index matches '9.9'"),
        (["CONFIG", "--vllm", "newest"], 3, "expected a version or a specifier"),
        (["CONFIG", "--last", "0"], 2, "not in the range"),
        (["EMPTY"], 3, "found none"),
        (["DAMAGED"], 3, "expected a model with a config.json"),
    ],
)
def test_what_cannot_be_asked(
    arguments: list[str],
    code: int,
    message: str,
    config: str,
    index: Index,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{")
    places = {"CONFIG": config, "EMPTY": str(tmp_path / "empty"), "DAMAGED": str(tmp_path / "damaged")}
    arguments = [places.get(argument, argument) for argument in arguments]
    assert run(["gap", *arguments, "--index-url", index.url_with_login]) == code
    assert message in capsys.readouterr().err


def test_a_model_on_a_hub_costs_its_configs_alone(
    config: str,
    index: Index,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.add("org/name", {"config.json": CONFIG.encode(), "model.safetensors": bytes(1 << 20)})
        code, found = asked(capsys, index, "org/name@main", "--last", "1")
        assert code == 0
        assert found["model"]["name"].startswith("org/name@")
        assert len(found["model"]["sha256"]) == 64
        assert hub.bodies("config.json")
        assert not hub.bodies("safetensors")
    close_session()


@pytest.mark.slow
def test_the_field_notes_matrix_on_the_public_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every cell through the rules, and since when, from ranges of wheels that nobody has fetched."""
    monkeypatch.setenv("AIRGAP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "config.json").write_bytes(GEMMA)
    releases = [f"--vllm={v}" for v in BLOCKS] + [f"--transformers={t}" for t in BLOCKS["0.19.0"]]
    index = ["--index-url", "https://pypi.org/simple"]
    assert run(["gap", str(tmp_path / "config.json"), *releases, *index, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    blocked = {
        (c["vllm"], c["transformers"]): {j["rule"] for j in c["judgements"] if j["verdict"] == "blocked"}
        for c in found["cells"]
    }
    assert blocked == {(v, t): rules for v, row in BLOCKS.items() for t, rules in row.items()}
    assert [(s["version"], s["not_in"], s["line"]) for s in found["since"]] == [
        ("0.19.0", "0.18.1", 385),
        ("5.5.0", "5.4.0", 177),
    ]
    with capsys.disabled():
        print(f"\nthe matrix took {found['requests']} requests and {found['traffic_bytes']:,} bytes")
    assert found["traffic_bytes"] < TRAFFIC
