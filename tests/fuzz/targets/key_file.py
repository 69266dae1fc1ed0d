"""A `.pub` or `.key` file, and the PKCS#11 URI that one may hold.

Invariant: only InputError and TrustError escape; a public file that parses is rendered and parses back
equal, a URI too; no message repeats a private key's bytes.
"""

from functools import cache

from airgap.trust.keys import HolderSecret, generate
from airgap.trust.pem import needs_passphrase, parse_holder, parse_secret, render_holder, render_secret
from airgap.trust.token import TokenReference, TokenSecret, generate_beside, parse_uri
from tests.fuzz.harness import accepted

URI = "pkcs11:token=vault;manufacturer=m;model=x;serial=1;object=a%20key;id=%00%FF;type=private"


@cache
def seeds() -> dict[str, bytes]:
    secret = generate("alice")
    reference = TokenReference(parse_uri(URI), "/usr/lib/softhsm/libsofthsm2.so")
    beside = generate_beside("bob", reference, secret.holder.p384)
    sealed = render_secret(secret, None).replace(b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY")
    return {
        "pub": render_holder(secret.holder),
        "key": render_secret(secret, None),
        "token": render_secret(beside, None),
        "bad-sealed": sealed,
        "uri": URI.encode(),
        "bad-uri": b"pkcs11:token=%FF;object=a",
    }


def check(data: bytes) -> bool:
    holder = accepted(lambda file: parse_holder(file, "file"), data)
    if holder is not None:
        assert parse_holder(render_holder(holder), "file") == holder
    secret = None
    if accepted(lambda file: needs_passphrase(file, "file"), data) is False:
        secret = accepted(lambda file: parse_secret(file, None, "file"), data)
        assert secret is None or _again(secret).holder == secret.holder
    uri = accepted(lambda text: parse_uri(text.decode("utf-8", "replace")), data)
    if uri is not None:
        assert parse_uri(str(uri)) == uri
    return not (holder is None and secret is None and uri is None)


def _again(secret: HolderSecret | TokenSecret) -> HolderSecret | TokenSecret:
    return parse_secret(render_secret(secret, None), None, "file")
