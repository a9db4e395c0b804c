"""Packed states: packing, unpacking, sorting, counting, and histograms of them."""
