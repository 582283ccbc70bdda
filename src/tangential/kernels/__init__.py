"""One pass over memory per step: what the backends of `tangential.backends` call where a kernel is at hand."""
