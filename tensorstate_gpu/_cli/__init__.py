"""The command ``tensorstate``."""
