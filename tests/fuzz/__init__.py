"""Fuzzing of everything that reads bytes from outside; tests/fuzz/README.md says how.

Nothing here imports airgap before `tests.fuzz.run` has begun to watch its branches.
"""
