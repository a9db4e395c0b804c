"""One thin file per framework: each turns its framework's layers into capture points."""
