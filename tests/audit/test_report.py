"""report.html as people meet it: in a real browser at two widths, on paper, and with hostile names in it."""

import base64
import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from airgap.audit.answers import VerdictFact
from airgap.audit.evidence import Audit, Signing
from airgap.audit.report import SECTIONS, render_report
from airgap.audit.report_pictures import licences
from airgap.model import Finding, Kind, Severity
from tests.audit.values import audit, bundle
from tests.services import need

HOSTILE = "</td><script>document.title='owned'</script><img src=http://127.0.0.1:1/x>\u202e\x1b[2J"

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
    path.write_text(render_report(subject), encoding="utf-8")
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


def test_on_paper_the_page_to_sign_stands_alone(browser: webdriver.Chrome, tmp_path: Path) -> None:
    need("pdftotext")
    show(browser, audit(), tmp_path)
    pdf = tmp_path / "report.pdf"
    pdf.write_bytes(base64.b64decode(browser.print_page()))
    first, second, *_ = subprocess.run(
        ["pdftotext", "-layout", pdf, "-"], check=True, capture_output=True, text=True
    ).stdout.split("\f")
    assert "Audit of serving 2026.11" in first
    assert "Signature" in first
    assert "Pictures" not in first
    assert second.strip().startswith("Pictures")


def first_page(subject: Audit) -> str:
    return render_report(subject).partition('<section id="pictures">')[0]


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
    assert "w6" in shown
    assert "w7" not in shown
    assert "and 3 more, under Findings" in shown
    assert "No error and no warning." in first_page(audit(findings=()))


def test_verdicts_are_told_and_their_absence_too() -> None:
    fact = VerdictFact("engine", Kind.CONTAINER, "blocked", ("no GPU code for 8.9", "a pin"))
    shown = first_page(audit(verdicts=(fact,)))
    assert "no GPU code for 8.9 (and 1 more)" in shown
    assert "not judged: airgap audit --check" in first_page(audit())


def test_equal_audits_give_equal_reports() -> None:
    assert render_report(audit()) == render_report(audit())


def test_what_is_too_much_for_a_table_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airgap.audit.report_details.MAX_ROWS", 2)
    assert "and 1 more, in files.csv" in render_report(audit())


def test_a_licence_in_two_spellings_is_one_bar() -> None:
    (package, *_) = audit().packages
    both = audit(packages=(replace(package, licence="Apache-2.0"),))
    assert [(bar.label, bar.value) for bar in licences(both)] == [("Apache-2.0", 2)]
