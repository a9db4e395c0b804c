"""Capture points, and attaching them to models of any framework."""
