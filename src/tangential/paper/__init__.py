"""Claims of arXiv 2006.08217, checked on small problems: its lemmas (`theory`) and its toy problems (`toys`).

Both use the optimizers, the blocks and the telemetry of this package as a user would. Neither imports the experiments:
what needs a data set, a net of some size or a run folder belongs there.
"""
