"""The `verify/` directory of a bundle: what openssl and coreutils need to check it without airgap.

SHA384SUMS lists every file of the bundle that the signatures do not cover directly, pae.bin is what was
signed, `<keyid>.sig` are the signatures, and HOWTO.txt gives the commands. A test runs those commands.
"""

import re
from collections.abc import Mapping

from airgap.model import Sha256, Sha384, bundle_path
from airgap.trust import envelope
from airgap.trust.blobs import StatedBlob
from airgap.trust.envelope import payload_digest
from airgap.trust.statement import SUMS

PAE = "verify/pae.bin"
HOWTO_FILE = "verify/HOWTO.txt"

HOWTO = b"""\
How to check this bundle with openssl and coreutils alone
=========================================================

Work in the bundle's directory (the one that holds bundle.dsse.json), in a POSIX shell. Set KEY to the
.pub file of one holder, which you have from that holder and not from this medium:

    KEY=/path/to/alice.pub

1. Nothing here is a link, a device or a pipe. This prints nothing:

    find . ! -type f ! -type d

2. The holder signed pae.bin with ECDSA P-384. This prints "Verified OK". Repeat it for each holder, and
   count them against the threshold that your root demands:

    ID=$(openssl pkey -pubin -in "$KEY" -outform DER | sha256sum | cut -c1-64)
    openssl dgst -sha384 -verify "$KEY" -signature "verify/$ID.sig" verify/pae.bin

3. What they signed is the statement of a bundle. This prints "a statement":

    test "$(head -c 39 verify/pae.bin)" = "DSSEv1 28 application/vnd.in-toto+json " && echo "a statement"

4. That statement holds the digest of SHA384SUMS. This prints "the signed list":

    SUM=$(openssl dgst -sha384 -r verify/SHA384SUMS | cut -c1-96)
    grep -aqF "\\"sha384\\":\\"$SUM\\"},\\"name\\":\\"verify/SHA384SUMS\\"" verify/pae.bin &&
        echo "the signed list"

5. Every listed file has its signed bytes. This prints nothing and succeeds:

    sha384sum -c --strict --quiet verify/SHA384SUMS

   openssl hashes two to three times as fast. This does the same work, and also prints nothing:

    cut -c99- verify/SHA384SUMS | xargs openssl dgst -sha384 -r | sed 's/ \\*/  /' | cmp - verify/SHA384SUMS

6. Nothing else is here. This prints nothing (roots/ and records/, where they are there, hold what carries
   its own signatures; nothing of the bundle depends on them):

    LISTED=$(mktemp)
    { cut -c99- verify/SHA384SUMS; printf '%s\\n' bundle.dsse.json verify/SHA384SUMS verify/pae.bin; } |
        sed 's|^|./|' | LC_ALL=C sort > "$LISTED"
    find . ! -type d |
        grep -vE '^\\./(verify/[0-9a-f]{64}\\.sig|roots/[0-9]+\\.root\\.json)$' |
        grep -vE '^\\./records/[0-9a-f]{64}\\.dsse\\.json$' |
        LC_ALL=C sort | LC_ALL=C comm -23 - "$LISTED"

7. What was signed, and until when it holds. Compare the sequence with the last one you accepted:

    grep -aoE '"(channel|version|createdAt|expiresAt)":"[^"]*"|"(epoch|sequence)":[0-9]+' verify/pae.bin

8. The second signature, ML-DSA-87, needs openssl 3.5 or later. Its key is the second one in the .pub
   file, and its message is "tuf", a byte 1, and the SHA-512 of pae.bin. This prints "Signature Verified
   Successfully":

    WORK=$(mktemp -d)
    awk '/-----BEGIN/ { n++ } n == 2' "$KEY" > "$WORK/mldsa87.pub"
    ID=$(grep -v -- ----- "$WORK/mldsa87.pub" | base64 -d | sha256sum | cut -c1-64)
    { printf 'tuf\\001'; openssl dgst -sha512 -binary verify/pae.bin; } > "$WORK/message.bin"
    openssl pkeyutl -verify -pubin -inkey "$WORK/mldsa87.pub" -rawin \\
        -in "$WORK/message.bin" -sigfile "verify/$ID.sig"

9. Some bundles carry airgap itself, as the artifact airgap-installer: one file that needs nothing but the
   Python it was made for. Steps 1 to 8 prove it as they prove every blob. This prints its sha384, which a
   holder can also read to you, and its path; then python3 and that path is airgap (-h lists its verbs):

    M=$(grep -oE '"airgap-installer"},"digest":"sha256:[0-9a-f]{64}' index.json | tail -c 65)
    F=$(grep -oE '"layers":.*"digest":"sha256:[0-9a-f]{64}' "blobs/sha256/$M" | tail -c 65)
    openssl dgst -sha384 -r "blobs/sha256/$F"

Not checked by these commands: that a holder's key is still trusted, that the bundle is not revoked, and
that no newer one was accepted before. airgap verify checks those too; it reads bundle.dsse.json, which
carries the same statement and signatures as pae.bin and the .sig files.
"""


def render_sums(files: Mapping[str, Sha384], blobs: Mapping[Sha256, StatedBlob]) -> bytes:
    """SHA384SUMS as `sha384sum -c --strict` reads it, in byte order of paths relative to the bundle.

    `files` are those besides the blobs (oci-layout, index.json); HOWTO.txt is listed by itself.
    Raises InputError for a path that is no bundle path.
    """
    listed = {HOWTO_FILE: payload_digest(HOWTO), **files}
    listed |= {f"blobs/sha256/{digest}": blob.sha384 for digest, blob in blobs.items()}
    return "".join(f"{listed[path]}  {bundle_path(path)}\n" for path in sorted(listed)).encode()


def parse_sums(sums: bytes) -> dict[str, str]:
    """Path to digest. The bytes were signed, so anything a holder's airgap did not write just disagrees."""
    lines = sums.decode("utf-8", "replace").splitlines()
    return {line[98:]: line[:96] for line in lines}


def checkable(data: bytes, sums: bytes) -> dict[str, bytes]:
    """Every file of `verify/` by its path in the bundle, for this envelope and SHA384SUMS.

    A signature whose key id is no sha256 is left out: no honest signer makes one, and a key id from
    an envelope must not choose a file's name. Raises InputError for a malformed envelope.
    """
    sealed = envelope.parse(data)
    signatures = {
        f"verify/{signature.keyid}.sig": signature.sig
        for signature in sealed.signatures
        if re.fullmatch(r"[0-9a-f]{64}", signature.keyid)
    }
    pae = envelope.pae(sealed.payload, sealed.payload_type)
    return {SUMS: sums, HOWTO_FILE: HOWTO, PAE: pae, **signatures}
