"""One module for each reader; `tests.fuzz.harness.Target` is what they have in common."""
