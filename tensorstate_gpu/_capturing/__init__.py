"""Capture points and the models they are attached to, whatever the framework."""
