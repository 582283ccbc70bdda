"""The step on a CUDA device, in Triton: one launch per phase for the whole list of parameters.

Imported when the first CUDA weight is stepped and never before; `layout`, `plan` and `launch` do without Triton.
"""
