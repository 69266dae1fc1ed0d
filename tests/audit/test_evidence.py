"""What an audit is worth as a value: report.json says all of it, in words that do not change."""

import dataclasses
import json

from airgap.audit import evidence
from airgap.audit.evidence import RecordState, Signing
from airgap.model import Severity
from tests.audit.values import audit


def test_report_json_is_json_and_names_every_field() -> None:
    document = json.loads(json.dumps(audit().as_json()))
    assert document["format"] == 1
    assert document["at"] == "2026-11-04T12:00:00Z"
    assert document["subject"]["bundles"][0]["target"]["gpu"]["count"] == 4
    assert document["subject"]["bundles"][0]["signing"]["signers"] == ["alice", "bob"]
    assert document["artifacts"][1] == {
        "bundle": "serving",
        "kind": "container",
        "name": "engine",
        "digest": "3" * 64,
        "files": 3,
        "bytes": 700_000,
        "source": "registry.example/e:1",
        "licence": "",
        "signature": None,
    }
    assert document["wheels"][0]["pth"] == [
        {"path": "alpha.pth", "line": 1, "text": "import os", "runs": True}
    ]
    assert document["models"][0]["bytes_by_dtype"] == {"BF16": 2000}
    assert document["models"][0]["card"] == {"tags": ["text"]}
    assert document["findings"][1]["severity"] == "error"
    assert document["findings_by_severity"] == {"error": 1, "warning": 1, "info": 0}
    assert document["verdicts"] is None


def test_files_are_for_files_csv_alone() -> None:
    names = {field.name for field in dataclasses.fields(evidence.Audit)}
    assert names - set(audit().as_json()) == {"files"}


def test_a_tally_without_a_root_is_no_tally() -> None:
    assert not Signing(judged=False, keyids=("k1",)).holds
    assert not Signing(judged=True, keyids=("k1",), problem="expired").holds
    assert Signing(judged=True, keyids=("k1",)).holds


def test_a_record_is_whole_when_nothing_differs() -> None:
    assert RecordState(3).whole
    for part in ("changed", "missing", "unlisted", "unhashed"):
        assert not RecordState(3, **{part: ("a.py",)}).whole  # type: ignore[arg-type]
    assert not RecordState(0, problem="not UTF-8").whole


def test_severities_are_counted_the_worst_first() -> None:
    assert list(audit().by_severity().items()) == [
        (Severity.ERROR, 1),
        (Severity.WARNING, 1),
        (Severity.INFO, 0),
    ]


def test_quantised_share() -> None:
    assert audit().models[0].quantized_share == 0.25
