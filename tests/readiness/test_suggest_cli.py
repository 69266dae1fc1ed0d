"""`airgap check --suggest` as a person runs it, against a real index on loopback, and once the public one."""

import json
from pathlib import Path
from typing import Any

import pytest

from airgap.cli import run
from tests.readiness.compositions import GEMMA
from tests.readiness.served import OLD, VLLM, image
from tests.readiness.test_check_cli import PASSWORD, manifest, transformers, vllm
from tests.readiness.test_field_note import MANIFEST
from tests.servers.index import Index


@pytest.fixture
def index() -> Any:
    with Index(login=f"alice:{PASSWORD}") as served:
        served.add(*vllm("1.0", "<5"))
        served.add(*vllm("1.1", ">=5"), yanked="it breaks")
        served.add(*vllm("1.2", ">=5"))
        served.add(*transformers("4.0", ""))
        served.add(*transformers("5.0"))
        yield served


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRGAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")


def suggested(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    run(["check", *arguments, "--suggest", "--json"])
    out = capsys.readouterr().out
    assert PASSWORD not in out
    return dict(json.loads(out)["suggested"])


def lines(found: dict[str, Any]) -> list[str]:
    return [suggestion["toml"] for one in found["sets"] for suggestion in one["suggestions"]]


@pytest.mark.parametrize("pages", ["html", "json"])
def test_the_answer_is_pasted_and_no_longer_blocked(
    pages: str, tmp_path: Path, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    index.pages = pages
    path = manifest(tmp_path, index, "vllm==1.0", "transformers==5.0")
    assert run(["check", str(path), "--suggest"]) == 5
    shown = capsys.readouterr().out
    answer = 'requirements = ["vllm==1.2", "transformers==5.0"]'
    assert "serving: vllm 1.0 -> 1.2 (1 step newer)\n    " + answer in shown, "1.1 is yanked"
    assert "of at most 200 requests" in shown
    path.write_text(path.read_text().replace('requirements = ["vllm==1.0", "transformers==5.0"]', answer))
    assert run(["check", str(path), "--suggest"]) == 0
    assert "nothing is blocked, so nothing was searched" in capsys.readouterr().out


def test_requests_are_counted_as_the_index_counts_them_and_repeats_cost_only_pages(
    tmp_path: Path, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(manifest(tmp_path, index, "vllm==1.0", "transformers==4.0"))
    run(["check", path])
    before = len(index.asked)
    run(["check", path])
    again = index.asked[before:]
    assert {request.split("/")[1] for request in again} == {"simple"}, "members are kept"

    before = len(index.asked)
    found = suggested(capsys, path)
    mine = index.asked[before + len(again) :]
    assert found["requests"] == len(mine) > 0
    assert lines(found) == ['requirements = ["vllm==1.2", "transformers==5.0"]']

    found = suggested(capsys, path)
    assert lines(found) == ['requirements = ["vllm==1.2", "transformers==5.0"]']
    assert found["requests"] < len(mine)


def test_what_is_kept_of_one_index_is_no_evidence_about_another(
    tmp_path: Path, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    """An index may say any digest, so what it served under one counts for its own address alone."""
    file, true = vllm("1.0", "<5")
    path = manifest(tmp_path, index, "vllm==1.0", "transformers==5.0")
    with Index(login=index.login) as liar:
        liar.add(file, vllm("1.0", ">4")[1], says=true)
        liar.add(*transformers("5.0"))
        lying = tmp_path / "lying.toml"
        lying.write_text(path.read_text().replace(index.url_with_login, liar.url_with_login))
        assert run(["check", str(lying)]) == 0
    assert run(["check", str(path)]) == 5


def test_the_bound_holds(tmp_path: Path, index: Index, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(manifest(tmp_path, index, "vllm==1.0", "transformers==5.0"))
    run(["check", path])
    before = len(index.asked)
    run(["check", path])
    pages = len(index.asked) - before
    before = len(index.asked)
    found = suggested(capsys, path, "--requests", "2")
    assert len(index.asked) - before == pages + 2
    assert (found["requests"], found["limit"], lines(found)) == (2, 2, [])
    assert "all 2 requests that were allowed are spent" in found["sets"][0]["stopped"]


def test_a_lock_does_not_say_where_to_search(
    tmp_path: Path, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", str(tmp_path / "tiny.lock.json"), "--suggest"]) == 2
    assert "name that" in capsys.readouterr().err


def test_what_no_release_changes_is_named(
    tmp_path: Path, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = 'gpu = { name = "Old", compute_capability = "7.0", memory_gib = 16 }'
    path = manifest(tmp_path, index, "vllm==1.2", "transformers==5.0", target=gpu)
    path.write_text(path.read_text().replace('path = "model"', 'path = "model"\nquantization = "nvfp4"'))
    found = suggested(capsys, str(path))
    assert found["requests"] == 0
    assert "no release of what was asked for" in found["sets"][0]["why_not"]
    [left] = found["not_searched"]
    assert "NVFP4 on Old" in left["message"]
    assert left["why"] == "no release of a package changes it"


def test_what_an_image_holds_is_not_searched_and_it_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image(tmp_path / "image", VLLM | OLD)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "tiny", "architectures": ["Tiny"]}')
    path = tmp_path / "m.toml"
    path.write_text(
        '[bundle]\nname = "m"\nversion = "1"\n'
        '[target]\npython = "3.12"\nplatform = "linux/amd64"\nglibc = "2.35"\n'
        '[[containers]]\nname = "server"\nlayout = "image"\n'
        '[[models]]\nname = "tiny-model"\npath = "model"\nserved-by = "server"\n'
    )
    [left] = suggested(capsys, str(path))["not_searched"]
    assert left["subject"] == "tiny-model" and "transformers 4.0" in left["message"]
    why = "server is an image, in which no release changes anything: choose or build another"
    assert left["why"] == why
    assert run(["check", str(path), "--suggest"]) == 5
    assert f"\n    {why}\n" in capsys.readouterr().out


def test_a_locked_manifest_is_searched_too(
    tmp_path: Path, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    path = manifest(tmp_path, index, "vllm==1.0", "transformers==4.0")
    assert run(["lock", str(path)]) == 0
    found = suggested(capsys, str(path))
    assert lines(found) == ['requirements = ["vllm==1.2", "transformers==5.0"]']


def test_an_index_that_fails_ends_the_search_and_says_so(
    tmp_path: Path, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    path = manifest(tmp_path, index, "vllm==1.0", "transformers==4.0")
    assert run(["lock", str(path)]) == 0
    index.status = 400
    [one] = suggested(capsys, str(path))["sets"]
    assert one["suggestions"] == []
    assert "the server answered 400" in one["stopped"]


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["5.5.4", "4.57.6"])
def test_the_field_note_on_the_public_index(
    asked: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_bytes(GEMMA)
    path = tmp_path / "note.toml"
    path.write_text(MANIFEST.format(vllm="0.19.0").replace("5.5.4", asked))
    found = suggested(capsys, str(path))
    assert lines(found)[0] == 'requirements = ["vllm==0.19.1", "transformers==5.5.4"]'
    with capsys.disabled():
        cost = f"{found['requests']} requests and {found['traffic_bytes']:,} bytes"
        print(f"\nfrom vllm 0.19.0 with transformers {asked} the answer took {cost}")
