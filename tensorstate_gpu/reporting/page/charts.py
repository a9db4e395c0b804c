"""The charts of a page, as Vega-Lite specifications. Their data is put in by the page's script.

Each is written once, however many layers there are. The script sets the size of those with squares.
"""

import altair as alt

from tensorstate_gpu.reporting.figures.canvas import GREEN, ORANGE, PURPLE, RED, SKY

Spec = dict[str, object]
BLUE = "var(--bar)"  # that of page.css, which is lighter on a dark screen


def all_charts() -> dict[str, Spec]:
    """Return the specification of each chart by its name."""
    return {
        "efficiency": _efficiency(),
        "discovery": _discovery(),
        "ranks": _ranks(),
        "rates": _rates(),
        "rate_bins": _rate_bins(),
        "map": _firing_map(),
        "correlations": _correlations(),
        "divergences": _divergences(),
        "training": _training(),
    }


def _spec(chart: alt.Chart | alt.LayerChart | alt.FacetChart) -> Spec:
    spec: Spec = chart.properties(width="container", autosize="fit-x").to_dict()
    return spec


def _base(description: str) -> alt.Chart:
    return alt.Chart(alt.NamedData("values"), description=description)


def _efficiency() -> Spec:
    base = _base("Efficiency of each layer, its 95 % range, and its ceiling")
    axis = alt.Axis(ticks=False, domain=False, labelPadding=8)
    layer = alt.Y("name:N", sort=None, title=None, axis=axis)
    percent = alt.Scale(domain=[0, 100])
    told = ["layer:N", "efficiency:Q", "lower:Q", "upper:Q", "ceiling:Q", "quality:N"]
    bars = base.mark_bar(color=BLUE, stroke=BLUE, height={"band": 0.6}).encode(
        x=alt.X(
            "efficiency:Q",
            title="efficiency in %",
            scale=percent,
            stack=None,
            axis=alt.Axis(tickCount=5),
        ),
        y=layer,
        fillOpacity=alt.FillOpacity(
            "quality:O",
            scale=alt.Scale(
                type="ordinal", domain=["good", "rough", "bounds only"], range=[1, 0.6, 0.15]
            ),
            legend=None,
        ),
        tooltip=told,
    )
    ranges = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("lower:Q", scale=percent),
        x2="upper:Q",
        y=layer,
        strokeDash=alt.StrokeDash(
            "quality:N",
            scale=alt.Scale(
                domain=["good", "rough", "bounds only"], range=[[1, 0], [1, 0], [4, 3]]
            ),
            legend=None,
        ),
        tooltip=told,
    )
    ceilings = base.mark_point(
        shape="diamond", filled=True, color=ORANGE, size=50, opacity=1
    ).encode(x=alt.X("ceiling:Q", scale=percent), y=layer, tooltip=told)
    return _spec(alt.layer(bars, ranges, ceilings))


def _discovery() -> Spec:
    base = _base("The entropy that fewer rows of the same sample would show").encode(
        x=alt.X("rows:Q", scale=alt.Scale(type="log", base=2), title="rows", axis=_sparse()),
        tooltip=["rows:Q", alt.Tooltip("bits:Q", format=".3f")],
    )
    # Of a layer that is always in one state, 0 is at the bottom, too.
    bits = alt.Y("bits:Q", title="entropy in bits", scale=alt.Scale(domain={"unionWith": [0, 1]}))
    lines = base.mark_line(color=BLUE).encode(y=bits)
    points = base.mark_point(color=BLUE, filled=True, opacity=1).encode(y="bits:Q")
    return _spec(alt.layer(lines, points))


def _ranks() -> Spec:
    return _spec(
        _base("How often each state occurred, by its rank")
        .mark_line(color=BLUE, interpolate="step-after")
        .encode(
            x=alt.X(
                "rank:Q", scale=alt.Scale(type="log"), title="rank of the state", axis=_sparse()
            ),
            y=alt.Y(
                "times:Q", scale=alt.Scale(type="log"), title="times it occurred", axis=_sparse()
            ),
            tooltip=["rank:Q", "times:Q"],
        )
    )


def _sparse() -> alt.Axis:
    """Of a logarithmic scale, which otherwise has nine lines to each power of ten."""
    return alt.Axis(tickCount=5, labelOverlap=True, labelSeparation=6, grid=False)


def _rates() -> Spec:
    axis = alt.Axis(tickMinStep=1, tickCount=6, format="d", grid=False)
    return _spec(
        _base("The firing rate of each neuron")
        .mark_point(filled=True, size=44, opacity=0.9)
        .encode(
            x=alt.X("neuron:Q", title="neuron", axis=axis),
            y=alt.Y(
                "rate:Q",
                title="firing rate in %",
                scale=alt.Scale(domain=[0, 100]),
                axis=alt.Axis(tickCount=5),
            ),
            color=_kinds(),
            shape=alt.Shape(
                "kind:N", scale=alt.Scale(domain=_KINDS, range=["circle", "cross", "triangle-up"])
            ),
            tooltip=["neuron:Q", alt.Tooltip("rate:Q", format=".2f"), "kind:N"],
        )
    )


def _rate_bins() -> Spec:
    return _spec(
        _base("How many neurons have which firing rate")
        .mark_bar()
        .encode(
            # Without "binned", a bar is a mark at its number of neurons, and does not begin at 0.
            x=alt.X(
                "from:Q",
                bin="binned",
                title="firing rate in %",
                scale=alt.Scale(domain=[0, 100]),
                axis=alt.Axis(tickCount=5, grid=False),
            ),
            x2="to:Q",
            y=alt.Y("neurons:Q", title="neurons"),
            color=_kinds(),
            tooltip=["from:Q", "to:Q", "neurons:Q", "kind:N"],
        )
    )


_KINDS = ["changes", "never fires", "always fires"]


def _kinds() -> alt.Color:
    return alt.Color(
        "kind:N",
        scale=alt.Scale(domain=_KINDS, range=[BLUE, RED, ORANGE]),
        legend=alt.Legend(title=None, orient="top"),
    )


def _correlations() -> Spec:
    return _spec(
        _base("Which neurons fire together: their correlations")
        .mark_rect()
        .encode(
            x=alt.X("x:O", axis=None),
            y=alt.Y("y:O", axis=None),
            color=alt.Color(
                "correlation:Q",
                scale=alt.Scale(scheme="redblue", reverse=True, domain=[-1, 1]),
                legend=alt.Legend(title="correlation"),
            ),
            tooltip=["one:Q", "other:Q", alt.Tooltip("correlation:Q", format=".2f")],
        )
    )


def _firing_map() -> Spec:
    return _spec(
        _base("Where the layer fires for the first input")
        .mark_rect()
        .encode(
            x=alt.X("x:O", axis=None),
            y=alt.Y("y:O", axis=None),
            color=alt.Color(
                "share:Q",
                scale=alt.Scale(scheme="viridis", domain=[0, 100]),
                legend=alt.Legend(title="neurons, in %"),
            ),
            tooltip=["x:Q", "y:Q", alt.Tooltip("share:Q", title="in %")],
        )
    )


def _divergences() -> Spec:
    """The page's script knows the order of the labels."""
    base = _base("How much the states of each two labels differ").encode(
        x=alt.X("one:N", title=None), y=alt.Y("other:N", title=None)
    )
    told = ["one:N", "other:N", alt.Tooltip("beyond:Q", title="in bits"), "told:N"]
    squares = base.mark_rect().encode(
        color=alt.Color(
            "beyond:Q",
            scale=alt.Scale(scheme="viridis", domain=[0, 1]),
            legend=alt.Legend(title="in bits"),
        ),
        tooltip=told,
    )
    crosses = base.mark_text(text="x", color="#ffffff").transform_filter("datum.told == 'no'")
    return _spec(alt.layer(squares, crosses))


def _training() -> Spec:
    legend = alt.Legend(title=None, orient="bottom", labelLimit=150)
    return _spec(
        _base("The efficiency of layers over the steps of a training")
        .mark_line(point=True)
        .encode(
            x=alt.X("step:Q", title="step", axis=alt.Axis(tickCount=8, format=",d", grid=False)),
            y=alt.Y("efficiency:Q", title="efficiency in %"),
            color=alt.Color(
                "layer:N",
                sort=None,
                scale=alt.Scale(range=[BLUE, ORANGE, GREEN, RED, PURPLE, SKY]),
                legend=legend,
            ),
            strokeDash=alt.StrokeDash("layer:N", sort=None, legend=legend),
            tooltip=["layer:N", "step:Q", "efficiency:Q"],
        )
    )
