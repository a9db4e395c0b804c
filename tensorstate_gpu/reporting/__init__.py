"""Tables of measures, of layers and of the network."""

from tensorstate_gpu.reporting.label_table import LabelTable
from tensorstate_gpu.reporting.layer_report import LayerReport
from tensorstate_gpu.reporting.report_table import Report, report

__all__ = ["LabelTable", "LayerReport", "Report", "report"]
