"""Looking at a model from the command line: what is scale-invariant in it, and where the paper's test disagrees."""
