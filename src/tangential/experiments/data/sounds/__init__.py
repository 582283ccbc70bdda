"""Data sets of sound clips, and the decoding of audio files."""
