"""The cases of JAX, in a process of its own: JAX warns of every fork once it is imported."""

FILES = ("transformations.py",)
PROCESSES = {"": {}}
