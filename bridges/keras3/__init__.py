"""Keras 3 on TensorFlow, JAX and PyTorch: layers that capture, and models with them."""
