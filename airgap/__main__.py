"""`python -m airgap` is the console script."""

from airgap.cli import main

main()
