"""What one audit saw: a frozen value that every report, policy and comparison is made from, with no I/O.

Sizes are bytes, times UTC. A path inside an archive follows the archive's with a `!` between:
`x-1.0-py3-none-any.whl!x/model.bin!archive/data.pkl`. What a list cannot say by being empty is a finding.

`Audit.as_json` is report.json. Its keys are the names of the fields here, so a field is never renamed
without raising `FORMAT`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from airgap.audit.document import table_of
from airgap.model import Finding, Kind, Provenance, Severity, Sha256, Sha384, Target

if TYPE_CHECKING:  # answers to what few ask
    from airgap.audit.answers import PolicyFact, VerdictFact, VulnerabilityData, VulnerabilityFact
    from airgap.audit.since import SinceFact

FORMAT = 1
"""Of report.json."""


class SubjectKind(StrEnum):
    """What was audited."""

    BUNDLE = "bundle"
    VOLUMES = "volumes"
    SITE = "site"


@dataclass(frozen=True, slots=True)
class Signing:
    """Who vouches for one bundle. `judged` is False where no root was given: then nobody is known to.

    `problem` is why a root refuses the statement, '' where it does not. `holds_until` is when statement
    or root expires, whichever is first.
    """

    judged: bool
    keyids: tuple[str, ...]
    """The envelope's own hints, which prove nothing."""
    signers: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    threshold: int = 0
    root_version: int | None = None
    holds_until: datetime | None = None
    problem: str = ""

    @property
    def holds(self) -> bool:
        return self.judged and not self.problem


@dataclass(frozen=True, slots=True)
class BundleFact:
    """One bundle of the subject, as its statement has it; a site may hold several."""

    name: str
    version: str
    channel: str
    epoch: int
    sequence: int
    made: datetime
    expires: datetime
    audience: tuple[str, ...]
    """Names of the sites it is for; empty for every site."""
    payload: Sha384
    """Of the signed statement."""
    target: Target
    signing: Signing
    installed: datetime | None = None
    """On a site, when."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What was audited: `where` is the path as it was given, `site` the site's name, '' where it has none."""

    kind: SubjectKind
    where: str
    bundles: tuple[BundleFact, ...]
    site: str = ""
    generation: int | None = None
    """Of a site."""


@dataclass(frozen=True, slots=True)
class ArtifactFact:
    """One artifact. `source` is an image's reference, a model's `org/name@commit`; '' for others."""

    bundle: str
    kind: Kind
    name: str
    digest: Sha256
    """Of the manifest or index that the signed index.json names."""
    files: int
    bytes: int
    source: str = ""
    licence: str = ""
    signature: Provenance | None = None
    """`licence` of a model and `signature` of an image are as the lock has them."""


@dataclass(frozen=True, slots=True)
class FileFact:
    """One file: a blob of an artifact, or what lies inside of one.

    `type` is by content (`airgap.audit.types`), never by name. `source` is the URL, or `local:` and a
    path, of the blob it came in. `licence` is the expression of the package or model it belongs to.
    """

    artifact: str
    path: str
    type: str
    size: int
    sha256: Sha256
    source: str = ""
    licence: str = ""
    executable: bool = False
    """Whether the archive marks it so."""
    depth: int = 0
    """How many archives it lies in, which its path does not tell: names may have a `!`, too."""


class Ecosystem(StrEnum):
    """Whose package; the value is the type of its purl."""

    PYPI = "pypi"
    DEB = "deb"
    APK = "apk"
    RPM = "rpm"


@dataclass(frozen=True, slots=True)
class PackageFact:
    """One package, wherever it is installed or carried. The same in two images is two facts."""

    ecosystem: Ecosystem
    name: str
    """Normalised (PEP 503) for pypi."""
    version: str
    purl: str
    artifact: str
    path: str
    """The wheel, or the file of an image that says it is installed."""
    digest: Sha256
    """Of the wheel; of the layer whose file says so."""
    architecture: str = ""
    distribution: str = ""
    """ID of os-release: `debian`, `alpine`; '' for pypi and where there is none."""
    distribution_version: str = ""
    """VERSION_ID of os-release."""
    licence: str = ""
    """An SPDX expression where it is one, else the text as it stands; '' where nothing is said."""
    requires: tuple[str, ...] = ()
    """Names of the packages it needs: for wheels as locked for the target."""
    source_name: str = ""
    """The source package, which is what distributions' advisories name; '' where it is the same."""
    source_version: str = ""
    declared_licences: tuple[str, ...] = ()
    """Where several places name one: `License-Expression`, `License`, then the trove classifiers."""
    licence_by: str = ""
    """Of a Debian package the copyright file that says so, which is about its whole source package."""


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """A command or plug-in that a wheel registers (entry_points.txt)."""

    group: str
    name: str
    target: str


@dataclass(frozen=True, slots=True)
class PthLine:
    """A line of a `.pth` file. `runs` is whether Python executes it at every start (site.py: `import …`)."""

    path: str
    line: int
    text: str
    runs: bool


@dataclass(frozen=True, slots=True)
class RecordState:
    """RECORD against the members themselves, each by its path.

    `unhashed` are listed without a digest, RECORD and its signatures left aside; `problem` is why RECORD
    cannot be read at all.
    """

    checked: int
    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    unhashed: tuple[str, ...] = ()
    problem: str = ""

    @property
    def whole(self) -> bool:
        return not (self.changed or self.missing or self.unlisted or self.unhashed or self.problem)


@dataclass(frozen=True, slots=True)
class WheelFact:
    """One wheel, and what of it runs without being asked. `provenance` is as the lock has it."""

    artifact: str
    path: str
    sha256: Sha256
    name: str
    version: str
    tags: tuple[str, ...]
    requires_python: str
    index: str
    """Where the lock says it was chosen from; '' where it does not."""
    entry_points: tuple[EntryPoint, ...]
    native_libraries: tuple[str, ...]
    pth: tuple[PthLine, ...]
    startup: tuple[str, ...]
    """Members that Python imports by itself: sitecustomize, usercustomize."""
    record: RecordState
    licence_files: tuple[str, ...] = ()
    yanked: str | None = None
    """The index's reason, '' for none given; None where it is not known to be yanked."""
    provenance: Provenance | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """A line of /etc/passwd."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str


@dataclass(frozen=True, slots=True)
class PrivilegedFile:
    """A file with setuid, setgid or capabilities; `mode` are its permission bits, `layer` who put it."""

    path: str
    mode: int
    uid: int
    gid: int
    layer: Sha256
    capable: bool = False


@dataclass(frozen=True, slots=True)
class Secret:
    """What a rule of a scanner found. `shown` is masked, and all that is ever written of it."""

    path: str
    line: int
    rule: str
    shown: str


@dataclass(frozen=True, slots=True)
class ImageFact:
    """One image: its config, and its file system after every layer. `digest` is its manifest's."""

    artifact: str
    digest: Sha256
    platform: str
    created: str
    layers: tuple[Sha256, ...]
    os_release: Mapping[str, str]
    user: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    working_directory: str
    environment: tuple[str, ...]
    """Names alone: values may be secret."""
    exposed_ports: tuple[str, ...]
    volumes: tuple[str, ...]
    accounts: tuple[Account, ...]
    privileged: tuple[PrivilegedFile, ...]
    secrets: tuple[Secret, ...]
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelFact:
    """One model: what its card says, and what its weights are."""

    artifact: str
    repo: str
    commit: str
    licence: str
    """Of the card, else as the hub had it when it was locked."""
    licence_name: str
    """The card's `license_name`, where `licence` is `other`."""
    licence_link: str
    base_models: tuple[str, ...]
    gating: str
    """'' when open, else the hub's word: `auto` or `manual`."""
    card: Mapping[str, str | tuple[str, ...]]
    """The front matter of README.md: its texts, and its lists of texts."""
    format: str
    """What the weights are by their own headers: `bf16`, `nvfp4`, …; '' where none could be read."""
    tensors: int
    parameters: int
    quantized_parameters: int
    bytes_by_dtype: Mapping[str, int]
    remote_code: tuple[str, ...]
    """Files and `auto_map` entries that an engine would run with `trust_remote_code`."""
    datasets: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()

    @property
    def quantized_share(self) -> float:
        """Of its parameters, from 0 to 1."""
        return self.quantized_parameters / self.parameters if self.parameters else 0.0


@dataclass(frozen=True, slots=True)
class Totals:
    """`blobs` and `bytes` are what is signed, each once; `read` is what was read of it for the audit."""

    artifacts: int
    blobs: int
    bytes: int
    read: int
    files: int
    unpacked: int
    """Bytes of all files inside, archives aside."""
    packages: int


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything one audit saw and found. `airgap` is the version that looked."""

    airgap: str
    at: datetime
    subject: Subject
    totals: Totals
    artifacts: tuple[ArtifactFact, ...] = ()
    files: tuple[FileFact, ...] = ()
    packages: tuple[PackageFact, ...] = ()
    wheels: tuple[WheelFact, ...] = ()
    images: tuple[ImageFact, ...] = ()
    models: tuple[ModelFact, ...] = ()
    findings: tuple[Finding, ...] = ()
    verdicts: "tuple[VerdictFact, ...] | None" = None
    """None where nobody judged."""
    vulnerabilities: "tuple[VulnerabilityFact, ...] | None" = None
    """None where no advisories were given."""
    vulnerability_data: "tuple[VulnerabilityData, ...]" = ()
    policy: "PolicyFact | None" = None
    """None where no policy was given."""
    since: "SinceFact | None" = None
    """What changed since an earlier one; None where none was named."""

    def by_severity(self) -> dict[Severity, int]:
        """How many findings of each severity, the worst first."""
        counts = Counter(finding.severity for finding in self.findings)
        return {severity: counts[severity] for severity in Severity}

    def of_artifact(self, name: str) -> tuple[FileFact, ...]:
        return tuple(fact for fact in self.files if fact.artifact == name)

    def as_json(self) -> dict[str, object]:
        """report.json without `files`, which files.csv has: a bundle may hold a hundred thousand."""
        document = {"format": FORMAT, **table_of(self, leave_out=("files",))}
        document["findings_by_severity"] = {key.value: count for key, count in self.by_severity().items()}
        return document
