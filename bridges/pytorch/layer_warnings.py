"""PyTorch: LayerWarnings, what is said once of layers, for all of a pass together."""

from collections.abc import Callable

Warn = Callable[[list[str]], None]  # issues a warning that names layers


class LayerWarnings:
    """What is to be said of layers, of each once, in as few warnings as there are things to say."""

    def __init__(self) -> None:
        self._said: set[tuple[Warn, str]] = set()
        self._waiting: dict[Warn, list[str]] = {}

    def note(self, warn: Warn, name: str, cause: str = "") -> None:
        """Let say() warn of a layer, unless it was said of it before. ``cause``: why."""
        if (warn, name) not in self._said:
            self._said.add((warn, name))
            self._waiting.setdefault(warn, []).append(f"{name} ({cause})" if cause else name)

    def say(self) -> None:
        """Issue the warnings that wait."""
        waiting, self._waiting = self._waiting, {}
        for warn, layers in waiting.items():
            warn(layers)
