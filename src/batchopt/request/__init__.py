"""From command-line words to checked requests: what a person asks for.

Belongs here: the schema of the config and its rules, composing with Hydra, batch arithmetic, the
messages for wrong words. Imports `record` and `errors`. No torch: a wrong request is refused in a
fraction of a second. Every folder above may import it.
"""
