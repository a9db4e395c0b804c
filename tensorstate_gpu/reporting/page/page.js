"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const captions = {
    rates: "Firing rate of each neuron",
    rate_bins: "How many neurons have which firing rate",
    map: "Where it fires for the first input",
    discovery: "Entropy that fewer rows would show",
    ranks: "How often each state occurred",
    correlations: "Which neurons fire together",
    divergences: "Which labels the states tell apart",
    training: "Efficiency over the steps of a training",
  };

  const kind = (rate) => (rate === 0 ? "never fires" : rate === 100 ? "always fires" : "changes");
  const named = (rows, ...names) =>
    rows.map((row) => Object.fromEntries(names.map((name, i) => [name, row[i]])));
  const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const signed = (bytes) => Array.from(new Int8Array(bytes.buffer));
  const rowsOf = {
    efficiency: (page) => page.efficiency,
    rates: (layer) => layer.rates.map((rate, neuron) => ({ neuron, rate, kind: kind(rate) })),
    rate_bins: (layer) => named(layer.rate_bins, "from", "to", "neurons", "kind"),
    discovery: (layer) => named(layer.discovery, "rows", "bits"),
    ranks: (layer) => named(layer.ranks, "rank", "times"),
    map: (layer) =>
      Array.from(bytesOf(layer.map), (share, i) => ({ x: (i % layer.map_width) * layer.map_step, y: Math.floor(i / layer.map_width) * layer.map_step, share })),
    divergences: ({ labels, divergences }) =>
      signed(bytesOf(divergences))
        .map((value, i) => ({
          one: labels[i % labels.length],
          other: labels[Math.floor(i / labels.length)],
          beyond: Math.max(0, value) / 100,
          told: value < 0 ? "no" : "yes",
        }))
        .filter((row) => row.one !== row.other),
    training: (phase) =>
      phase.lines.flatMap(({ layer, points }) => points.map(([step, efficiency]) => ({ layer, step, efficiency }))),
    correlations: (layer) => {
      const size = layer.neurons.length;
      return signed(bytesOf(layer.correlations)).map((value, i) => ({
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
  const counted = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
  const constant = (dead, always) => `${dead} never fire, ${always} always fire`;
  const numbersOf = {
    rates: (rows) => {
      const [least, most] = extremes(rows, (row) => row.rate);
      const count = (what) => rows.filter((row) => row.kind === what).length;
      return `${counted(rows.length, "neuron")}, least ${least.rate} % (neuron ${least.neuron}), most ${most.rate} % (neuron ${most.neuron}); ${constant(count("never fires"), count("always fires"))}`;
    },
    rate_bins: (rows) => {
      const sum = (found) => found.reduce((total, row) => total + row.neurons, 0);
      const count = (what) => sum(rows.filter((row) => row.kind === what));
      const [, most] = extremes(rows, (row) => row.neurons);
      return `${counted(sum(rows), "neuron")}, most (${most.neurons}) from ${most.from} to ${most.to} %; ${constant(count("never fires"), count("always fires"))}`;
    },
    discovery: (rows) => {
      const [last, half] = [rows[rows.length - 1], rows[rows.length - 2] ?? rows[0]];
      return `${last.bits.toFixed(3)} bits of ${counted(last.rows, "row")}, of which the last half has added ${(last.bits - half.bits).toFixed(3)} bits`;
    },
    ranks: (rows) => {
      const [often, seldom, states] = [rows[0].times, rows[rows.length - 1].times, rows[rows.length - 1].rank - 1];
      return `${counted(states, "state")}, the most frequent one ${counted(often, "time")}, the rarest ${counted(seldom, "time")}`;
    },
    map: (rows) => {
      const [least, most] = extremes(rows, (row) => row.share);
      const told = (row) => `${row.share} % (column ${row.x}, row ${row.y})`;
      return `${counted(rows.length, "square")}, least ${told(least)}, most ${told(most)}`;
    },
    divergences: (rows) => {
      const [, most] = extremes(rows, (row) => row.beyond);
      const not = rows.filter((row) => row.told === "no").length / 2;
      return `most ${most.one} and ${most.other}, ${most.beyond} bits; ${not} of ${rows.length / 2} pairs are not told apart`;
    },
    training: (rows) =>
      [...new Set(rows.map((row) => row.layer))]
        .map((layer) => {
          const own = rows.filter((row) => row.layer === layer);
          const told = (row) => `${row.efficiency} % at step ${row.step}`;
          return `${layer} from ${told(own[0])} to ${told(own[own.length - 1])}`;
        })
        .join("; "),
    correlations: (rows) => {
      const [least, most] = extremes(rows.filter((row) => row.one < row.other), (row) => row.correlation);
      const told = (row) => `neurons ${row.one} and ${row.other}, ${row.correlation}`;
      return `most together ${told(most)}; most apart ${told(least)}`;
    },
  };

  // Names of colours that page.css has, for a light or dark screen and for paper.
  const text = { labelColor: "var(--text)", titleColor: "var(--text)" };
  const sizes = { labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" };
  const config = {
    background: "transparent",
    view: { stroke: null },
    axis: { ...text, ...sizes, gridColor: "var(--line)", domainColor: "var(--soft)", tickColor: "var(--soft)" },
    legend: { ...text, ...sizes },
    rule: { color: "var(--text)" },
    font: "system-ui, sans-serif",
  };

  // Positions and pairs are squares: such a chart has a size of its own, which a narrower place shrinks as a whole.
  const drawSquares = (spec, place, columns, rows, beside = 0) => {
    const side = Math.min(Math.max(60, place.clientWidth - LEGEND - beside) / columns, 320 / rows);
    delete spec.autosize;
    spec.width = side * columns;
    spec.height = Math.max(12, side * rows);
  };
  const LEGEND = 110;

  // In their order, and upright where they are short. On a phone, squares are smaller than letters: those that would overlap are left out.
  const nameLabels = (spec, labels, labelLimit) => {
    const labelAngle = Math.max(...labels.map((label) => label.length)) > 3 ? -90 : 0;
    for (const { encoding } of spec.layer) {
      encoding.x.sort = encoding.y.sort = labels;
      encoding.x.axis = { labelAngle, labelLimit, labelOverlap: "greedy" };
      encoding.y.axis = { labelLimit, labelOverlap: "greedy" };
    }
  };

  const draw = (place, name, source) => {
    const spec = structuredClone(data.charts[name]);
    const rows = rowsOf[name](source);
    spec.datasets = { values: rows };
    if (name in captions) place.setAttribute("aria-label", `${place.getAttribute("aria-label") ?? captions[name]}: ${numbersOf[name](rows)}`);
    if (name === "efficiency") spec.height = 28 * data.efficiency.length;
    if (name === "divergences") {
      const { labels } = source;
      nameLabels(spec, labels, place.clientWidth / 3);
      drawSquares(spec, place, labels.length, labels.length, Math.min(place.clientWidth / 3, 20 + 7 * Math.max(...labels.map((label) => label.length))));
    }
    if (name === "correlations") drawSquares(spec, place, source.neurons.length, source.neurons.length);
    if (name === "training") for (const channel of ["color", "strokeDash"]) spec.encoding[channel].legend.columns = Math.max(1, Math.floor(place.clientWidth / 180));
    // What does not fit beside each other, Vega cuts off.
    if (name === "rates" || name === "rate_bins") spec.encoding.color.legend.columns = place.clientWidth < 330 ? 2 : 3;
    if (name === "map") drawSquares(spec, place, source.map_width, rows.length / source.map_width);
    // On a phone, names would take half of the width.
    const axisY = { labelLimit: Math.min(240, place.clientWidth / 3) };
    // For a screen reader, Vega makes a document of hundreds of marks of the element that it draws in.
    const drawing = document.createElement("div");
    drawing.setAttribute("aria-hidden", "true");
    place.replaceChildren(drawing);
    return vegaEmbed(drawing, spec, { actions: false, renderer: "svg", config: { ...config, axisY } });
  };

  const begun = new Set();
  const drawLayer = async (details) => {
    if (begun.has(details)) return;
    begun.add(details);
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

  // A chart outside the panels. The first is drawn at once, others when the reader comes near.
  const sourceOf = { efficiency: () => data, divergences: (i) => data.labels[i], training: (i) => data.training[i] };
  const undrawn = new Set(document.querySelectorAll("[data-chart]"));
  const drawPlace = (place) => {
    undrawn.delete(place);
    const { chart, number } = place.dataset;
    return draw(place, chart, sourceOf[chart](number));
  };
  const nearby = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting && target.matches("details")) drawLayer(target);
        else if (isIntersecting && undrawn.has(target)) drawPlace(target);
      }
    },
    { rootMargin: "50%" },
  );
  const drawFirst = () => {
    const drawn = drawPlace(document.querySelector('[data-chart="efficiency"]'));
    for (const place of [...undrawn, ...document.querySelectorAll("details.layer[open]")]) nearby.observe(place);
    return drawn;
  };

  for (const details of document.querySelectorAll("details.layer")) {
    details.addEventListener("toggle", () => {
      if (details.open) drawLayer(details);
    });
  }
  // Paper has all panels and charts. A browser prints when this returns, but runs what waits for no event first: all of drawLayer.
  let closed = [];
  addEventListener("beforeprint", () => {
    for (const place of undrawn) drawPlace(place);
    closed = [...document.querySelectorAll("details.layer:not([open])")];
    for (const details of closed) details.open = true;
    for (const details of document.querySelectorAll("details.layer")) drawLayer(details);
  });
  addEventListener("afterprint", () => {
    for (const details of closed) details.open = false;
  });
  const openTarget = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.matches("details")) target.open = true;
  };
  addEventListener("hashchange", openTarget);

  // Numbers in cells have units and commas; a range is sorted by its beginning. Layers and labels are named by th: 4.10.conv is no number, -1 is one.
  const value = (cell) => {
    const text = cell.textContent;
    const number = cell.matches("th") && !/^-?\d+$/.test(text) ? NaN : parseFloat(text.replaceAll(",", ""));
    return Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
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
  drawFirst().then(() => (document.documentElement.dataset.ready = "yes"));
})();
