"""Verified bytes on disk; nothing here knows a network."""
