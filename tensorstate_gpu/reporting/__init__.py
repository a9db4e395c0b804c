"""Tables of measures, of layers and of the network."""

from tensorstate_gpu.reporting.measures import LayerReport, Report, report

__all__ = ["LayerReport", "Report", "report"]
