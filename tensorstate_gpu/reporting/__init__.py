"""Tables of measures, of layers and of the network."""

from tensorstate_gpu.reporting.report_table import LayerReport, Report, report

__all__ = ["LayerReport", "Report", "report"]
