"""Networks that no package has in the form that the recipes need, and the targets and parts that belong to them.

Each is a function with keyword arguments that makes an `nn.Module` with random weights, so that a recipe holds it as a
`partial` whose arguments can be overridden. A net may not import a task, a data set or an optimizer, and the names of
its parameters are part of saved checkpoints: they do not change.
"""
