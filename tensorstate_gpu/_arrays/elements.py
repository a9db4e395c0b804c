"""Number formats: their size and kind, and the meaning of a float's bits."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class ElementType:
    """A number format: ``size`` in bytes; ``kind`` float, int, uint or bool. Each exists once.

    For floats, ``largest`` is the bit pattern of the largest positive number (infinity, if the
    format has one), ``exponent`` the width of the exponent in bits, and ``bias`` the number that is
    subtracted from the exponent.
    """

    name: str
    size: int
    kind: str
    largest: int = 0
    exponent: int = 0
    bias: int = 0

    @property
    def without_negative_zero(self) -> bool:
        """True for the fnuz formats, in which the bit pattern of -0.0 is NaN."""
        return self.name.endswith("fnuz")


ELEMENT_TYPES = {
    element.name: element
    for element in (
        ElementType("float16", 2, "float", 0x7C00, 5, 15),
        ElementType("bfloat16", 2, "float", 0x7F80, 8, 127),
        ElementType("float32", 4, "float", 0x7F800000, 8, 127),
        ElementType("float64", 8, "float", 0x7FF0000000000000, 11, 1023),
        ElementType("float8_e4m3fn", 1, "float", 0x7E, 4, 7),
        ElementType("float8_e5m2", 1, "float", 0x7C, 5, 15),
        ElementType("float8_e4m3fnuz", 1, "float", 0x7F, 4, 8),
        ElementType("float8_e5m2fnuz", 1, "float", 0x7F, 5, 16),
        *(ElementType(f"int{8 * size}", size, "int") for size in (1, 2, 4, 8)),
        *(ElementType(f"uint{8 * size}", size, "uint") for size in (1, 2, 4, 8)),
        ElementType("bool", 1, "bool"),
    )
}


def accepted_types() -> str:
    """Return the names of all formats, for error messages."""
    return ", ".join(ELEMENT_TYPES)
