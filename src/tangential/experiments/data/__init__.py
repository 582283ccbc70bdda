"""Data sets, as frozen settings that load themselves."""
