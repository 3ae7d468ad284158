"""The command line: one module a command; arguments in, exit code out.

Nothing here decides anything about a model or a plan. Printing stands in `cli.show`. Heavy packages are imported
inside the command that needs them, because start-up is felt at every call.
"""
