"""The audit of a site: every bundle of its current generation, from the site's own store.

Their documents lie in the store, the envelopes among them, so each is judged again by the root of today.
"""

from collections.abc import Sequence

from airgap.audit.evidence import Audit, Subject, SubjectKind
from airgap.audit.reading import read_blobs
from airgap.audit.run import Judge, Part, conclude, judge_envelope, wanted_of
from airgap.decode import MAX_DOCUMENT
from airgap.isolated.generation import Member, load_member, stated_blobs
from airgap.isolated.site import Site
from airgap.media import Media
from airgap.model import Kind, Sha256
from airgap.oci import INDEXES, MANIFESTS
from airgap.progress import Progress


def is_site(path: Site) -> bool:
    """Whether anything was ever installed there."""
    return path.ever_installed()


def audit_site(
    site: Site, where: str, name: str, judging: Judge, *, progress: Progress, jobs: int | None = None
) -> Audit:
    """Audit what is in force. `name` is the site's own. What is wrong is a finding.

    Raises IntegrityError when a bundle's documents are too damaged to say what is installed, HostError when
    the site cannot be read.
    """
    members = [load_member(site, bundle) for bundle in site.record().bundles]
    return audit_members(site, members, where, name, judging, progress=progress, jobs=jobs)


def audit_members(
    site: Site,
    members: Sequence[Member],
    where: str,
    name: str,
    judging: Judge,
    *,
    progress: Progress,
    jobs: int | None = None,
) -> Audit:
    """Audit bundles whose bytes are in the site's store, in force or not yet. Raises as `audit_site` does."""
    parts = []
    found = []
    for member in members:
        bundle = member.bundle
        envelope = site.store.read(bundle.envelope, max_bytes=MAX_DOCUMENT)
        fact, wrong = judge_envelope(envelope, judging, installed=bundle.installed_at)
        found += wrong
        documents: dict[Sha256, bytes] = {}
        for bundled in member.artifacts:
            images = {
                layer.sha256
                for layer in bundled.layers
                if bundled.artifact.kind is Kind.CONTAINER and layer.media_type in (*INDEXES, *MANIFESTS)
            }
            documents |= {
                one: site.store.read(one, max_bytes=MAX_DOCUMENT) for one in {bundled.digest, *images}
            }
        parts.append(Part(fact, member.artifacts, documents))
    blobs = stated_blobs(members)
    with Media(site.root) as media:
        reading = read_blobs(media, wanted_of(parts, blobs), progress, jobs)
    facts = tuple(part.fact for part in parts)
    subject = Subject(SubjectKind.SITE, where, facts, name, site.current())
    return conclude(subject, parts, reading, found, now=judging.now, blobs=blobs)
