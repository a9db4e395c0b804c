"""PyTorch: Appended, what the host knows to wait in a stage."""


class Appended:
    """What the host has appended to a stage since it was drained, but for what graphs append.

    ``in_all``, ``in_pass``: batches, rows, and rows that find no room; of these, those of the last
    pass, which has the ``time``.
    """

    def __init__(self) -> None:
        self.in_all, self.in_pass, self.time = [0, 0, 0], [0, 0, 0], 0

    def add(self, rows: int, time: int, capacity: int) -> None:
        """Add a batch of a pass, whole or not at all."""
        if time != self.time:
            self.in_pass, self.time = [0, 0, 0], time
        fits = self.in_all[1] + rows <= capacity
        for numbers in (self.in_all, self.in_pass):
            numbers[0] += fits
            numbers[1 if fits else 2] += rows

    def take_back(self) -> None:
        """Forget the last pass."""
        self.in_all = [all - last for all, last in zip(self.in_all, self.in_pass, strict=True)]
        self.in_pass = [0, 0, 0]
