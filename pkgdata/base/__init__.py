"""What every room stands on: files, hashes, URLs, locks, settings, retries, progress, text."""
