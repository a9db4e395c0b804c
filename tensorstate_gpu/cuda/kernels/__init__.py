"""CUDA C++ sources, which are installed as they are and compiled when they are first used."""
