"""Writes the page of a report: one HTML file that opens from disk, without a network."""

from __future__ import annotations

import functools
import importlib.metadata
import math
import platform
import sys
from collections.abc import Mapping
from importlib import resources
from os import PathLike

from tensorstate_gpu._arguments import flag
from tensorstate_gpu._process.new_files import check_new, new_file
from tensorstate_gpu._version import __version__
from tensorstate_gpu.reporting.figures.canvas import shown_layers
from tensorstate_gpu.reporting.layer_report import HEADINGS, LayerReport
from tensorstate_gpu.reporting.page.chart_data import divergence_data, layer_data, training_data
from tensorstate_gpu.reporting.page.chosen_layers import chosen_layers, why_chosen
from tensorstate_gpu.reporting.page.sentences import (
    Network,
    about_layer,
    about_network,
    summary_of,
)
from tensorstate_gpu.reporting.page.short_names import with_layer_names
from tensorstate_gpu.reporting.text import rounded_percent
from tensorstate_gpu.reporting.training_table import Log

_FILES = resources.files("tensorstate_gpu.reporting.page")
_FRAMEWORKS = ("torch", "keras", "tensorflow", "jax", "numpy")


def check_page(path: str | PathLike[str], *, overwrite: bool | None = None) -> None:
    """Raise what write_page() would raise, as far as that is known before work starts.

    ``overwrite``: None if the user could not choose it.
    """
    _check_libraries()
    check_new(path, overwrite=overwrite)


def write_page(
    report: Network,
    path: str | PathLike[str],
    title: str,
    origin: Mapping[str, str],
    training: Log | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write the page of a report. Nothing is left if that fails, and an old page stays.

    Raises ImportError if a library is missing, ValueError if the file exists, unless it may be
    overwritten, OSError if it cannot be written.
    """
    check_page(path, overwrite=flag(overwrite, "overwrite"))
    page = page_of(report, title, origin, training)
    with new_file(path, overwrite=overwrite) as file:
        file.write(page.encode(errors="backslashreplace"))  # a name may have half of a character


def page_of(
    report: Network, title: str, origin: Mapping[str, str], training: Log | None = None
) -> str:
    """Return the page as HTML.

    ``origin``: what is written about where the states are from. ``training``: scalars by step.
    """
    _check_libraries()
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page: str = environment.from_string(_text("page.html")).render(
        title=title,
        **_contents(with_layer_names(report), training),
        origin=dict(origin) | _versions(),
        style=_text("page.css"),
        script=_text("page.js"),
        vega=_vega(),
    )
    return page


def _contents(report: Network, training: Log | None) -> dict[str, object]:
    """Return what a page says and draws, by the names in its template."""
    from tensorstate_gpu.reporting.page.charts import all_charts

    profiles = {profile.layer: profile for profile in report.profiles}
    layers = report.layers
    chosen = chosen_layers(layers, profiles)
    names = [layers[index].layer for index in chosen]
    shown = shown_layers(names)
    by_label = [table for table in report.by_label if table.layer in names]
    phases = training_data(training)
    return {
        "report": report,
        "summary": summary_of(report),
        "headings": HEADINGS,
        "sentences": about_network(report),
        "by_label": by_label,
        "phases": phases,
        "qualities": {layer.quality for layer in layers},
        "why_chosen": why_chosen(len(chosen), len(layers)),
        "about": {
            index: about_layer(layers[index], profiles.get(layers[index].layer)) for index in chosen
        },
        "data": {
            "charts": all_charts(),
            "efficiency": [
                {"name": shown[layers[index].layer], **_efficiency(layers[index])}
                for index in chosen
            ],
            "layers": [layer_data(profiles[name]) if name in profiles else {} for name in names],
            "labels": [divergence_data(table.divergences) for table in by_label],
            "training": phases,
        },
    }


@functools.cache
def _vega() -> str:
    """The script of the charting library. To bundle it takes a second."""
    import vl_convert

    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return script


def _check_libraries() -> None:
    try:
        import altair  # noqa: F401
        import jinja2  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"HTML pages need {error.name or 'altair'}: pip install jinja2 altair vl-convert-python"
        ) from error


def _text(name: str) -> str:
    return _FILES.joinpath(name).read_text(encoding="utf-8")


def _efficiency(layer: LayerReport) -> dict[str, object]:
    shares = {name: _percent(getattr(layer, name)) for name in _SHARES}
    return {"layer": layer.layer, "quality": layer.quality, **shares}


_SHARES = ("efficiency", "lower", "upper", "ceiling")


def _percent(share: float | None) -> float | None:
    """Return a share for a chart, which has no bar for None; JSON has no NaN."""
    return None if share is None or not math.isfinite(share) else rounded_percent(share)


def _versions() -> dict[str, str]:
    """The versions of what is installed, without importing it."""
    versions = {"tensorstate_gpu": __version__, "Python": platform.python_version()}
    for name in _FRAMEWORKS:
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        # A framework that is loaded says which build it is, such as 2.13.0+cu130.
        versions[name] = str(getattr(sys.modules.get(name), "__version__", installed))
    return versions
