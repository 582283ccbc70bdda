"""The step on a CUDA device: one launch per phase for the whole list of parameters, written in Triton."""
