"""How traffic moves from one version to the next: what is declared, what was seen, and what follows from both.

Pure but for `reading` (the prediction log) and `proof` (a child process); `flow.rolling` makes it so, `driver`
looks twice a second.
"""
