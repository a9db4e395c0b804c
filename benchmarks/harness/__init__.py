"""What benchmarks share: contenders timed in turn, their inputs, limits, rivals, and tables."""
