"""Run folders on disk: their files, checkpoints, lock and environment. Nothing here trains."""
