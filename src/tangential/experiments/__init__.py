"""The experiments' system: settings, runs, training, tasks and what people look at afterwards.

A wing of its own: nothing above it (optimizers, invariances, telemetry, paper) imports from here.
"""
