"""PyTorch: modules become capture points through forward hooks."""
