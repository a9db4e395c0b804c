"""ListedLayers: the names of the layers that a writer lists, in an order that stays."""

from collections.abc import Collection, Iterable

from tensorstate_gpu.store.files import Files


class ListedLayers:
    """The names of layers that a commit lists. A layer that comes back has the place that it had.

    ``names``: of the layers that the store has already, in order. ``captures``: as in a Record.
    """

    def __init__(self, names: Iterable[str], captures: Iterable[Collection[str]] = ()) -> None:
        self._capture_of: dict[str, object] = {name: each for each in captures for name in each}
        self._order = dict.fromkeys(names)  # of all that ever were among these
        self._listed = set(self._order)
        self._without_case = {each.casefold(): each for each in self._order}

    def __len__(self) -> int:
        return len(self._listed)

    def add(self, name: str) -> None:
        """List a layer in the next commit."""
        self._order[name] = None
        self._listed.add(name)

    def claim(self, name: str, capture: object) -> None:
        """List a layer. ``capture``: an object of all layers that are captured with it, or None."""
        self.add(name)
        if capture is not None:
            self._capture_of[name] = capture

    def remove(self, name: str) -> None:
        """List a layer no more, if it is. It keeps its place."""
        self._listed.discard(name)

    def forget(self, name: str) -> None:
        """List a layer no more, of which there is nothing: nor is there a place for it."""
        self.remove(name)
        self._order.pop(name, None)

    def in_order(self) -> list[str]:
        """Return all names."""
        return [name for name in self._order if name in self._listed]

    def captures(self) -> tuple[tuple[str, ...], ...]:
        """Return the names by capture, if there are several."""
        found: dict[object, list[str]] = {}
        for name in self.in_order():
            found.setdefault(self._capture_of.get(name), []).append(name)
        return tuple(map(tuple, found.values())) if len(found) > 1 else ()

    def check_folder_of(self, name: str, files: Files) -> None:
        """Raise ValueError if a layer would share its folder with one of another name."""
        alike = name.casefold()
        other = self._without_case.get(alike)
        if other not in self._listed:  # it was released, or never taken
            other = self._without_case[alike] = name
        if other != name and files.ignores_case():
            raise ValueError(
                f"the file system of {files} does not tell capital letters from small ones: "
                f"{name!r} would share a folder with {other!r}; capture one of them into another "
                "store"
            )
