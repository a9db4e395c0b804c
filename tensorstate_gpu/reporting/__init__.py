"""Tables of measures: per layer, and for the network."""

from tensorstate_gpu.reporting.measures import LayerReport, Report, report

__all__ = ["LayerReport", "Report", "report"]
