"""The states of one layer: rows or running counts, the ledger, labels, and measures."""
