"""policy.toml: read whole or refused with every problem, and what each rule says of an audit."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from airgap.audit.answers import VerdictFact, VulnerabilityData, VulnerabilityFact
from airgap.audit.evidence import Audit, Ecosystem, FileFact
from airgap.audit.judging import Stage, judge_policy, refuse_broken
from airgap.audit.policy import RULES, Policy, parse_policy
from airgap.audit.policy_starter import STARTER
from airgap.audit.rating import Rating
from airgap.audit.spdx import permitted
from airgap.cli import run
from airgap.errors import InputError, PolicyError
from airgap.model import Finding, Kind, Severity, Sha256
from tests.audit.values import MADE, WHEEL_FILE, audit, bundle

TODAY = (MADE + timedelta(days=3)).date()


def policy(text: str) -> Policy:
    return parse_policy(f"format = 1\n{text}".encode(), "policy.toml")


def broken(text: str, seen: Audit, stage: Stage = Stage.ARRIVED) -> list[tuple[str, str]]:
    fact = judge_policy(seen, policy(text), stage).policy
    assert fact
    return [(violation.rule, violation.subject) for violation in fact.broken]


# ------------------------------------------------------------------ the file


def test_the_starter_is_valid_and_every_rule_is_in_it() -> None:
    assert parse_policy(STARTER.encode(), "starter").rules
    whole = "\n".join(
        line.removeprefix("# ") if " = " in line or "[[" in line else line for line in STARTER.splitlines()
    )
    read = parse_policy(whole.encode(), "starter")
    assert read.rules == RULES
    assert read.waivers[0].expires == date(2027, 3, 31)


def test_every_problem_is_named_at_once() -> None:
    text = """
    surprise = 1
    [licences]
    allowed = "MIT"
    [formats]
    pickle = "no"
    [sizes]
    bundle = "huge"
    [signers]
    minimum = 0
    [vulnerabilities]
    maximum = "dreadful"
    [checks]
    required = ["everything"]
    [[waivers]]
    rule = "licences"
    subject = " "
    expires = "2027-01-01"
    name = "Jane"
    """
    with pytest.raises(InputError) as raised:
        parse_policy(text.encode(), "policy.toml")
    said = "\n".join(raised.value.problems)
    for expected in (
        "format: missing", "surprise: unknown key", "licences.allowed: expected a list",
        "formats.pickle: expected true", "sizes.bundle: expected a size", "signers.minimum: expected",
        "vulnerabilities.maximum: expected one of", "checks.required: expected checks",
        "waivers[0].rule: expected one of", "waivers[0].subject: expected something",
        "waivers[0].reason: missing", "waivers[0].expires: expected a day",
    ):  # fmt: skip
        assert expected in said


def test_an_unknown_key_is_told_beside_those_that_are_known() -> None:
    with pytest.raises(InputError) as raised:
        parse_policy(b'format = 1\n[licences]\nallow = ["MIT"]\n', "policy.toml")
    assert raised.value.problems == (
        "licences.allow: unknown key; known here: allowed, os-packages, unstated",
    )


def test_a_policy_that_asks_nothing_refuses_nothing() -> None:
    assert broken("", audit()) == []
    assert policy("[formats]\npickle = true\n").rules == ()


# ------------------------------------------------------------------ the rules


def with_finding(code: str, subject: str = "tiny: model.bin", severity: Severity = Severity.WARNING) -> Audit:
    return audit(findings=(Finding(code, severity, subject, "what it is"),))


def test_licences() -> None:
    rule = '[licences]\nallowed = ["MIT", "apache-2.0"]\n'
    assert broken(rule, audit()) == [("licences.allowed", "engine: libssl3 3.0.1-1")]  # says nothing
    seen = audit()
    gpl = replace(seen.packages[0], licence="GPL-3.0-only")
    assert ("licences.allowed", "packages: alpha 1.0") in broken(rule, replace(seen, packages=(gpl,)))


def test_licences_that_a_kind_of_package_never_states() -> None:
    seen = audit()
    rule = '[licences]\nallowed = ["MIT", "apache-2.0"]\nunstated = ["deb"]\n'
    assert broken(rule, seen) == []
    [at] = [n for n, one in enumerate(seen.packages) if one.name == "libssl3"]
    wheel = replace(seen.packages[0], licence="")
    gpl = replace(seen.packages[at], licence="GPL-3.0-only")
    for package in (wheel, gpl):
        subject = f"{package.artifact}: {package.name} {package.version}"
        assert broken(rule, replace(seen, packages=(package,))) == [("licences.allowed", subject)]


def test_only_packages_whose_database_has_no_field_for_it_may_say_none() -> None:
    with pytest.raises(InputError) as raised:
        policy('[licences]\nallowed = ["MIT"]\nunstated = ["deb", "rpm"]\n')
    assert raised.value.problems == ("licences.unstated: expected types among deb, found 'rpm'",)
    with pytest.raises(InputError) as raised:
        policy('[licences]\nunstated = ["deb"]\n')
    assert raised.value.problems == (
        "licences.unstated: says what allowed passes over, and there is no allowed",
    )


def test_what_a_distribution_brings_may_have_other_licences_than_the_rest() -> None:
    rule = '[licences]\nallowed = ["MIT"]\nos-packages = ["GPL-3.0-only", "LicenseRef-debian-*"]\n'
    wheel, deb = audit().packages

    def refused(licence: str) -> list[str]:
        packages = tuple(replace(one, licence=licence) for one in (wheel, deb))
        return [subject for _, subject in broken(rule, replace(audit(), models=(), packages=packages))]

    both = ["packages: alpha 1.0", "engine: libssl3 3.0.1-1"]
    assert refused("MIT") == []
    assert refused("GPL-3.0-only AND MIT") == both[:1]
    assert refused("LicenseRef-debian-odd AND licenseref-DEBIAN-other") == both[:1]
    for licence in ("GPL-2.0-only", "LicenseRef-other", "LicenseRef-debian", "MIT AND AGPL-3.0-only", ""):
        assert refused(licence) == both
    model = replace(audit().models[0], licence="GPL-3.0-only")
    assert broken(rule, replace(audit(), packages=(), models=(model,))) == [("licences.allowed", "tiny")]


def test_one_star_stands_for_references_alone() -> None:
    for name in ("*", "GPL-*", "LicenseRef-*", "LicenseRef-a-*-b", "LicenseRef-a-**"):
        with pytest.raises(InputError) as raised:
            policy(f'[licences]\nallowed = ["MIT"]\nos-packages = ["{name}"]\n')
        assert raised.value.problems == (
            f"licences.os-packages: expected * behind LicenseRef-… alone, found {name!r}",
        )
    with pytest.raises(InputError) as raised:
        policy('[licences]\nos-packages = ["MIT"]\n')
    assert raised.value.problems == (
        "licences.os-packages: says what is allowed besides, and there is no allowed",
    )


def test_a_violation_names_the_part_that_is_refused_and_whose_word_it_is() -> None:
    (deb,) = audit().packages[1:]
    said = "MIT AND (GPL-3.0-only OR ISC)"
    stated = replace(deb, licence=said, licence_by="usr/share/doc/libssl3/copyright")
    rule = policy('[licences]\nallowed = ["MIT"]\n')
    judged = judge_policy(replace(audit(), models=(), packages=(stated,)), rule)
    assert judged.policy
    assert [one.message for one in judged.policy.violations] == [
        "GPL-3.0-only OR ISC (by its copyright file) is not allowed"
    ]


def test_the_starter_takes_what_debian_usually_has_and_passes_over_what_nobody_states() -> None:
    text = STARTER[STARTER.index("[licences]") : STARTER.index("[formats]")]
    _, deb = audit().packages
    for licence in ("", "GPL-2.0-or-later AND LicenseRef-debian-public-domain AND (MIT OR Vim)"):
        assert broken(text, replace(audit(), models=(), packages=(replace(deb, licence=licence),))) == []
    for licence in ("AGPL-3.0-only", "MIT AND SSPL-1.0", "LicenseRef-scancode-proprietary-license"):
        assert broken(text, replace(audit(), models=(), packages=(replace(deb, licence=licence),)))


@pytest.mark.parametrize("check", ["licences", "secrets"])
def test_what_nobody_could_look_into_breaks_the_rule_that_needed_it(check: str) -> None:
    seen = replace(with_finding("audit-not-looked", check), packages=())
    rule = (
        '[licences]\nallowed = ["MIT", "Apache-2.0"]'
        if check == "licences"
        else '[checks]\nrequired = ["secrets"]'
    )
    assert [subject for _, subject in broken(rule, seen)] == [check]
    assert broken(rule, replace(seen, findings=())) == []


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("pickle", "audit-pickle"), ("pickle", "audit-pickle-code"), ("remote-code", "audit-remote-code"),
        ("startup-code", "audit-startup-code"),
    ],
)  # fmt: skip
def test_formats_that_carry_code(rule: str, code: str) -> None:
    text = f"[formats]\n{rule} = false\n"
    assert broken(text, with_finding(code)) == [(f"formats.{rule}", "tiny: model.bin")]
    assert broken(text, with_finding("audit-gated")) == []
    for unread in ("audit-not-looked", "audit-bomb", "audit-malformed"):
        assert broken(text, with_finding(unread)) == [(f"formats.{rule}", "tiny: model.bin")]


def test_weights_are_of_an_allowed_format_by_content_and_by_name() -> None:
    def files(*pairs: tuple[str, str]) -> Audit:
        return audit(
            files=tuple(FileFact("tiny", path, kind, 1, Sha256("6" * 64)) for path, kind in pairs),
            findings=(),
        )

    rule = '[formats]\nweights = ["safetensors"]\n'
    fine = files(("a.safetensors", "safetensors"), ("config.json", "json"), ("README.md", "text"))
    assert broken(rule, fine) == []
    wrong = files(("a.safetensors", "pickle"), ("b", "gguf"), ("c.bin", "data"), ("d.onnx", "data"))
    assert [subject for _, subject in broken(rule, wrong)] == [
        "tiny: a.safetensors", "tiny: b", "tiny: c.bin", "tiny: d.onnx",
    ]  # fmt: skip


def test_no_name_makes_a_file_look_like_one_inside_of_another() -> None:
    inside = FileFact("tiny", "a.zip!b.bin", "data", 1, Sha256("6" * 64), depth=1)
    named = replace(inside, path="a.zip!b.bin", depth=0)
    rule = '[formats]\nweights = ["safetensors"]\n'
    assert broken(rule, audit(files=(inside,), findings=())) == []
    assert broken(rule, audit(files=(named,), findings=())) == [("formats.weights", "tiny: a.zip!b.bin")]
    rule = "[sources]\nhosts = []\n"
    assert broken(rule, audit(files=(inside,), findings=())) == []
    assert broken(rule, audit(files=(named,), findings=())) == [("sources.hosts", "tiny")]


def test_sources() -> None:
    seen = audit()
    assert broken('[sources]\nhosts = ["index.example"]\n', seen) == []
    assert broken("[sources]\nhosts = []\n", seen) == [("sources.hosts", "packages")]
    assert broken("[sources]\nlocal = false\n", seen) == [("sources.local", "notes")]
    assert broken('[sources]\nregistries = ["registry.example"]\n', seen) == []
    assert broken('[sources]\nregistries = ["other.example"]\n', seen) == [("sources.registries", "engine")]
    made = replace(seen.files[0], source="made (wheel-from-sdist) from https://else.example/x.tar.gz")
    assert broken('[sources]\nhosts = ["index.example"]\n', replace(seen, files=(made,))) == [
        ("sources.hosts", "packages")
    ]
    indexed = replace(seen, wheels=(replace(seen.wheels[0], index="https://a.example/simple/"),))
    assert broken('[sources]\nindexes = ["https://a.example/simple"]\n', indexed) == []
    assert broken('[sources]\nindexes = ["https://a.example/simple"]\n', seen) == [
        ("sources.indexes", "packages: alpha 1.0")
    ]


def test_signers_count_only_where_signatures_hold() -> None:
    seen = audit()
    assert broken('[signers]\nminimum = 2\nnames = ["alice"]\n', seen) == []
    assert broken('[signers]\nminimum = 3\nnames = ["carol"]\n', seen) == [
        ("signers.minimum", "serving 2026.11"), ("signers.names", "serving 2026.11"),
    ]  # fmt: skip
    for change in ({"judged": False}, {"problem": "expired"}):
        unsigned = bundle(signing=replace(bundle().signing, **change))
        doubtful = replace(seen, subject=replace(seen.subject, bundles=(unsigned,)))
        assert len(broken('[signers]\nminimum = 1\nnames = ["alice"]\n', doubtful)) == 2


def test_a_bundle_that_is_being_built_has_not_all_signatures_yet() -> None:
    text = '[signers]\nminimum = 9\nnames = ["zoe"]\n[checks]\nrequired = ["signatures", "secrets"]\n'
    unsigned = bundle(signing=replace(bundle().signing, judged=False))
    building = replace(audit(), subject=replace(audit().subject, bundles=(unsigned,)))
    assert broken(text, building, Stage.BUILD) == []
    assert [rule for rule, _ in broken(text, building)] == [
        "signers.minimum", "signers.names", "checks.required",
    ]  # fmt: skip


def test_sizes() -> None:
    assert broken('[sizes]\nbundle = "1.2 MB"\nartifact = "700 kB"\nfile = "1 kB"\n', audit()) == []
    assert broken('[sizes]\nbundle = "1.1 MB"\nartifact = "699 kB"\nfile = "999 B"\n', audit()) == [
        ("sizes.bundle", "out/serving-2026.11"), ("sizes.artifact", "engine"),
        ("sizes.file", f"packages: {WHEEL_FILE}"),
    ]  # fmt: skip


def test_nobody_knows_how_large_a_file_is_that_was_not_looked_into() -> None:
    seen = with_finding("audit-bomb", "notes: x.zip", Severity.ERROR)
    assert broken('[sizes]\nfile = "1 GB"\n', seen) == [("sizes.file", "notes: x.zip")]


def vulnerable(*ratings: Rating, age: int | None = 3) -> Audit:
    facts = tuple(
        VulnerabilityFact(
            f"CVE-{n}", (), rating, "alpha", "1.0", Ecosystem.PYPI, "packages", WHEEL_FILE, (), ""
        )
        for n, rating in enumerate(ratings)
    )
    data = VulnerabilityData("osv.zip", Sha256("7" * 64), 10, MADE, age, ("PyPI",))
    return audit(vulnerabilities=facts, vulnerability_data=(data,))


def test_vulnerabilities() -> None:
    rule = '[vulnerabilities]\nmaximum = "medium"\ndata-age = 30\n'
    seen = vulnerable(Rating.LOW, Rating.MEDIUM, Rating.HIGH, Rating.UNKNOWN)
    assert broken(rule, seen) == [
        ("vulnerabilities.maximum", "packages: alpha 1.0: CVE-2"),
        ("vulnerabilities.maximum", "packages: alpha 1.0: CVE-3"),
    ]
    for age in (31, None):
        assert broken(rule, vulnerable(age=age)) == [("vulnerabilities.data-age", "osv.zip")]
    assert [rule for rule, _ in broken(rule, audit())] == [
        "vulnerabilities.maximum",
        "vulnerabilities.data-age",
    ]
    unmatched = replace(
        vulnerable(), findings=(Finding("audit-vulnerability-unknown", Severity.WARNING, "engine", "x"),)
    )
    assert broken(rule, unmatched) == [("vulnerabilities.maximum", "engine")]


def test_findings_that_are_forbidden() -> None:
    assert broken("[findings]\nerrors = false\n", audit()) == [("findings.errors", "tiny: model.bin")]
    assert broken('[findings]\nforbidden = ["audit-setuid"]\n', audit()) == [
        ("findings.forbidden", "engine: usr/bin/su")
    ]


@pytest.mark.parametrize(
    ("rule", "subject"),
    [
        ("errors = false", "secrets"),
        ("errors = false", "notes: x.7z"),
        ('forbidden = ["audit-secret"]', "secrets"),
        ('forbidden = ["audit-setuid"]', "notes: x.7z"),
        ('forbidden = ["audit-licence-unknown"]', "licences"),
    ],
)
def test_what_nobody_looked_for_may_be_there(rule: str, subject: str) -> None:
    seen = with_finding("audit-not-looked", subject)
    assert broken(f"[findings]\n{rule}\n", seen) == [(f"findings.{rule.partition(' ')[0]}", subject)]


@pytest.mark.parametrize("name", ["secrets", "licences"])
def test_an_image_that_is_called_as_a_check_was_not_looked_into_all_the_same(name: str) -> None:
    seen = with_finding("audit-not-looked", name)
    engine = replace(seen.artifacts[1], name=name)
    rule = '[checks]\nrequired = ["contents"]\n'
    assert broken(rule, seen) == []
    assert broken(rule, replace(seen, artifacts=(engine,))) == [("checks.required", name)]


def test_a_vulnerability_that_is_forbidden_needs_advisories() -> None:
    rule = '[findings]\nforbidden = ["audit-vulnerable", "audit-not-looked"]\n'
    assert broken(rule, audit()) == [("findings.forbidden", "out/serving-2026.11")]
    assert broken(rule, vulnerable()) == []


def test_an_image_is_local_where_all_of_it_is() -> None:
    rule = '[sources]\nregistries = ["other.example"]\n'
    here = FileFact("engine", "blobs/sha256/a", "json", 1, Sha256("8" * 64), "local:engine.tar")
    there = replace(here, path="blobs/sha256/b", source="https://registry.example/v2/e/blobs/b")
    assert broken(rule, replace(audit(), files=(here,))) == []
    assert broken(rule, replace(audit(), files=(here, there))) == [("sources.registries", "engine")]


def test_weights_are_weights_where_they_are_called_files() -> None:
    rule = '[formats]\nweights = ["safetensors"]\n'
    seen = audit(findings=())
    for kind in ("gguf", "pickle", "hdf5"):
        file = replace(seen.files[2], type=kind)
        assert broken(rule, replace(seen, files=(file,))) == [("formats.weights", "notes: notes.txt")]
    for kind in ("safetensors", "zip", "text"):
        assert broken(rule, replace(seen, files=(replace(seen.files[2], type=kind),))) == []


def test_readiness_may_be_required() -> None:
    rule = '[checks]\nrequired = ["readiness"]\n'
    assert broken(rule, audit()) == [("checks.required", "out/serving-2026.11")]
    fact = judge_policy(audit(), policy(rule)).policy
    assert fact and "audit --check alone asks" in fact.broken[0].message
    ready = VerdictFact("tiny", Kind.MODEL, "NO BLOCKER FOUND", ())
    assert broken(rule, audit(verdicts=(ready,))) == []
    for verdict in ("UNKNOWN", "BLOCKED"):
        assert broken(rule, audit(verdicts=(replace(ready, verdict=verdict),))) == [
            ("checks.required", "tiny")
        ]


# ------------------------------------------------------------------ waivers


def waiver(expires: date, subject: str = "tiny: model.bin", rule: str = "findings.errors") -> str:
    return (
        f'[[waivers]]\nrule = "{rule}"\nsubject = "{subject}"\nreason = "read by hand"\nname = "Jane"\n'
        f"expires = {expires.isoformat()}\n"
    )


def test_a_waiver_lets_pass_and_is_shown() -> None:
    fact = judge_policy(audit(), policy("[findings]\nerrors = false\n" + waiver(TODAY))).policy
    assert fact
    assert fact.broken == ()
    [violation] = fact.violations
    assert violation.waived
    assert (violation.waived.reason, violation.waived.name) == ("read by hand", "Jane")
    assert [w.used for w in fact.waivers] == [True]


def test_an_ended_waiver_waives_nothing_and_is_itself_a_violation() -> None:
    ended = "[findings]\nerrors = false\n" + waiver(TODAY - timedelta(days=1))
    assert broken(ended, audit()) == [
        ("findings.errors", "tiny: model.bin"), ("waivers.expires", "findings.errors for tiny: model.bin"),
    ]  # fmt: skip
    assert broken(ended, audit(findings=())) == [("waivers.expires", "findings.errors for tiny: model.bin")]
    fact = judge_policy(audit(), policy(ended)).policy
    assert fact and [one.note for one in fact.waivers] == ["ended: it waives nothing"]


def test_a_waiver_that_is_used_needs_no_note_and_one_that_is_not_has_one() -> None:
    rule = "[findings]\nerrors = false\n"
    for waived, note in (("tiny: model.bin", ""), ("tiny: other.bin", "nothing needs it")):
        fact = judge_policy(audit(), policy(rule + waiver(TODAY, waived))).policy
        assert fact and [one.note for one in fact.waivers] == [note]


@pytest.mark.parametrize(
    ("subject", "waives"),
    [("tiny: *", True), ("*", True), ("tiny: model.bin", True), ("tiny", False), ("tiny: model?bin", False)],
)
def test_a_star_stands_for_anything_and_nothing_else_does(subject: str, waives: bool) -> None:
    text = "[findings]\nerrors = false\n" + waiver(TODAY, subject)
    assert (broken(text, audit()) == []) == waives


def test_a_waiver_is_for_its_rule_alone() -> None:
    text = "[findings]\nerrors = false\n" + waiver(TODAY, "*", "formats.pickle")
    assert len(broken(text, audit())) == 1


def test_refusal_names_file_rule_and_subject() -> None:
    judged = judge_policy(audit(), policy("[findings]\nerrors = false\n"))
    with pytest.raises(PolicyError) as raised:
        refuse_broken(judged)
    assert raised.value.exit_code == 8
    assert (
        "policy.toml: 1 violation of the policy\n  findings.errors: tiny: model.bin" in raised.value.message
    )
    refuse_broken(audit())
    refuse_broken(judge_policy(audit(), policy("")))


def test_report_json_holds_the_policy() -> None:
    document = judge_policy(audit(), policy("[findings]\nerrors = false\n" + waiver(TODAY))).as_json()
    fact = document["policy"]
    assert isinstance(fact, dict)
    assert fact["waivers"][0]["expires"] == TODAY.isoformat()
    assert fact["violations"][0]["waived"]["name"] == "Jane"


# ------------------------------------------------------------------ expressions


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("MIT", True), ("mit", True), ("GPL-3.0-only", False), ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False), ("MIT AND (GPL-3.0-only OR Apache-2.0)", True),
        ("MIT or GPL-3.0-only and GPL-3.0-only", True), ("(MIT OR GPL-3.0-only) AND GPL-3.0-only", False),
        ("Apache-2.0 WITH LLVM-exception", True), ("GPL-2.0-only WITH Classpath-exception-2.0", True),
        ("GPL-2.0-only", False), ("GPL-2.0-only WITH Other-exception", False),
        ("MIT WITH Commons-Clause", False), ("MIT WITH LicenseRef-scancode-commons-clause", False),
        ("MIT WITH own-exception", False), ("MIT with llvm-EXCEPTION", True),
        ("", None), ("MIT License", None), ("MIT AND", None), ("(MIT", None), ("MIT)", None), ("AND", None),
        ("see https://x", None), ("(" * 400 + "MIT", None), ("MIT " * 1000, None),
    ],
)  # fmt: skip
def test_expressions(expression: str, answer: bool | None) -> None:
    allowed = ["MIT", "Apache-2.0", "GPL-2.0-only WITH Classpath-exception-2.0"]
    assert permitted(expression, allowed) is answer


# ------------------------------------------------------------------ the verb


def test_init_writes_it_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "policy.toml"
    assert run(["policy", "init", str(path)]) == 0
    assert path.read_text() == STARTER
    assert run(["policy", "init", str(path)]) == 3
    assert run(["policy", "init", str(tmp_path / "no" / "policy.toml")]) == 9


def test_an_artifact_is_named_once_for_a_source() -> None:
    seen = audit()
    many = tuple(replace(seen.files[0], path=f"x-{n}.whl") for n in range(5))
    assert broken("[sources]\nhosts = []\n", replace(seen, files=many)) == [("sources.hosts", "packages")]
