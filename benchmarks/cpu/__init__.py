"""Benchmarks of the CPU's kernels and of capture, and a guard against slower kernels."""
