"""The page that tests open in a browser: of layers and labels whose names could do harm."""

from tests.support.points import point_of_bits

HOSTILE = "<script>alert(1)</script>"
SLOW = 3_600_000  # ms: a machine may be busy with other programs
LOG = {
    step: {
        f"train/efficiency/{name}": share * step for name, share in (("a", 0.01), (HOSTILE, 0.02))
    }
    for step in (10, 20)
}
LONG = "encoder.layers.0.attention.output.dense_post_states"
PHONE = {"width": 390, "height": 844}


def captured(name, bits):
    return point_of_bits(name, bits, [f"{HOSTILE} {index % 3}" for index in range(len(bits))])


def open_layer(page, number):
    """Open the panel of a layer by the keyboard, and wait for its charts; the first is open."""
    if number > 1:
        page.locator(f"#layer-{number} summary").press("Enter")
    page.locator(f"#layer-{number} summary").scroll_into_view_if_needed()
    page.wait_for_selector(f"#layer-{number}[data-drawn=yes]")
