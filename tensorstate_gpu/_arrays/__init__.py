"""Arrays of any framework, read without a copy: their layouts, number formats and thresholds."""
