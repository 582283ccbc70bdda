"""The training system: loop, learners, dataloader, devices, schedules, telemetry, checkpoints, loggers and signals.

It trains any `Task` with any optimizer, and imports none. No recipe, no report, nothing that prints.
"""
