"""Run folders on disk: their files, checkpoints, lock and environment.

Whatever is written to a run folder is written through this room. Nothing here trains, and reading a folder needs no
torch, but for its checkpoint.
"""
