"""report.html as people meet it: in a real browser at two widths, on paper, and with hostile names in it."""

import base64
import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from airgap.audit.answers import PolicyFact, VerdictFact, Violation, Waiver
from airgap.audit.evidence import Audit, EntryPoint, Signing
from airgap.audit.page import MOST_PRINTED
from airgap.audit.policy import RULES
from airgap.audit.report import SECTIONS, Beside, render_report
from airgap.audit.report_pictures import licences
from airgap.model import Finding, Kind, Severity, Sha256
from tests.audit.test_page import Reader
from tests.audit.values import audit, bundle
from tests.services import need

HOSTILE = "</td><script>document.title='owned'</script><img src=http://127.0.0.1:1/x>\u202e\x1b[2J"

BESIDE = tuple(
    Beside(name, 10**n, Sha256(f"{n}" * 64))
    for n, name in enumerate(("report.json", "files.csv", "sbom.cdx.json", "sbom.spdx.json"), 6)
)
"""A full pack's other files, as long as they get."""

QUIET = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    need("chromium", "chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in (*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options, Service("/usr/bin/chromedriver")) as driver:
        yield driver


def log(driver: webdriver.Chrome, kind: str) -> list[dict[str, str]]:
    """What the browser wrote since this was last asked."""
    found: list[dict[str, str]] = driver.get_log(kind)  # type: ignore[no-untyped-call]
    return found


def show(driver: webdriver.Chrome, subject: Audit, directory: Path, width: int = 1280) -> str:
    """Open the report; returns its address."""
    path = directory / "report.html"
    path.write_text(render_report(subject, BESIDE), encoding="utf-8")
    driver.set_window_size(width, 900)
    log(driver, "browser")
    log(driver, "performance")
    driver.get(path.as_uri())
    return path.as_uri()


def requested(driver: webdriver.Chrome) -> list[str]:
    messages = (json.loads(entry["message"])["message"] for entry in log(driver, "performance"))
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith("data:")]


def hostile() -> Audit:
    """The text in every place that a bundle's maker has a say in."""
    value = audit()
    return replace(
        value,
        artifacts=tuple(replace(a, name=HOSTILE, source=HOSTILE, licence=HOSTILE) for a in value.artifacts),
        files=tuple(replace(f, path=HOSTILE, source=HOSTILE) for f in value.files),
        packages=tuple(replace(p, name=HOSTILE, version=HOSTILE, licence=HOSTILE) for p in value.packages),
        models=tuple(replace(m, licence=HOSTILE, base_models=(HOSTILE,)) for m in value.models),
        images=tuple(replace(i, created=HOSTILE, environment=(HOSTILE,)) for i in value.images),
        findings=(Finding("audit-x", Severity.ERROR, HOSTILE, HOSTILE, HOSTILE, HOSTILE),),
    )


@pytest.mark.parametrize("width", [1280, 480])
@pytest.mark.parametrize("subject", [audit(), hostile()], ids=["ordinary", "hostile"])
def test_a_browser_shows_it_without_complaint_or_request(
    browser: webdriver.Chrome, subject: Audit, width: int, tmp_path: Path
) -> None:
    address = show(browser, subject, tmp_path, width)
    assert log(browser, "browser") == []
    assert requested(browser) == [address]
    assert browser.title.startswith("Audit of serving 2026.11")
    assert browser.find_elements(By.TAG_NAME, "script") == []
    assert browser.find_elements(By.TAG_NAME, "img") == []
    # Nothing is wider than the window but what scrolls by itself.
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(wide) == 0
    assert len(browser.get_screenshot_as_png()) > 20_000


def test_on_a_narrow_screen_the_last_day_of_a_waiver_can_be_seen(
    browser: webdriver.Chrome, tmp_path: Path
) -> None:
    show(browser, exceptional(), tmp_path, 480)
    tables = browser.find_elements(By.CSS_SELECTOR, ".cover .scroll")
    hidden = "return arguments[0].scrollWidth - arguments[0].clientWidth"
    assert [browser.execute_script(hidden, one) for one in tables] == [0, 0, 0, 0]


def test_every_link_of_the_page_leads_to_a_section(browser: webdriver.Chrome, tmp_path: Path) -> None:
    show(browser, audit(), tmp_path)
    links = [link.get_dom_attribute("href") for link in browser.find_elements(By.CSS_SELECTOR, "nav a")]
    assert links == [f"#{anchor}" for anchor, _ in SECTIONS]
    assert all(browser.find_elements(By.ID, link[1:]) for link in links if link)


def test_bars_are_as_long_as_what_they_stand_for(browser: webdriver.Chrome, tmp_path: Path) -> None:
    show(browser, audit(), tmp_path)
    (chart, *_) = browser.find_elements(By.CLASS_NAME, "bars")
    widths = [bar.size["width"] for bar in chart.find_elements(By.CLASS_NAME, "bar")]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 50 * widths[1]  # 700 kB and 1 kB


def exceptional() -> Audit:
    """As much as a first page should hold: many kinds of findings, waivers, broken rules, verdicts."""
    rules = (
        "licences.allowed",
        "vulnerabilities.maximum",
        "vulnerabilities.data-age",
        "findings.errors",
        "signers.names",
    )
    waivers = tuple(
        Waiver(
            rule,
            "engine: *",
            "read by hand, and accepted until the next release",
            "Jane Doe",
            date(2027, 3, 31),
        )
        for rule in rules[:3]
    )
    subject = "packages: a_package-1.2.3-py3-none-any.whl"
    broken = tuple(Violation(rule, subject, f"what breaks it {n}") for rule in rules for n in range(9))
    return audit(
        policy=PolicyFact("policy.toml", Sha256("a" * 64), rules, waivers, broken),
        verdicts=tuple(
            VerdictFact(name, Kind.MODEL, "unknown", ("it could not be told whether it fits into memory",))
            for name in ("engine", "packages", "tiny")
        ),
        findings=tuple(
            Finding(f"audit-{n}", Severity.WARNING, subject, f"something odd that has the number {n}")
            for n in range(8)
        ),
    )


def waived(subject: Audit, count: int, reason: str = "free software") -> Audit:
    """With so many waivers; a policy may have hundreds."""
    waiver = Waiver("licences.allowed", "", reason, "Jane Doe", date(2027, 3, 31))
    waivers = tuple(replace(waiver, subject=f"engine: lib{n}-*") for n in range(count))
    policy = subject.policy or PolicyFact("policy.toml", Sha256("a" * 64), ("licences.allowed",), (), ())
    return replace(subject, policy=replace(policy, waivers=waivers))


def lengthy() -> Audit:
    """What takes two lines and more wherever it stands: names as real wheels and policies have them."""
    wheel = "packages: cryptography-50.0.2-cp311-abi3-manylinux_2_28_x86_64.whl"
    member = f"{wheel}!cryptography/hazmat/primitives/serialization/ssh.py"
    kinds = ("audit-secret", "audit-licence-unknown", "audit-startup-code", "audit-setuid")
    found = [Finding(code, Severity.ERROR, member, "what looks like a secret in line 1") for code in kinds]
    violations = tuple(
        Violation(rule, member, "line 1 runs at every start of Python")
        for rule in ("licences.allowed", "formats.startup-code", "findings.errors")
    )
    where = "/srv/policies/of-the-site/2026/policy.toml"
    policy = PolicyFact(where, Sha256("a" * 64), ("licences.allowed",), (), violations)
    reason = "seen in review number 12 and found harmless"
    return waived(audit(policy=policy, findings=tuple(found)), 20, reason)


def broken() -> Audit:
    """With all rules broken, and as exceptional as that."""
    violations = tuple(Violation(rule, "engine", "what breaks it") for rule in RULES)
    policy = PolicyFact("policy.toml", Sha256("a" * 64), (), (), violations)
    return replace(exceptional(), policy=policy)


CROWDED = {
    "ordinary": audit(),
    "exceptional": exceptional(),
    "waived": waived(audit(), 60),
    "lengthy": lengthy(),
    "waived in wide letters": waived(audit(), 60, "WWWWWWW " * 12),
    "waived at length": waived(audit(), 60, "read by hand, and accepted, " * 9),
    "exceptional and waived": waived(exceptional(), 60),
    "all rules broken and waived": waived(broken(), 60),
    "three bundles": waived(audit(subject=replace(audit().subject, bundles=(bundle(),) * 3)), 60),
}


@pytest.mark.parametrize("subject", CROWDED.values(), ids=CROWDED)
def test_on_paper_the_page_to_sign_stands_alone(
    browser: webdriver.Chrome, subject: Audit, tmp_path: Path
) -> None:
    need("pdftotext")
    show(browser, subject, tmp_path)
    pdf = tmp_path / "report.pdf"
    pdf.write_bytes(base64.b64decode(browser.print_page()))
    first, second, *_ = subprocess.run(
        ["pdftotext", "-layout", pdf, "-"], check=True, capture_output=True, text=True
    ).stdout.split("\f")
    assert "Audit of s" in first
    assert "Signature" in first
    assert all(one.sha256 in first for one in BESIDE), "what the signature is for, too"
    if subject.policy:
        assert f"Exceptions: {len(subject.policy.waivers)} waivers" in first
        assert all(one.rule in first for one in subject.policy.broken)
    assert "Pictures" not in first
    assert second.strip().startswith("Pictures")


def first_page(subject: Audit) -> str:
    return render_report(subject).partition('<section id="pictures">')[0]


def test_of_many_waivers_the_first_page_says_how_many_and_where_they_all_are() -> None:
    many = waived(audit(), 60)
    assert many.policy
    waivers = many.policy.waivers
    used = replace(many.policy, waivers=(*waivers[:-1], replace(waivers[-1], used=True)))
    document = render_report(replace(many, policy=used))
    first, _, rest = document.partition('<section id="policy">')
    cover = Reader(first.partition("<section")[0]).shown
    assert "Exceptions: 60 waivers, 0 broken rules" in cover
    shown = [n for n in range(60) if f"lib{n}-*" in cover]
    assert shown == [*range(11), 59], "what lets something pass comes first"
    assert '<a href="#policy">12 of the 60 waivers, all of them under Policy:</a>' in first
    listed = Reader(rest.partition("</section>")[0]).shown
    assert all(f"lib{n}-*" in listed for n in range(60))
    assert "of the 12 waivers" not in first_page(waived(audit(), 12))
    assert "12 of the 13 waivers, all" in first_page(waived(audit(), 13))
    longest = waived(audit(), 2, "word " * 400)
    assert '<a href="#policy">2 waivers, under Policy</a>' in first_page(longest)


def test_the_first_page_says_who_signed_and_who_did_not() -> None:
    shown = first_page(audit())
    assert "alice, bob (2 required by root version 1); not signed by carol, not needed; holds until" in shown
    unjudged = audit(subject=replace(audit().subject, bundles=(bundle(signing=Signing(False, ("k",))),)))
    assert "not judged" in first_page(unjudged)
    assert "holds" not in first_page(unjudged)
    refused = Signing(True, ("k",), problem="alice's key is revoked")
    shown = first_page(audit(subject=replace(audit().subject, bundles=(bundle(signing=refused),))))
    assert "refused</span> alice&#x27;s key is revoked" in shown


def test_the_first_page_names_the_worst_and_counts_the_rest() -> None:
    many = tuple(Finding(f"audit-{n}", Severity.WARNING, f"w{n}", "odd") for n in range(10))
    shown = first_page(audit(findings=(*many, Finding("audit-e", Severity.ERROR, "bad.bin", "evil"))))
    assert shown.index("bad.bin") < shown.index("w0")
    assert "w4" in shown
    assert "w5" not in shown
    assert "and 5 more kinds, under Findings" in shown
    assert "No error and no warning." in first_page(audit(findings=()))


def test_many_findings_of_one_kind_hide_no_other_on_the_first_page() -> None:
    many = [Finding("audit-setuid", Severity.WARNING, f"engine: su{n}", "runs as root") for n in range(40)]
    odd = Finding("audit-odd", Severity.WARNING, "w.whl", "something odd")
    untrusted = Finding("audit-untrusted", Severity.ERROR, "bundle.dsse.json", "nobody signed")
    secret = Finding("audit-secret", Severity.ERROR, "engine: config", "a token")
    shown = first_page(audit(findings=(*many, odd, secret, untrusted)))
    assert "engine: su0 and 39 more" in shown
    assert "a program that runs as its owner, whoever starts it" in shown
    assert "something odd" in shown
    assert shown.index("nobody signed") < shown.index("a token"), "whom to believe comes first"


def test_long_tables_stay_off_the_paper_and_say_where_they_are(
    browser: webdriver.Chrome, tmp_path: Path
) -> None:
    need("pdftotext")
    (file, *_) = audit().files
    many = tuple(replace(file, path=f"file-{n}.txt") for n in range(MOST_PRINTED + 1))
    show(browser, audit(files=many), tmp_path)
    assert browser.find_element(By.CSS_SELECTOR, "#files table").is_displayed()
    assert not browser.find_element(By.CSS_SELECTOR, "#files .on-paper").is_displayed()
    (tmp_path / "report.pdf").write_bytes(base64.b64decode(browser.print_page()))
    printed = subprocess.run(
        ["pdftotext", tmp_path / "report.pdf", "-"], check=True, capture_output=True, text=True
    ).stdout
    assert f"{len(many)} rows, not printed: files.csv has them." in printed
    assert "file-7.txt" not in printed
    assert "alpha" in printed, "short tables are"


def test_what_a_wheel_brings_is_said_by_name_up_to_a_few() -> None:
    (wheel,) = audit().wheels
    points = [EntryPoint("egg.writers", f"p{n}", "x:y") for n in range(30)]
    files = tuple(f"alpha/_{n}.so" for n in range(12))
    full = replace(wheel, entry_points=(*wheel.entry_points, *points), native_libraries=files)
    shown = Reader(render_report(audit(wheels=(full,)))).shown
    for said in (
        "1 command: alpha",
        "plug-ins: egg.writers (30)",
        "12 native files: _0.so, ",
        "_7.so and 4 more",
    ):
        assert said in shown
    assert "runs by itself alpha.pth:1 import os" in shown


def test_no_name_leaves_a_bar_without_length(browser: webdriver.Chrome, tmp_path: Path) -> None:
    long = "Copyright (c) 2005-2023, a company of a long name"
    (package, *rest) = audit().packages
    licensed = [
        replace(package, licence=long),
        *rest,
        *(replace(one, name=f"{n}") for n, one in enumerate(rest * 9)),
    ]
    show(browser, audit(packages=tuple(licensed)), tmp_path)
    charts = browser.find_elements(By.CLASS_NAME, "bars")
    assert all(
        max(bar.size["width"] for bar in chart.find_elements(By.CLASS_NAME, "bar")) > 60 for chart in charts
    )


def test_verdicts_are_told_and_their_absence_too() -> None:
    fact = VerdictFact("engine", Kind.CONTAINER, "blocked", ("no GPU code for 8.9", "a pin"))
    shown = first_page(audit(verdicts=(fact,)))
    assert "no GPU code for 8.9 (and 1 more)" in shown
    assert "not judged: airgap audit --check" in first_page(audit())


def test_what_was_not_looked_into_does_not_pass_for_none() -> None:
    def said(document: str, anchor: str) -> str:
        return Reader(document.partition(f'<section id="{anchor}">')[2].partition("</section>")[0]).shown

    unread = render_report(audit(images=(), models=(), wheels=()))
    assert "not looked into engine; Findings say why." in said(unread, "images")
    assert "not looked into tiny; Findings say why." in said(unread, "models")
    assert "not looked into serving" not in unread
    assert "not looked into packages; Findings say why." in said(unread, "wheels")
    assert "not looked into" not in render_report(audit())
    assert "None." in said(render_report(audit(images=(), artifacts=())), "images")


def test_the_first_page_says_how_little_was_read() -> None:
    part = audit(totals=replace(audit().totals, read=17_700))
    assert "in part</span> 17.7 kB of 1.2 MB; the rest was not looked into" in first_page(part)
    assert "in part" not in first_page(audit())


def test_of_a_config_that_nobody_read_nothing_is_claimed() -> None:
    (image,) = audit().images
    unread = render_report(audit(images=(replace(image, platform="", user=""),)))
    assert "root, for no user is named" not in unread
    assert "not known: its config was not read" in unread
    assert "root, for no user is named" in render_report(audit(images=(replace(image, user=""),)))


def test_equal_audits_give_equal_reports() -> None:
    assert render_report(audit()) == render_report(audit())


def test_what_is_too_much_for_a_table_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airgap.audit.report_details.MAX_ROWS", 2)
    assert "and 1 more, in files.csv" in render_report(audit())


def test_of_several_licences_each_is_counted() -> None:
    (package, *_) = audit().packages
    said = ["MIT AND (ISC OR Zlib)", "MIT", "MIT OR ISC AND Zlib", "", "odd AND (text"]
    said += ["LicenseRef-debian-a AND LicenseRef-debian-b", "LicenseRef-debian-b"]
    stated = audit(packages=tuple(replace(package, licence=one) for one in said), models=())
    assert [(bar.label, bar.value) for bar in licences(stated)] == [
        ("MIT", 2),
        ("LicenseRef-debian-…", 2),
        ("ISC OR Zlib", 1),
        ("MIT OR ISC AND Zlib", 1),
        ("none stated", 1),
        ("odd", 1),
        ("(text", 1),
    ]


def test_a_model_that_the_lock_knows_no_terms_of_has_those_of_its_card_among_the_artifacts() -> None:
    artifacts = tuple(replace(one, licence="") for one in audit().artifacts)
    unlocked = render_report(audit(artifacts=artifacts))
    shown = unlocked.partition('<section id="artifacts">')[2].partition("</section>")[0]
    assert "apache-2.0" in shown


def test_whose_word_a_licence_is_stands_beside_it() -> None:
    wheel, deb = audit().packages
    unsaid = render_report(audit())
    assert "by its copyright file" not in unsaid
    assert "not stated" in unsaid.partition('<section id="packages">')[2]
    many = " AND ".join(f"LicenseRef-debian-name-{n}" for n in range(20))
    stated = replace(deb, licence=many, licence_by="usr/share/doc/libssl3/copyright")
    shown = Reader(
        render_report(audit(packages=(wheel, stated))).partition('<section id="packages">')[2]
    ).shown
    assert f"{many}by its copyright file" in shown.replace("\n", ""), "all of them"
    assert "of the whole source package" in shown
    assert "not stated" not in shown.partition("Files")[0]


def test_a_licence_in_two_spellings_is_one_bar() -> None:
    (package, *_) = audit().packages
    both = audit(packages=(replace(package, licence="Apache-2.0"),))
    assert [(bar.label, bar.value) for bar in licences(both)] == [("Apache-2.0", 2)]
