"""One repository of one registry: the pull half of the OCI distribution spec, on the transfer engine.

Source: OCI distribution-spec v1.1, "Pulling manifests" and "Pulling blobs".
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar
from urllib.parse import urlsplit

from airgap.connected.http import TlsFailure
from airgap.connected.registry_auth import RegistryAuth
from airgap.connected.transfer import Download, HttpRefusal, Reply, Transfer
from airgap.errors import InputError, IntegrityError, SourceError
from airgap.image_signatures import referrers_tag
from airgap.model import LockedFile, Remote, Sha256
from airgap.oci import (
    INDEXES,
    MANIFESTS,
    MAX_CONFIG,
    MAX_MANIFEST,
    OCI_INDEX,
    Descriptor,
    Document,
    ImageIndex,
    Reference,
    parse_image,
)
from airgap.registry_protocol import api_host, error_words, refused

MIRRORS = "AIRGAP_REGISTRY_MIRRORS"
"""`registry=URL` pairs, separated by commas or spaces; the registry's requests go to the URL instead."""

MAX_PAGES = 10
"""Of a list of referrers, each at most MAX_MANIFEST bytes."""

_LABEL_DIGITS = 12


class Registry:
    """Reads one repository. URLs it hands out are the registry's own, also when a mirror answers for it."""

    accept: ClassVar = ", ".join((*INDEXES, *MANIFESTS))

    def __init__(
        self,
        reference: Reference,
        *,
        plain_http: bool,
        transfer: Transfer,
        environ: Mapping[str, str],
    ) -> None:
        """Raises InputError for a malformed AIRGAP_REGISTRY_MIRRORS. Sends nothing yet."""
        self.reference = reference
        self._plain_http = plain_http
        self._transfer = transfer
        scheme = "http" if plain_http else "https"
        host = api_host(reference.registry)
        mirror = find_mirror(reference.registry, environ)
        self._own = f"{scheme}://{host}/v2/{reference.repository}/"
        parts = urlsplit(mirror or f"{scheme}://{host}")
        prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
        repository = f"{prefix}{reference.repository}"
        self.host = parts.netloc if mirror else reference.registry
        self._asked = f"{parts.scheme}://{parts.netloc}/v2/{repository}/"
        self.auth = RegistryAuth(
            self.host,
            repository,
            self._asked,
            plain_http=parts.scheme == "http",
            transfer=transfer,
            environ=environ,
        )

    @property
    def image(self) -> str:
        """The full reference, as locks record it."""
        return str(self.reference)

    def top(self, pinned: Sha256 | None = None) -> Document:
        """What the reference names now, or the `pinned` digest it named before.

        Raises SourceError when the registry refuses or does not hold it, IntegrityError when its
        answer is not the bytes of the digest.
        """
        digest = pinned or self.reference.digest
        return self._manifest(f"sha256:{digest}" if digest else self.reference.tag, digest)

    def tagged(self, tag: str) -> Document | None:
        """What another tag of the repository names; None where it has no such tag. Raises as `top` does."""
        reply = self._reply(f"manifests/{tag}", f"tag {tag}", MAX_MANIFEST, {"accept": self.accept})
        if reply.status == 404:
            return None
        return self._document(reply, None)

    def referrers(self, subject: Sha256) -> Iterator[Descriptor]:
        """What refers to the manifest of this sha256, as the registry lists it; read as it is asked for.

        Source: distribution-spec v1.1, "Listing Referrers"; a registry without that API is asked for the
        tag that stands in for it. Raises as `top` does, and InputError for what is no such list.
        """
        what = f"what refers to sha256:{subject}"
        query = ""
        for _ in range(MAX_PAGES):
            path = f"referrers/sha256:{subject}{query}"
            allow = (200, *((400, 404, 405, 406) if not query else ()))
            reply = self._reply(path, what, MAX_MANIFEST, {"accept": OCI_INDEX}, allow)
            document: Document | None = Document(reply.body, _media_type(reply))
            if not query and (reply.status != 200 or _media_type(reply) != OCI_INDEX):
                document, reply = self.tagged(referrers_tag(subject)), replace(reply, headers={})
            if document is None:
                return
            listed = parse_image(document.data, what, media_type=document.media_type)
            if not isinstance(listed, ImageIndex):
                raise InputError(f"{what}: expected an index, found {listed.media_type}")
            yield from listed.manifests
            query = _next_page(reply)
            if not query:
                return
        raise InputError(f"{what}: more than {MAX_PAGES} pages")

    def blob(self, descriptor: Descriptor, part: str, max_bytes: int) -> bytes:
        """A small blob, whole. Raises SourceError (TooLarge among them) or IntegrityError."""
        reply = self._get(f"blobs/sha256:{descriptor.digest}", part, max_bytes, {})
        self._check(reply, descriptor.digest)
        return reply.body

    def document(self, descriptor: Descriptor) -> bytes:
        """A manifest or index inside an index. Raises SourceError or IntegrityError."""
        return self._manifest(f"sha256:{descriptor.digest}", descriptor.digest).data

    def config(self, descriptor: Descriptor) -> bytes:
        """An image config. Raises SourceError or IntegrityError."""
        return self.blob(descriptor, "the config", MAX_CONFIG)

    def document_origin(self, digest: Sha256) -> Remote:
        return Remote(f"{self._own}manifests/sha256:{digest}")

    def blob_origin(self, descriptor: Descriptor) -> Remote:
        """Where a blob is: a foreign layer lies at its own URL (image-spec, descriptor.md `urls`)."""
        foreign = "nondistributable" in descriptor.media_type or ".foreign." in descriptor.media_type
        if not foreign or not descriptor.urls:
            return Remote(f"{self._own}blobs/sha256:{descriptor.digest}")
        url = descriptor.urls[0]
        parts = urlsplit(url)
        schemes = ("https", "http") if self._plain_http else ("https",)
        if parts.scheme in schemes and parts.hostname and parts.username is None:
            return Remote(url)
        raise InputError(f"{self.image}: a foreign layer's URL is not https: {url[:200]!r}")

    def fetch(self, files: Sequence[LockedFile], name: str) -> None:
        """Bring locked files of artifact `name` into the store; credentials go to the registry alone.

        Raises SourceError, IntegrityError or HostError.
        """
        try:
            self._transfer.fetch([self._download(file, name) for file in files])
        except HttpRefusal as error:
            if error.status in (401, 403):
                raise refused(self.host, error.status, error.message) from error
            raise

    def _download(self, file: LockedFile, name: str) -> Download:
        assert isinstance(file.origin, Remote)
        url = file.origin.url
        label = f"{name} {file.sha256[:_LABEL_DIGITS]}"
        if not url.startswith(self._own):
            return Download(url, label, file.sha256, file.size)
        headers = {"Accept": file.media_type} if "/manifests/" in url else {}
        asked = self._asked + url.removeprefix(self._own)
        return Download(asked, label, file.sha256, file.size, self.auth, headers)

    def _manifest(self, wanted: str, digest: Sha256 | None) -> Document:
        reply = self._get(f"manifests/{wanted}", "the manifest", MAX_MANIFEST, {"accept": self.accept})
        return self._document(reply, digest)

    def _document(self, reply: Reply, digest: Sha256 | None) -> Document:
        self._check(reply, digest)
        return Document(reply.body, _media_type(reply))

    def _reply(
        self,
        path: str,
        part: str,
        max_bytes: int,
        headers: Mapping[str, str],
        allow: Sequence[int] = (200, 404),
    ) -> Reply:
        """An answer of a status in `allow`."""
        what = f"{part} of {self.image}"
        try:
            reply = self._transfer.get(
                self._asked + path,
                what=what,
                max_bytes=max_bytes,
                headers=headers,
                auth=self.auth,
                allow=(*allow, 401, 403),
            )
        except TlsFailure as error:
            raise TlsFailure(
                error.message,
                remedy=f"{error.remedy}; a registry without TLS needs plain-http = true in the manifest",
            ) from error
        if reply.status in (401, 403):
            raise refused(self.host, reply.status, f"{what}{error_words(reply.body)}")
        return reply

    def _get(self, path: str, part: str, max_bytes: int, headers: Mapping[str, str]) -> Reply:
        reply = self._reply(path, part, max_bytes, headers)
        if reply.status == 404:
            raise SourceError(
                f"registry {self.host} does not hold {self.image}: asked for {path}{error_words(reply.body)}",
                remedy=f"list what it holds with 'skopeo list-tags docker://{self.host}"
                f"/{self.reference.repository}' and correct the reference",
            )
        return reply

    def _check(self, reply: Reply, digest: Sha256 | None) -> None:
        """Compare the body with the digest asked for and with the one announced."""
        found = Document(reply.body, "").digest
        announced = reply.headers.get("docker-content-digest", "")
        expected = [f"sha256:{digest}"] if digest else []
        if announced.startswith("sha256:"):
            expected.append(announced)
        for one in expected:
            if one != f"sha256:{found}":
                raise IntegrityError(
                    f"{self.image}: registry {self.host} answered with other bytes than it was asked for:"
                    f" expected {one[:80]}, found sha256:{found} ({len(reply.body)} bytes)",
                    remedy="a proxy or the registry altered them: ask its operator, or name another source",
                )


def _media_type(reply: Reply) -> str:
    return reply.headers.get("content-type", "").partition(";")[0].strip()


def _next_page(reply: Reply) -> str:
    """The query of the next page (RFC 8288, `rel="next"`), '' for none; the place stays the one we asked."""
    match = re.search(r'<([^<>]*)>\s*;\s*rel="?next"?', reply.headers.get("link", ""))
    query = urlsplit(match[1]).query if match else ""
    return f"?{query}" if query else ""


def find_mirror(registry: str, environ: Mapping[str, str]) -> str:
    """The mirror of `registry` in AIRGAP_REGISTRY_MIRRORS, or ''. Raises InputError when malformed.

    `docker.io=https://mirror.example/hub` sends `docker.io/library/debian` to
    `https://mirror.example/v2/hub/library/debian`. Where a mirror is named, the registry itself is not asked.
    """
    for entry in re.split(r"[\s,]+", environ.get(MIRRORS, "").strip()):
        if not entry:
            continue
        name, _, url = entry.partition("=")
        parts = urlsplit(url)
        sound = parts.scheme in ("https", "http") and parts.hostname and parts.username is None
        if not name or not sound or parts.query:
            shown = f"{name}={parts.scheme}://{parts.hostname or ''}"
            raise InputError(
                f"{MIRRORS}: expected registry=https://host[/prefix], found {shown[:200]!r}",
                remedy="keep credentials for the mirror with 'docker login', not in its URL",
            )
        if name == registry:
            return url
    return ""
