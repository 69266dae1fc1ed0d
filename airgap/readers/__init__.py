"""What is inside the files that travel: read in part, never imported, never extracted, never run."""
