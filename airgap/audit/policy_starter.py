"""The policy that `airgap policy init` writes: valid and strict, to be loosened by who answers for it."""

STARTER = """\
# What this site lets in. airgap build, verify, install and audit take it: --policy FILE.
# A rule that is not here asks nothing. A rule that is here is broken by what it could not find out, too.
# Every key is described in docs/policy.md.

format = 1

[licences]                      # of every wheel, OS package and model
allowed = [                     # SPDX identifiers; other texts must stand here word by word
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0",
    "Python-2.0", "Unlicense", "Zlib",
]
os-packages = [                 # besides, of what an image's distribution brings
    "GPL-1.0-or-later", "GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later",
    "LGPL-2.0-only", "LGPL-2.0-or-later", "LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0-only",
    "LGPL-3.0-or-later", "GFDL-1.3-no-invariants-only", "GFDL-1.3-no-invariants-or-later",
    "GPL-1.0-only", "Artistic-1.0", "Artistic-2.0", "Artistic-dist", "Beerware", "BSD-1-Clause",
    "BSD-4-Clause", "BSD-4-Clause-UC", "BSL-1.0", "bzip2-1.0.6", "CC0-1.0", "CC-BY-3.0", "curl", "FSFAP",
    "FSFUL", "FSFULLR", "Kazlib", "Latex2e", "Libpng", "NTP", "OFL-1.1", "OLDAP-2.8", "PostgreSQL",
    "SMAIL-GPL", "Spencer-86", "TCL", "Unicode-DFS-2016", "Vim", "X11",
    "LicenseRef-debian-*",      # whatever Debian calls by a name that SPDX has not, such as public-domain
]
unstated = ["deb"]              # whose copyright file no machine reads: passed over, so see to them elsewhere

[formats]
weights = ["safetensors"]       # by content: safetensors, gguf, hdf5, zip (torch.save), pickle, …
pickle = false                  # no pickle among models and files
remote-code = false             # no model that brings code of its own
# startup-code = false          # no .pth line or sitecustomize that Python runs at every start

[sources]
# hosts = ["files.pythonhosted.org", "huggingface.co"]
# indexes = ["https://pypi.org/simple"]
# registries = ["docker.io"]    # of images
# local = false                 # nothing from the stager's own disk

[signers]                       # judged where a bundle arrives, not while it is built
minimum = 2
# names = ["alice"]             # who must be among them

[sizes]
# bundle = "2 TB"
# artifact = "500 GB"
# file = "100 GB"

[vulnerabilities]               # needs advisories: an OSV export in the bundle, or --osv FILE
maximum = "medium"              # none, low, medium, high, critical: the worst that may be there
data-age = 30                   # days

[findings]
errors = false                  # no finding of severity error
# forbidden = ["audit-setuid"]  # nor any of these codes

[checks]                        # what must have been found out
required = ["contents", "secrets", "signatures"]   # also: licences, vulnerabilities, readiness

# [[waivers]]                   # shown on the report's first page
# rule = "licences.allowed"
# subject = "packages: example 1.0"             # as the violation names it; * stands for anything
# reason = "linked into nothing that we ship; see ticket 123"
# name = "Jane Doe"
# expires = 2027-03-31          # the last day; an ended waiver is itself a violation
"""
