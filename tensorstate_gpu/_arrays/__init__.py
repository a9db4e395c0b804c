"""Arrays of any framework, borrowed without a copy; their layouts, number formats, thresholds."""
