"""What the manifest claims of a model's weights, judged by their headers before anything large is fetched."""

from requests.auth import AuthBase

from airgap.connected.ranges import RemoteSource
from airgap.connected.source import Context
from airgap.connected.transfer import HttpRefusal
from airgap.errors import InputError, SourceError
from airgap.model import Finding, Local, LockedFile, ModelArtifact, Remote, Severity
from airgap.readers.checkpoint import Checkpoint, ReadRange, read_checkpoints
from airgap.readers.source import FileSource
from airgap.readiness.nvfp4 import Proof, Verdict, assess, prove_nvfp4

_CODE = "model-quantization-claim"


def judge_claim(
    artifact: ModelArtifact, context: Context, auth: AuthBase | None = None
) -> tuple[Finding, ...]:
    """Prove the model's `quantization` by its headers: of local files, of blobs in the store, else by ranges.

    Raises InputError naming the tensor where `nvfp4` is refuted, HttpRefusal where the server refuses. What
    nobody can decide is a WARNING.
    """
    if not artifact.quantization:
        return ()
    try:
        checkpoints = read_headers(artifact, context, auth)
    except HttpRefusal:
        raise
    except SourceError as error:
        return (_undecided(artifact, f"its headers cannot be read: {error.message}"),)
    if artifact.quantization != "nvfp4":
        return _compare(artifact, checkpoints)
    proof = prove_nvfp4(checkpoints)
    if proof.verdict is Verdict.REFUTED:
        raise _refuted(artifact, proof)
    return (_undecided(artifact, str(proof.reasons[0])),) if proof.verdict is Verdict.UNDECIDED else ()


def read_headers(artifact: ModelArtifact, context: Context, auth: AuthBase | None) -> tuple[Checkpoint, ...]:
    """Every checkpoint of a model by its headers. Raises SourceError, HttpRefusal among them."""
    return read_checkpoints(
        {file.path: file.size for file in artifact.files}, _reader(artifact, context, auth)
    )


def _reader(artifact: ModelArtifact, context: Context, auth: AuthBase | None) -> ReadRange:
    files: dict[str, LockedFile] = {file.path: file for file in artifact.files}
    remote: dict[str, RemoteSource] = {}

    def read(name: str, start: int, count: int) -> bytes:
        file = files[name]
        if isinstance(file.origin, Remote) and not context.store.holds(file.sha256, file.size):
            if name not in remote:
                remote.clear()  # files are read one after the other: keep the blocks of one
                remote[name] = RemoteSource(
                    file.origin.url, context.transfer, auth, size=file.size, digest=file.sha256
                )
            return remote[name].read(start, count)
        stored = context.store.path(file.sha256)
        path = context.directory / file.origin.path if isinstance(file.origin, Local) else stored
        with FileSource(path) as source:
            return source.read(start, count)

    return read


def _compare(artifact: ModelArtifact, checkpoints: tuple[Checkpoint, ...]) -> tuple[Finding, ...]:
    """Of other formats the tensors' dtypes tell much and prove little: disagreement is worth a warning."""
    found = {assess(checkpoint).format for checkpoint in checkpoints if checkpoint.headers}
    same = {word.lower() for word in found} & {artifact.quantization, artifact.quantization.replace("-", "")}
    if same:
        return ()
    told = f"its tensors are {' and '.join(sorted(found))}" if found else "no safetensors among its files"
    return (_undecided(artifact, f"{told}; only nvfp4 can be proven"),)


def _refuted(artifact: ModelArtifact, proof: Proof) -> InputError:
    first, *more = map(str, proof.reasons)
    return InputError(
        f"models.{artifact.name}.quantization: expected the claimed nvfp4; {first}",
        problems=more,
        remedy="name a checkpoint that is NVFP4, with its config.json, or correct or leave out quantization",
    )


def _undecided(artifact: ModelArtifact, why: str) -> Finding:
    return Finding(
        _CODE,
        Severity.WARNING,
        artifact.name,
        f"the claim quantization = {artifact.quantization!r} is not proven: {why}",
        remedy="compare with what its publisher says, or leave quantization out of the manifest",
    )
