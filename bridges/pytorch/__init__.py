"""PyTorch: capture points as forward hooks of modules."""
