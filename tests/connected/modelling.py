"""A place to lock and fetch models in: a store, a transfer engine and a manifest's directory of its own."""

from pathlib import Path

from airgap.connected.source import Context
from airgap.connected.transfer import Transfer
from airgap.manifest import ModelRequest
from airgap.model import Platform, Target
from airgap.progress import Silent
from airgap.store import Store

TARGET = Target("3.12", Platform("linux", "amd64"), "2.35")


class Counting(Silent):
    """Progress that only adds up."""

    def __init__(self) -> None:
        self.bytes = 0

    def advance(self, count: int) -> None:
        self.bytes += count


def make_context(root: Path) -> Context:
    progress = Counting()
    store = Store(root / "store")
    store.prepare()
    (root / "project").mkdir(exist_ok=True)
    transfer = Transfer(store, progress, retries=2, first_wait=0.01)
    return Context(TARGET, root / "project", store, transfer, progress)


def from_hub(
    repo: str = "org/name",
    revision: str = "main",
    include: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
    quantization: str = "",
) -> ModelRequest:
    return ModelRequest("model", repo, "", revision, quantization, include, exclude, "")


def from_path(
    path: str = "weights", include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()
) -> ModelRequest:
    return ModelRequest("model", "", path, "main", "", include, exclude, "")
