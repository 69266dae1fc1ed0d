"""What an auditor must answer for, read from the bytes themselves, offline: evidence, and what is wrong."""
