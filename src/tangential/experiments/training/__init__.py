"""The training loop of every task: steps, devices, resumable data loading, schedules, telemetry and loggers."""
