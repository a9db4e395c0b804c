"""The version, for all who need it: also for modules below the package's face."""

__version__ = "0.1.0"
