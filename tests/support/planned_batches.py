"""Tells which batches a capture point of PyTorch packs without a plan of an earlier one."""

from tensorstate_gpu.bridges.pytorch import tensor_point


def note_unplanned(monkeypatch):
    """Return a list that gets the shape of each batch that is looked at, and not planned."""
    shapes, rows_by_input = [], tensor_point.rows_by_input

    def noted(tensor, *given):
        shapes.append(tuple(tensor.shape))
        return rows_by_input(tensor, *given)

    monkeypatch.setattr(tensor_point, "rows_by_input", noted)
    return shapes
