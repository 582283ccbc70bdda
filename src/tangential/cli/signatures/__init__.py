"""What the commands take: a module for each, with its arguments, its help, and no library that its command needs.

`--help` reads these; torch takes seconds that it must not cost. The command itself is the function of the same name in
`tangential.cli`, which a signature imports when it is called. Defaults stand here and nowhere else.
"""
