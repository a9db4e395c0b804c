"""Keras 3 on TensorFlow, JAX and PyTorch: capture layers, and models that contain them."""
