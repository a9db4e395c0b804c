"""Benchmarks: run by `make bench-quick`, and once on small inputs as smoke tests by `make test`."""
