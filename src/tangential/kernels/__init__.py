"""Kernels: a step in one pass over memory, in C for CPUs (`c/`) and in Triton for CUDA (`cuda/`), and their plans.

Here belongs what knows addresses, strides and tiles. Parameter groups, state and the choice of a kernel do not
(`tangential.backends`); the C sources know neither Python nor torch.
"""
