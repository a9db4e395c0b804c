"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const captions = {
    rates: "Firing rate of each neuron",
    rate_bins: "How many neurons have which firing rate",
    discovery: "Entropy that fewer rows would show",
    ranks: "How often each state occurred",
    correlations: "Which neurons fire together",
  };

  const kind = (rate) => (rate === 0 ? "never fires" : rate === 100 ? "always fires" : "changes");
  const named = (rows, ...names) =>
    rows.map((row) => Object.fromEntries(names.map((name, i) => [name, row[i]])));
  const rowsOf = {
    efficiency: () => data.efficiency,
    rates: (layer) => layer.rates.map((rate, neuron) => ({ neuron, rate, kind: kind(rate) })),
    rate_bins: (layer) => named(layer.rate_bins, "from", "to", "neurons", "kind"),
    discovery: (layer) => named(layer.discovery, "rows", "bits"),
    ranks: (layer) => named(layer.ranks, "rank", "times"),
    correlations: (layer) => {
      const bytes = Int8Array.from(atob(layer.correlations), (c) => c.charCodeAt(0));
      const size = layer.neurons.length;
      return Array.from(bytes, (value, i) => ({
        x: i % size,
        y: Math.floor(i / size),
        one: layer.neurons[i % size],
        other: layer.neurons[Math.floor(i / size)],
        correlation: value / 100,
      }));
    },
  };

  // What a chart shows, for those who hear it.
  const extremes = (rows, of) => {
    const sorted = rows.toSorted((a, b) => of(a) - of(b));
    return [sorted[0], sorted[sorted.length - 1]];
  };
  const constant = (dead, always) => `${dead} never fire, ${always} always fire`;
  const numbersOf = {
    rates: (rows) => {
      const [least, most] = extremes(rows, (row) => row.rate);
      const count = (what) => rows.filter((row) => row.kind === what).length;
      return `${rows.length} neurons, least ${least.rate} % (neuron ${least.neuron}), most ${most.rate} % (neuron ${most.neuron}); ${constant(count("never fires"), count("always fires"))}`;
    },
    rate_bins: (rows) => {
      const sum = (found) => found.reduce((total, row) => total + row.neurons, 0);
      const count = (what) => sum(rows.filter((row) => row.kind === what));
      const [, most] = extremes(rows, (row) => row.neurons);
      return `${sum(rows)} neurons, most (${most.neurons}) from ${most.from} to ${most.to} %; ${constant(count("never fires"), count("always fires"))}`;
    },
    discovery: (rows) => {
      const [last, half] = [rows[rows.length - 1], rows[rows.length - 2] ?? rows[0]];
      return `${last.bits.toFixed(3)} bits of ${last.rows} rows, of which the last half has added ${(last.bits - half.bits).toFixed(3)} bits`;
    },
    ranks: (rows) => `${rows[rows.length - 1].rank - 1} states, the most frequent one ${rows[0].times} times, the rarest ${rows[rows.length - 1].times} times`,
    correlations: (rows) => {
      const [least, most] = extremes(rows.filter((row) => row.one < row.other), (row) => row.correlation);
      const told = (row) => `neurons ${row.one} and ${row.other}, ${row.correlation}`;
      return `most together ${told(most)}; most apart ${told(least)}`;
    },
  };

  // Names of colours that page.css has, for a light or dark screen and for paper.
  const text = { labelColor: "var(--text)", titleColor: "var(--text)" };
  const config = {
    background: "transparent",
    view: { stroke: null },
    axis: { ...text, gridColor: "var(--line)", domainColor: "var(--soft)", tickColor: "var(--soft)" },
    legend: text,
    rule: { color: "var(--text)" },
    font: "system-ui, sans-serif",
  };

  const draw = (place, name, layer) => {
    const spec = structuredClone(data.charts[name]);
    const rows = rowsOf[name](layer);
    spec.datasets = { values: rows };
    if (name in captions) place.setAttribute("aria-label", `${captions[name]}: ${numbersOf[name](rows)}`);
    if (name === "efficiency") spec.height = 24 * data.efficiency.length;
    // On a phone, names would take half of the width.
    const axisY = { labelLimit: Math.min(200, place.clientWidth / 3) };
    // For a screen reader, Vega makes a document of hundreds of marks of the element that it draws in.
    const drawing = document.createElement("div");
    drawing.setAttribute("aria-hidden", "true");
    place.replaceChildren(drawing);
    return vegaEmbed(drawing, spec, { actions: false, renderer: "svg", config: { ...config, axisY } });
  };

  const drawLayer = async (details) => {
    const layer = data.layers[Number(details.dataset.layer)];
    const charts = details.querySelector(".charts");
    charts.replaceChildren();
    const names = Object.keys(captions).filter((name) => name in layer);
    // All places first: how wide one is depends on how many there are.
    const places = names.map((name) => {
      const figure = document.createElement("figure");
      const caption = document.createElement("figcaption");
      caption.textContent = captions[name];
      const place = document.createElement("div");
      place.setAttribute("role", "img");
      figure.append(caption, place);
      charts.append(figure);
      return place;
    });
    await Promise.all(names.map((name, number) => draw(places[number], name, layer)));
    details.dataset.drawn = "yes";
  };

  const drawAll = () => {
    const drawn = [draw(document.querySelector('[data-chart="efficiency"]'), "efficiency")];
    for (const details of document.querySelectorAll("details.layer[open]")) drawn.push(drawLayer(details));
    return Promise.all(drawn);
  };

  for (const details of document.querySelectorAll("details.layer")) {
    details.addEventListener("toggle", () => {
      if (details.open && !details.dataset.drawn) drawLayer(details);
    });
  }
  // Paper has all panels. A browser prints when this returns, but runs what waits for no event first: all of drawLayer.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details.layer:not([open])")];
    for (const details of closed) {
      details.open = true;
      if (!details.dataset.drawn) drawLayer(details);
    }
  });
  addEventListener("afterprint", () => {
    for (const details of closed) details.open = false;
  });
  const openTarget = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.matches("details")) target.open = true;
  };
  addEventListener("hashchange", openTarget);

  // Numbers in cells have units and commas; a range is sorted by its beginning.
  const value = (cell) => {
    const number = parseFloat(cell.textContent.replaceAll(",", ""));
    return Number.isNaN(number) ? cell.textContent : number;
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  for (const table of document.querySelectorAll("table.sortable")) {
    table.tHead.querySelectorAll("button").forEach((button, column) => {
      button.addEventListener("click", () => {
        const heading = button.parentElement;
        const order = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
        for (const other of table.tHead.querySelectorAll("th")) other.setAttribute("aria-sort", "none");
        heading.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => sign * compare(value(a.cells[column]), value(b.cells[column])));
        table.tBodies[0].append(...rows);
      });
    });
  }

  openTarget();
  drawAll().then(() => (document.documentElement.dataset.ready = "yes"));
})();
