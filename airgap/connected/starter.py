"""The manifest that `airgap init` writes: whole and valid once its names are changed."""

STARTER = """\
# What to carry across. `airgap lock` turns it into exact digests, `airgap build` into a bundle.
# Every key is described in docs/manifest.md.

[bundle]
name = "@NAME@"
version = "1"
# channel = "@NAME@"            # sequence numbers count per channel; the name by default

[target]                        # the machine the bundle is for: ask its operator
python = "3.12"                 # python3 --version
platform = "linux/amd64"        # uname -m: x86_64 is linux/amd64, aarch64 is linux/arm64
glibc = "2.35"                  # ldd --version
# gpu = { name = "NVIDIA L4", compute_capability = "8.9", memory_gib = 24, count = 4 }
# driver = "570.86"             # nvidia-smi

[[wheels]]                      # resolved for the target, whatever runs this command
name = "packages"
requirements = ["requests>=2.32"]
# requirements-file = "requirements.in"
# constraints = ["constraints.txt"]
# index-url = "https://pypi.org/simple"
# extra-index-urls = ["https://packages.example/simple"]
# find-links = ["wheelhouse"]
# allow-sdist = ["docopt"]      # pure Python only, built once, here

# [[models]]
# name = "my-model"
# repo = "org/name"             # on the hub; or: path = "weights/my-finetune"
# revision = "main"             # locked to a commit
# include = ["*.safetensors", "*.json", "tokenizer*"]
# quantization = "nvfp4"
# served-by = "packages"

# [[containers]]
# name = "server"
# image = "docker.io/library/debian:12-slim"   # or: archive = "image.tar", or: layout = "directory"
# platforms = ["linux/amd64"]   # the target's alone by default; "all" for every one

# [[files]]
# name = "notes"
# path = "NOTES.md"             # or: url = "https://…", sha256 = "…"
"""


def starter_manifest(name: str) -> str:
    """The starter's text for a bundle of this name."""
    return STARTER.replace("@NAME@", name)
