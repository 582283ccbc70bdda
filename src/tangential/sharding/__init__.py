"""Steps of weights that are spread over ranks (DTensors: FSDP2, HSDP, tensor parallelism, and their products).

A step depends on a weight only through a few sums per block (`tangential.algorithm`), so ranks that hold parts of a
weight never exchange entries, but sums, and only where a block or the paper's test spans several of them. Here belongs
what decides that, the messages, and the order of events; the arithmetic is that of `tangential.backends`. No gather of
a weight may enter.
"""

from tangential.sharding.dependence import Dependence, LocalBlocks, SharedSums, dependence_of
from tangential.sharding.in_use import in_use
from tangential.sharding.step import Layouts, ShardedGroup, ShardedStep

__all__ = [
    "Dependence",
    "Layouts",
    "LocalBlocks",
    "ShardedGroup",
    "ShardedStep",
    "SharedSums",
    "dependence_of",
    "in_use",
]
