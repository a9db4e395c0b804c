"""The command line: ``tensorstate``."""
