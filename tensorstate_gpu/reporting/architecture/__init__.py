"""The graph of a model, its layers coloured by what a report says of them, drawn by Graphviz."""

from tensorstate_gpu.reporting.architecture.drawing import Drawing, draw_architecture

__all__ = ["Drawing", "draw_architecture"]
