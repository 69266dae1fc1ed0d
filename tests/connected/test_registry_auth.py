import base64
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.connected.registry import find_mirror
from airgap.errors import HostError, InputError, SourceError
from airgap.registry_credentials import Credentials, auth_files, find_credentials
from airgap.registry_protocol import Challenge, parse_challenges, token_realm


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", ()),
        ("Basic", (Challenge("basic"),)),
        ('Basic realm="x"', (Challenge("basic", {"realm": "x"}),)),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"',
            (
                Challenge(
                    "bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:a/b:pull,push"}
                ),
            ),
        ),
        (
            'Basic realm="a\\"b, c", Bearer realm=plain , service = "s"',
            (
                Challenge("basic", {"realm": 'a"b, c'}),
                Challenge("bearer", {"realm": "plain", "service": "s"}),
            ),
        ),
        ("Negotiate, Basic realm=x", (Challenge("negotiate"), Challenge("basic", {"realm": "x"}))),
    ],
)
def test_challenges_are_read_as_rfc_9110_writes_them(header: str, expected: tuple[Challenge, ...]) -> None:
    assert parse_challenges(header) == expected


token = st.text("abcdefgXYZ-_", min_size=1, max_size=8)


@given(
    st.lists(
        st.tuples(token, st.dictionaries(token.map(str.lower), st.text(max_size=12), min_size=1)), max_size=3
    )
)
def test_any_challenges_survive_being_written_and_read(wanted: list[tuple[str, dict[str, str]]]) -> None:
    def quoted(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")

    header = ", ".join(
        f"{scheme} " + ", ".join(f'{k}="{quoted(v)}"' for k, v in parameters.items())
        for scheme, parameters in wanted
    )
    assert parse_challenges(header) == tuple(
        Challenge(s.lower(), {k: v.replace("\n", " ") for k, v in p.items()}) for s, p in wanted
    )


@given(st.text(max_size=200))
def test_any_header_is_read_without_an_error(header: str) -> None:
    parse_challenges(header)


@pytest.mark.parametrize("realm", ["", "http://auth.example/t", "ftp://a/t", "https://", "https://u:p@a/t"])
def test_a_realm_that_would_show_a_secret_is_refused(realm: str) -> None:
    with pytest.raises(SourceError, match="expected an https token realm"):
        token_realm(Challenge("bearer", {"realm": realm}), "r.example", plain_http=False)


def test_a_plain_realm_is_allowed_on_loopback_or_when_asked_for() -> None:
    plain = Challenge("bearer", {"realm": "http://auth.example/t"})
    assert token_realm(plain, "r", plain_http=True) == "http://auth.example/t"
    loopback = Challenge("bearer", {"realm": "http://127.0.0.1:5001/t"})
    assert token_realm(loopback, "r", plain_http=False) == "http://127.0.0.1:5001/t"


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def write(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def look(tmp_path: Path, registry: str, repository: str = "a/b", **environ: str) -> Credentials | None:
    nowhere = str(tmp_path / "nowhere")
    return find_credentials(
        registry, repository, {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": nowhere, **environ}
    )


def test_a_login_without_a_session_is_looked_for_where_podman_leaves_it() -> None:
    files = [str(path) for path in auth_files({"HOME": "/h"})]
    assert files == [
        f"/run/containers/{os.getuid()}/auth.json",
        "/h/.config/containers/auth.json",
        "/h/.docker/config.json",
    ]


def test_without_any_file_access_is_anonymous(tmp_path: Path) -> None:
    assert look(tmp_path, "docker.io") is None


def test_docker_config_is_read_with_its_spelling_of_docker_hub(tmp_path: Path) -> None:
    entries = {"https://index.docker.io/v1/": auth("hub", "h:1"), "r.example:5000": auth("me", "p")}
    write(tmp_path / ".docker/config.json", {"auths": entries})
    assert look(tmp_path, "docker.io") == Credentials("hub", "h:1")
    assert look(tmp_path, "r.example:5000") == Credentials("me", "p")
    assert look(tmp_path, "r.example") is None


def test_docker_config_moves_with_docker_config(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere/config.json", {"auths": {"r.example": auth("me", "p")}})
    assert look(tmp_path, "r.example", DOCKER_CONFIG=str(tmp_path / "elsewhere")) == Credentials("me", "p")


def test_podman_entries_are_most_specific_first(tmp_path: Path) -> None:
    write(
        tmp_path / "run/containers/auth.json",
        {"auths": {"q.io": auth("host", "1"), "q.io/team": auth("team", "2"), "q.io/team/x": auth("x", "3")}},
    )
    write(tmp_path / ".docker/config.json", {"auths": {"q.io": auth("docker", "4")}})
    run = str(tmp_path / "run")
    found = [look(tmp_path, "q.io", r, XDG_RUNTIME_DIR=run) for r in ("team/x", "team/y", "other/z")]
    assert [c.username for c in found if c] == ["x", "team", "host"]


def test_registry_auth_file_is_the_only_one_when_set(tmp_path: Path) -> None:
    write(tmp_path / ".docker/config.json", {"auths": {"q.io": auth("docker", "4")}})
    write(tmp_path / "auth.json", {"auths": {"r.io": {"identitytoken": "refresh"}}})
    only = str(tmp_path / "auth.json")
    assert look(tmp_path, "q.io", REGISTRY_AUTH_FILE=only) is None
    assert look(tmp_path, "r.io", REGISTRY_AUTH_FILE=only) == Credentials("", identity_token="refresh")


HELPER = """#!/bin/sh
read server
case "$server" in
  https://index.docker.io/v1/) echo '{"ServerURL":"x","Username":"hub","Secret":"s1"}';;
  token.io) echo '{"ServerURL":"x","Username":"<token>","Secret":"refresh"}';;
  locked.io) echo 'the key store is locked'; exit 1;;
  *) echo 'credentials not found in native keychain'; exit 1;;
esac
"""


def with_helper(tmp_path: Path, config: dict[str, object]) -> dict[str, str]:
    program = tmp_path / "bin" / "docker-credential-test"
    program.parent.mkdir()
    program.write_text(HELPER)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    write(tmp_path / ".docker/config.json", config)
    return {"PATH": f"{program.parent}:/usr/bin:/bin"}


def test_credential_helpers_are_asked(tmp_path: Path) -> None:
    config: dict[str, object] = {
        "credsStore": "test",
        "auths": {"docker.io": {}, "plain.io": auth("me", "p")},
    }
    environ = with_helper(tmp_path, config)
    assert look(tmp_path, "docker.io", **environ) == Credentials("hub", "s1")
    assert look(tmp_path, "token.io", **environ) == Credentials("", identity_token="refresh")
    assert look(tmp_path, "plain.io", **environ) == Credentials("me", "p")
    assert look(tmp_path, "none.io", **environ) is None
    with pytest.raises(SourceError, match="locked") as raised:
        look(tmp_path, "locked.io", **environ)
    assert "docker login locked.io" in raised.value.remedy


def test_a_helper_of_one_registry_goes_before_the_store_of_all(tmp_path: Path) -> None:
    environ = with_helper(tmp_path, {"credsStore": "missing", "credHelpers": {"token.io": "test"}})
    assert look(tmp_path, "token.io", **environ) == Credentials("", identity_token="refresh")
    with pytest.raises(HostError, match="docker-credential-missing"):
        look(tmp_path, "other.io", **environ)


@pytest.mark.parametrize(
    "document",
    [
        "nonsense",
        {"auths": {"r.io": {"auth": "not base64!"}}},
        {"auths": []},
        {"credsStore": "../../bin/sh"},
        {"auths": {"r.io": auth("u", "p") | {"identitytoken": 3}}},
    ],
)
def test_a_malformed_file_is_named_and_its_content_is_not(tmp_path: Path, document: object) -> None:
    write(tmp_path / ".docker/config.json", document)
    with pytest.raises(InputError, match=r"config\.json"):
        look(tmp_path, "r.io")


def test_credentials_keep_their_secrets_out_of_repr() -> None:
    shown = repr(Credentials("me", "hunter2", "identity", "registry"))
    assert "me" in shown
    assert not [secret for secret in ("hunter2", "identity'", "registry'") if secret in shown]


def test_mirrors_are_read_from_the_environment() -> None:
    environ = {"AIRGAP_REGISTRY_MIRRORS": "docker.io=https://m.example/hub, quay.io=http://10.0.0.1:5000"}
    assert find_mirror("docker.io", environ) == "https://m.example/hub"
    assert find_mirror("quay.io", environ) == "http://10.0.0.1:5000"
    assert find_mirror("gcr.io", environ) == ""


@pytest.mark.parametrize(
    "text", ["docker.io", "=https://a", "a=ftp://b", "a=https://u:hunter2@b", "a=https://b?x"]
)
def test_a_malformed_mirror_is_refused_without_its_secret(text: str) -> None:
    with pytest.raises(InputError, match="AIRGAP_REGISTRY_MIRRORS") as raised:
        find_mirror("docker.io", {"AIRGAP_REGISTRY_MIRRORS": text})
    assert "hunter2" not in str(raised.value)
