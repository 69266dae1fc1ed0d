"""A real docker-registry on a free loopback port, and a small token server that a registry can trust."""

import base64
import json
import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

START_SECONDS = 20


@dataclass(frozen=True)
class RunningRegistry:
    """Where it listens (`127.0.0.1:port`), where it keeps its blobs, where it logs requests."""

    host: str
    storage: Path
    log: Path

    def blob(self, digest: str) -> Path:
        return self.storage / "docker/registry/v2/blobs/sha256" / digest[:2] / digest / "data"

    def requests(self) -> list[str]:
        """Its access log: 'METHOD path status'."""
        found = []
        for line in self.log.read_text().splitlines():
            entry = json.loads(line) if line.startswith("{") else {}
            if entry.get("msg") in ("response completed", "response completed with error"):
                status = entry.get("http.response.status")
                found.append(f"{entry['http.request.method']} {entry['http.request.uri']} {status}")
        return found


@contextmanager
def registry(
    directory: Path,
    *,
    htpasswd: Path | None = None,
    certificate: "tuple[Path, Path] | None" = None,
    token: "TokenServer | None" = None,
) -> Iterator[RunningRegistry]:
    """Run docker-registry with its data below `directory` until the context ends."""
    directory.mkdir(parents=True, exist_ok=True)
    host = f"127.0.0.1:{free_port()}"
    storage, log = directory / "storage", directory / "log"
    config: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}},
        "http": {"addr": host},
    }
    if certificate:
        tls = {"certificate": str(certificate[0]), "key": str(certificate[1])}
        config["http"] = {"addr": host, "tls": tls}
    if htpasswd:
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(htpasswd)}}
    if token:
        config["auth"] = {
            "token": {
                "realm": token.realm,
                "service": token.service,
                "issuer": token.issuer,
                "rootcertbundle": str(token.certificate),
            }
        }
    path = directory / "config.yml"
    path.write_text(json.dumps(config))  # JSON is YAML
    with open(log, "wb") as output:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(path)], stdout=output, stderr=subprocess.STDOUT
        )
        try:
            _wait(host, process, log)
            yield RunningRegistry(host, storage, log)
        finally:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def _wait(host: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    address, _, port = host.partition(":")
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection((address, int(port)), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"docker-registry did not start: {log.read_text()[-2000:]}")


def write_htpasswd(path: Path, user: str, password: str) -> Path:
    subprocess.run(
        ["htpasswd", "-Bbc", "-C", "4", str(path), user, password], check=True, capture_output=True
    )
    return path


def write_certificates(directory: Path) -> tuple[Path, Path, Path]:
    """An own CA and a certificate for 127.0.0.1: (ca, certificate, key)."""
    directory.mkdir(parents=True, exist_ok=True)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
    now = datetime.now(UTC)

    def build(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )

    ca = build(ca_name, ca_key.public_key()).add_extension(x509.BasicConstraints(True, None), critical=True)
    leaf_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    leaf = build(leaf_name, key.public_key()).add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
    )
    paths = directory / "ca.pem", directory / "cert.pem", directory / "key.pem"
    paths[0].write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(leaf.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    paths[2].write_bytes(_pem(key))
    return paths


def _pem(key: "ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey") -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@dataclass
class TokenServer:
    """Gives bearer tokens (RS256, x5c) for docker-registry. A fake: it checks one user and one refresh token.

    `user` None lets anyone in. `seconds` is how long a token lives; docker-registry adds 60 of leeway.
    """

    certificate: Path
    user: tuple[str, str] | None = None
    refresh: str = ""
    seconds: list[float] = field(default_factory=lambda: [300.0])
    """The life of the first token, the second, …; the last repeats."""
    service: str = "test-registry"
    issuer: str = "test-issuer"
    realm: str = ""
    asked: list[str] = field(default_factory=list)
    """What was asked: 'anonymous', 'basic', 'refresh' or 'refused'."""

    @contextmanager
    def running(self) -> Iterator["TokenServer"]:
        self._key = rsa.generate_private_key(65537, 2048)
        self._chain = _self_signed(self._key)
        self.certificate.write_bytes(self._chain.public_bytes(serialization.Encoding.PEM))
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.realm = f"http://127.0.0.1:{server.server_address[1]}/token"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                outer._answer(self, query, outer._who(self.headers.get("Authorization", "")))

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                good = outer.refresh and form.get("refresh_token") == [outer.refresh]
                outer._answer(self, form, "refresh" if good else "refused")

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def _who(self, authorization: str) -> str:
        if self.user is None and not authorization:
            return "anonymous"
        expected = base64.b64encode(":".join(self.user or ("", "")).encode()).decode()
        return "basic" if self.user and authorization == f"Basic {expected}" else "refused"

    def _answer(self, handler: BaseHTTPRequestHandler, asked: dict[str, list[str]], who: str) -> None:
        self.asked.append(who)
        if who == "refused":
            body = b'{"errors":[{"code":"UNAUTHORIZED","message":"wrong user or password"}]}'
            handler.send_response(401)
        else:
            body = json.dumps({"token": self._token(asked.get("scope", [])), "expires_in": 60}).encode()
            handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _token(self, scopes: list[str]) -> str:
        life = self.seconds[min(len(self.asked), len(self.seconds)) - 1]
        access = []
        for scope in " ".join(scopes).split():
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = time.time()
        chain = base64.b64encode(self._chain.public_bytes(serialization.Encoding.DER)).decode()
        head = {"typ": "JWT", "alg": "RS256", "x5c": [chain]}
        claims = {
            "iss": self.issuer,
            "sub": "test",
            "aud": self.service,
            "exp": int(now + life),
            "nbf": int(now - 600),
            "iat": int(now - 600),
            "jti": secrets.token_hex(8),
            "access": access,
        }
        signed = ".".join(_base64url(json.dumps(part).encode()) for part in (head, claims))
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64url(signature)}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _self_signed(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test token signer")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
    return builder.sign(key, hashes.SHA256())


def push(layout: Path, registry: RunningRegistry, name: str, *options: str) -> None:
    """Push `latest` of an OCI layout as `name`, all platforms, digests unchanged."""
    subprocess.run(
        [
            "skopeo",
            "copy",
            "--all",
            "--preserve-digests",
            "--dest-tls-verify=false",
            *options,
            f"oci:{layout}:latest",
            f"docker://{registry.host}/{name}",
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "HOME": str(layout.parent)},
    )
