"""A holder's P-384 key in a PKCS#11 token: made there, found there, signing there, and never leaving it.

The token is opened for each use and closed after it, so that it may be pulled in between, and hours
may pass between the start of a build and its signature. Importing this module without python-pkcs11
raises HostError.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from airgap.errors import AirgapError, HostError, InputError, TrustError
from airgap.trust.keys import Algorithm, Holder, Message, PublicKey
from airgap.trust.token import (
    P384_PARAMETERS,
    KeyUri,
    TokenReference,
    TokenSecret,
    der_signature,
    p384_from_point,
)

try:
    import pkcs11
    from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass, TokenFlag
except ModuleNotFoundError as error:
    raise HostError(
        f"a key in a token needs the Python package {error.name!r}", remedy="pip install 'airgap[hsm]'"
    ) from None

AskPin = Callable[[str], str]
"""Gives the PIN that a question asks for; see `airgap.keyfiles.PassphraseSource.next_pin`."""

_SLOW_DOWN = "make sure of it before the next try: a token locks after a few wrong PINs"
_PUT_BACK = "put the token back, then run the same command again"
_OFFICER = "its security officer sets a new one, with the vendor's own tool"
_OTHER_TOKEN = "use a token that does"  # noqa: S105 (advice)

_MEANINGS: dict[str, tuple[type[AirgapError], str, str]] = {
    "PinIncorrect": (TrustError, "the PIN is wrong", _SLOW_DOWN),
    "PinInvalid": (TrustError, "the PIN holds characters that it refuses", _SLOW_DOWN),
    "PinLenRange": (TrustError, "the PIN is too short or too long", _SLOW_DOWN),
    "PinLocked": (TrustError, "the PIN is locked after wrong tries", _OFFICER),
    "PinExpired": (TrustError, "the PIN has expired", _OFFICER),
    "UserPinNotInitialized": (TrustError, "no user PIN was set yet", _OFFICER),
    "DeviceRemoved": (HostError, "it was removed", _PUT_BACK),
    "TokenNotPresent": (HostError, "it was removed", _PUT_BACK),
    "DeviceMemory": (HostError, "it has no room for another key", _OTHER_TOKEN),
    "TokenWriteProtected": (HostError, "it is write-protected", "lift that, or --adopt a key it holds"),
    "MechanismInvalid": (HostError, "it does not do ECDSA over P-384", _OTHER_TOKEN),
    "DomainParamsInvalid": (HostError, "it does not do ECDSA over P-384", _OTHER_TOKEN),
}
"""What a return code of PKCS#11 (v2.40 section 5.1), by python-pkcs11's name, means to a person."""

_PAIR = (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY)
_CURVES = {"06082a8648ce3d030107": "secp256r1", "06052b81040023": "secp521r1", "06052b8104000a": "secp256k1"}


class TokenSigner:
    """Signs as `holder`: P-384 in the token, ML-DSA-87 here. Its repr shows the holder only."""

    def __init__(self, secret: TokenSecret, token: "_Token") -> None:
        self._secret = secret
        self._token = token
        self._holder = secret.holder

    def __repr__(self) -> str:
        return f"TokenSigner({self._holder.name!r})"

    @property
    def holder(self) -> Holder:
        return self._holder

    def sign(self, algorithm: Algorithm, message: Message) -> bytes:
        """See `airgap.trust.keys.Signer`. Raises TrustError or HostError as the token refuses."""
        if algorithm is Algorithm.MLDSA87:
            return self._secret.mldsa87.sign(message.mldsa87)
        with self._token.session() as session:
            return self._token.sign(_private_key(session, self._token.uri), message)


def open_signer(secret: TokenSecret, ask_pin: AskPin, what: str) -> TokenSigner:
    """The holder whose `.key` file `what` was read, once the token let us in and shows their key.

    Raises HostError when module or token are not there, TrustError for a wrong PIN or another key,
    InputError when the token holds no such key.
    """
    token = _Token(secret.reference, ask_pin, what)
    with token.session() as session:
        shown = _public_key(session, _private_key(session, token.uri))
    # Where it shows none, the signature alone tells; airgap.trust.envelope checks each.
    if shown is not None and shown != secret.p384:
        raise TrustError(
            f"{what}: expected the key {secret.p384.keyid} in {token}, found {shown.keyid}",
            remedy=f"this is another holder's token, or a new key in it: find the one that signs as"
            f" {secret.name}",
        )
    return TokenSigner(secret, token)


def generate_key(reference: TokenReference, ask_pin: AskPin, what: str) -> tuple[TokenReference, PublicKey]:
    """Make a P-384 pair in the token that cannot leave it; the reference returned has the key's id, too.

    Raises InputError when the token holds a key of that name, HostError and TrustError as `open_signer`.
    """
    uri = replace(reference.uri, id=reference.uri.id or os.urandom(8))
    token = _Token(replace(reference, uri=uri), ask_pin, what)
    with token.session(writable=True) as session:
        if any(_found(session, kind, reference.uri.object, reference.uri.id) for kind in _PAIR):
            raise InputError(
                f"{token} holds {reference.uri} already", remedy="choose another object=, or --adopt it"
            )
        parameters = session.create_domain_parameters(
            KeyType.EC, {Attribute.EC_PARAMS: P384_PARAMETERS}, local=True
        )
        parameters.generate_keypair(
            id=uri.id,
            label=uri.object,
            store=True,
            capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
            private_template={Attribute.EXTRACTABLE: False},
        )
        return token.reference, _proven(session, token)


def adopt_key(reference: TokenReference, ask_pin: AskPin, what: str) -> PublicKey:
    """The public half of a P-384 pair that the token holds already, once it was seen to sign.

    Raises InputError when there is none, or it is of another kind; HostError and TrustError as `open_signer`.
    """
    token = _Token(reference, ask_pin, what)
    with token.session() as session:
        return _proven(session, token)


class _Token:
    """The token of a reference, and the PIN that opens it, asked for once."""

    def __init__(self, reference: TokenReference, ask_pin: AskPin, what: str) -> None:
        self.reference = reference
        self.uri = reference.uri
        self._ask_pin = ask_pin
        self._what = what
        self._pin: str | None = None

    def __str__(self) -> str:
        return f"the token {self.uri.label!r}"

    @contextmanager
    def session(self, *, writable: bool = False) -> Iterator[pkcs11.Session]:
        """Log in, and out again. Whatever the token refuses inside becomes an error with advice."""
        try:
            token = self._find()
            with token.open(rw=writable, user_pin=self._credential(token)) as session:
                yield session
        except pkcs11.PKCS11Error as error:
            name = type(error).__name__
            unknown = (HostError, f"it answered {name} {error}".strip(), "try it with its vendor's own tool")
            kind, message, remedy = _MEANINGS.get(name, unknown)
            raise kind(f"{self._what}: {self}: {message}", remedy=remedy) from error

    def sign(self, key: pkcs11.PrivateKey, message: Message) -> bytes:
        """CKM_ECDSA over the SHA-384 digest, in DER."""
        if not isinstance(key, pkcs11.SignMixin):
            raise InputError(f"{self._what}: {self}: {self.uri} may not sign (CKA_SIGN is false)")
        again = self._pin if _attribute(key, Attribute.ALWAYS_AUTHENTICATE) else None
        return der_signature(key.sign(message.sha384, mechanism=Mechanism.ECDSA, pin=again))

    def _find(self) -> pkcs11.Token:
        present = list(_tokens(_slots(self.reference.module, self._what)))
        fitting = [token for token in present if _fits(token, self.uri)]
        if len(fitting) != 1:
            labels = ", ".join(sorted(repr(token.label) for token in present if token.label)) or "none"
            count = "no such token" if not fitting else f"{len(fitting)} that fit"
            raise HostError(
                f"{self._what}: expected {self}, found {count}; present: {labels}",
                remedy="insert it" if not fitting else "name it by serial= as well",
            )
        return fitting[0]

    def _credential(self, token: pkcs11.Token) -> object:
        """What opens the token: the PIN, or its own PIN pad."""
        if token.flags & TokenFlag.USER_PIN_LOCKED:
            raise pkcs11.PinLocked
        if token.flags & TokenFlag.PROTECTED_AUTHENTICATION_PATH:
            return pkcs11.PROTECTED_AUTH
        if self._pin is None:
            state = ""
            if token.flags & TokenFlag.USER_PIN_FINAL_TRY:
                state = " (the last try before it locks)"
            elif token.flags & TokenFlag.USER_PIN_COUNT_LOW:
                state = " (the last one was wrong; it locks after a few)"
            self._pin = self._ask_pin(f"PIN of {self} for {self._what}{state}")
        return self._pin


def _slots(module: str, what: str) -> list[pkcs11.Slot]:
    """Where tokens are, says the module. Raises HostError when it is none, or cannot begin."""
    if not Path(module).is_file():
        raise HostError(
            f"{what}: expected the PKCS#11 module {module}, found no such file",
            remedy="install what drives the token, or correct the path (in a .key file: its third line)",
        )
    try:
        return pkcs11.lib(module).get_slots(token_present=True)
    except pkcs11.PKCS11Error as error:
        raise HostError(
            f"{what}: {module} cannot be used as a PKCS#11 module: {str(error) or type(error).__name__}",
            remedy="name the module of the token's vendor, and see that its own tool finds the token",
        ) from error


def _tokens(slots: Iterable[pkcs11.Slot]) -> Iterator[pkcs11.Token]:
    """Every token that is there now; a slot may lose its own while we look."""
    for slot in slots:
        try:
            yield slot.get_token()
        except (pkcs11.TokenNotPresent, pkcs11.TokenNotRecognised):
            continue


def _fits(token: pkcs11.Token, uri: KeyUri) -> bool:
    shown = (token.label, token.manufacturer_id, token.model, token.serial.decode("utf-8", "replace"))
    wanted = (uri.token, uri.manufacturer, uri.model, uri.serial)
    return all(want in ("", have) for want, have in zip(wanted, shown, strict=True))


def _found(session: pkcs11.Session, kind: ObjectClass, label: str, identity: bytes) -> list[pkcs11.Object]:
    """The objects of a kind with this label and id; an empty one matches any."""
    template: dict[Attribute, object] = {Attribute.CLASS: kind}
    if label:
        template[Attribute.LABEL] = label
    if identity:
        template[Attribute.ID] = identity
    return list(session.get_objects(template))


def _private_key(session: pkcs11.Session, uri: KeyUri) -> pkcs11.PrivateKey:
    """The one private key of that name, known to be of P-384."""
    found = _found(session, ObjectClass.PRIVATE_KEY, uri.object, uri.id)
    if len(found) != 1:
        raise InputError(
            f"the token {uri.label!r}: expected one private key {uri}, found {len(found) or 'none'}",
            remedy="name another object=" if not found else "name it by id= as well",
        )
    key = found[0]
    assert isinstance(key, pkcs11.PrivateKey)
    parameters = _attribute(key, Attribute.EC_PARAMS) if key.key_type is KeyType.EC else None
    if parameters != P384_PARAMETERS:
        shown = key.key_type.name
        if isinstance(parameters, bytes):
            shown += f" {_CURVES.get(parameters.hex(), parameters.hex())}"
        raise InputError(
            f"the token {uri.label!r}: expected an {Algorithm.P384.label} key, found {shown} as {uri}",
            remedy="name a P-384 key, or have one made without --adopt",
        )
    return key


def _public_key(session: pkcs11.Session, private: pkcs11.PrivateKey) -> PublicKey | None:
    """The public half as the token shows it: the object of the same id (PKCS#11 section 4.9), if any."""
    found = _found(session, ObjectClass.PUBLIC_KEY, "" if private.id else private.label, private.id)
    point = _attribute(found[0] if len(found) == 1 else private, Attribute.EC_POINT)
    return p384_from_point(point) if isinstance(point, bytes) else None


def _proven(session: pkcs11.Session, token: _Token) -> PublicKey:
    """The public key of the pair, once the private one was seen to be its other half."""
    private = _private_key(session, token.uri)
    public = _public_key(session, private)
    if public is None:
        raise InputError(
            f"{token} shows no public key for {token.uri}", remedy="store its public key with the same id"
        )
    message = Message.of(b"airgap: this token signs with the key that it shows\n" + os.urandom(16))
    if not public.verifies(token.sign(private, message), message):
        raise TrustError(f"{token}: its public and private key {token.uri} do not belong together")
    return public


def _attribute(thing: pkcs11.Object, attribute: Attribute) -> object:
    """An attribute, or None where the token has none of that name or keeps it to itself."""
    try:
        return thing[attribute]
    except (pkcs11.AttributeTypeInvalid, pkcs11.AttributeSensitive):
        return None
