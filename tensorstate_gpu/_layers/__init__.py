"""The states of one layer: its ledger, its rows or running counts, and what is read of them."""
