"""The version; a separate module, so that internal modules can import it."""

__version__ = "0.1.0"
