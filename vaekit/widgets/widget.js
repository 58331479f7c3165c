// Things to move, in anywidget's form. JupyterLab calls `render` with its own model; page.js with a stand-in for it.
// What comes from data becomes text or an attribute: none of it is ever read as mark-up.

const element = (space) => (tag, attributes = {}, ...children) => {
    const made = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
};
const replaced = (values, i, value) => values.map((old, j) => (j === i ? value : old));
const make = element("http://www.w3.org/1999/xhtml");
const draw = element("http://www.w3.org/2000/svg");

// A slider between its name and what it stands at. `move` is told where it is moved to; `show` puts it somewhere.
function slider(name, range, move) {
    const input = make("input", { type: "range", "aria-label": name, ...range });
    const value = make("span", { class: "value", "aria-hidden": true });
    input.addEventListener("input", () => move(Number(input.value)));
    const show = (position, text) => {
        input.value = position;
        input.setAttribute("aria-valuetext", text);
        value.textContent = text;
    };
    return { node: make("div", { class: "control" }, make("span", { "aria-hidden": true }, name), input, value), show };
}

// ---- the decoder: sliders over a code, and the picture that the network makes of it

// The little-endian numbers of a typed array, from base64.
function numbers(Numbers, base64) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
    return new Numbers(bytes.buffer);
}

const FUNCTIONS = {
    relu: ({ slope }) => (value) => (value > 0 ? value : slope * value),
    tanh: () => Math.tanh,
    sigmoid: () => (value) => 1 / (1 + Math.exp(-value)),
};

// The function from a code to pixels. Of each linear layer, `weights` has the matrix by rows, in whole numbers, and
// `rest` the size of a step in each row, then the bias.
const network = (layers, weights, rest) => (code) => {
    let values = Float32Array.from(code);
    let [at, row] = [0, 0];
    for (const layer of layers) {
        if (layer.op !== "linear") {
            values = values.map(FUNCTIONS[layer.op](layer));
            continue;
        }
        const [inputs, outputs] = [values.length, new Float32Array(layer.size)];
        for (let o = 0; o < layer.size; o++, at += inputs, row++) {
            let sum = 0;
            for (let i = 0; i < inputs; i++) sum += weights[at + i] * values[i];
            outputs[o] = sum * rest[row] + rest[row + layer.size];
        }
        row += layer.size;
        values = outputs;
    }
    return values;
};

// One decimal, and no minus before zero.
const decimal = (value) => (Math.round(10 * value) / 10 + 0).toFixed(1).replace("-", "−");
const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());

function decoder(model) {
    const { shape, layers, weights, rest, start, limit } = model.get("data");
    const [colours, height, width] = shape;
    const decode = network(layers, numbers(Int16Array, weights), numbers(Float32Array, rest));
    const choose = (code) => {
        model.set("value", code);
        model.save_changes();
    };
    const sliders = start.map((_, i) =>
        slider(`z${i + 1}`, { min: -limit, max: limit, step: 0.1 }, (to) => choose(replaced(model.get("value"), i, to))),
    );
    const button = (name, code) => {
        const made = make("button", { type: "button" }, name);
        made.addEventListener("click", () => choose(code()));
        return made;
    };
    const buttons = [button("Reset", () => start), button("A sample from the prior", () => start.map(normal))];
    const canvas = make("canvas", { width, height, role: "img" });
    const context = canvas.getContext("2d");
    const said = make("p");

    function show() {
        const code = model.get("value");
        sliders.forEach((each, i) => each.show(code[i], decimal(code[i])));
        const pixels = decode(code);
        const image = context.createImageData(width, height);
        for (let i = 0; i < width * height; i++) {
            // The array rounds and clips to whole numbers from 0 to 255 by itself.
            for (let c = 0; c < 3; c++) image.data[4 * i + c] = 255 * pixels[(c % colours) * width * height + i];
            image.data[4 * i + 3] = 255;
        }
        context.putImageData(image, 0, 0);
        canvas.setAttribute("aria-label", `What the decoder makes of z = (${code.map(decimal).join(", ")})`);
        const typical = decimal(Math.sqrt(code.length));
        said.textContent = `Length of z: ${decimal(Math.hypot(...code))} (a sample from the prior: about ${typical})`;
    }

    const controls = make("div", { class: "controls" }, ...sliders.map(({ node }) => node));
    const left = make("div", {}, controls, make("div", { class: "buttons" }, ...buttons));
    return { parts: [make("div", { class: "parts" }, left, make("div", { class: "picture" }, canvas, said))], show };
}

// ---- the curve: members on a plot, and the picture and the numbers of the one chosen

const MARKS = ["M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0", "M-3.6-3.6h7.2v7.2h-7.2z", "M0-5l5 5-5 5-5-5z", "M0-5l4.6 8h-9.2z"];
const RING = "M-9 0a9 9 0 1 0 18 0a9 9 0 1 0-18 0";
const [WIDTH, HEIGHT] = [360, 270];
const EDGE = { left: 54, right: 10, top: 8, bottom: 48 };
const across = (value, { low, high }) =>
    EDGE.left + ((value - low) / (high - low)) * (WIDTH - EDGE.left - EDGE.right);
const up = (value, { low, high }) =>
    HEIGHT - EDGE.bottom - ((value - low) / (high - low)) * (HEIGHT - EDGE.top - EDGE.bottom);

function frame(x, y) {
    const [left, bottom] = [EDGE.left, HEIGHT - EDGE.bottom];
    const middle = { x: (left + WIDTH - EDGE.right) / 2, y: (EDGE.top + bottom) / 2 };
    const label = (text, x, y, how) => draw("text", { x, y, ...how }, text);
    return [
        draw("path", { class: "frame", d: `M${left} ${EDGE.top}V${bottom}H${WIDTH - EDGE.right}` }),
        ...x.ticks.flatMap(([value, text]) => [
            draw("path", { class: "frame", d: `M${across(value, x)} ${bottom}v4` }),
            label(text, across(value, x), bottom + 19, { "text-anchor": "middle" }),
        ]),
        ...y.ticks.flatMap(([value, text]) => [
            draw("path", { class: "frame", d: `M${left} ${up(value, y)}h-4` }),
            label(text, left - 7, up(value, y) + 5, { "text-anchor": "end" }),
        ]),
        label(x.label, middle.x, HEIGHT - 6, { "text-anchor": "middle" }),
        label(y.label, 0, 0, { "text-anchor": "middle", transform: `translate(14 ${middle.y}) rotate(-90)` }),
    ];
}

// Radio buttons: `move` is told the value that is chosen.
function radios({ name, values, labels }, move) {
    const group = Math.random().toString(36); // of its own, whoever else is on the page
    const inputs = values.map((value, i) => {
        const input = make("input", { type: "radio", name: group, value: i });
        input.addEventListener("change", () => move(value));
        return input;
    });
    const choices = inputs.map((input, i) => make("label", {}, input, labels[i]));
    const node = make("div", { class: "control", role: "radiogroup", "aria-label": name });
    node.append(make("span", { "aria-hidden": true }, name), make("div", { class: "choices" }, ...choices));
    return { node, show: (value) => inputs.forEach((input, i) => (input.checked = values[i] === value)) };
}

function steps({ name, values, labels }, move) {
    const { node, show } = slider(name, { min: 0, max: values.length - 1, step: 1 }, (i) => move(values[i]));
    return { node, show: (value) => show(values.indexOf(value), labels[values.indexOf(value)]) };
}

function curve(model) {
    const { axes, points, series, x, y } = model.get("data");
    const last = axes.length - 1;
    const choose = (value) => {
        model.set("value", value);
        model.save_changes();
    };
    const controls = axes.map((axis, i) =>
        (i < last ? radios : steps)(axis, (to) => choose(replaced(model.get("value"), i, to))),
    );
    const names = (place) =>
        axes.map(({ name, values, labels }, i) => `${name} ${labels[values.indexOf(place[i])]}`).join(", ");
    const plot = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
    const legend = series.map((name, s) => {
        const look = { viewBox: "-6 -6 12 12", class: `series${s}`, "aria-hidden": true };
        return make("span", {}, draw("svg", look, draw("path", { d: MARKS[s] })), name);
    });
    const found = make("div", { class: "found" });

    function show() {
        const value = model.get("value");
        controls.forEach((control, i) => control.show(value[i]));
        const shown = points.filter((point) => value.every((v, i) => i === last || point.place[i] === v));
        const chosen = shown.find((point) => point.place[last] === value[last]);

        const layers = series.map((_, s) => {
            const there = shown.filter((point) => point.series[s]);
            const at = ({ series }) => `${across(series[s][0], x)} ${up(series[s][1], y)}`;
            const marks = there.map((point) => {
                const mark = draw("path", { class: "dot", d: MARKS[s], transform: `translate(${at(point)})` });
                mark.append(draw("title", {}, names(point.place)));
                mark.addEventListener("click", () => choose(point.place));
                return mark;
            });
            const line = there.length ? [draw("path", { class: "line", d: `M${there.map(at).join("L")}` })] : [];
            const ring = { class: "ring", d: RING };
            const rings = chosen?.series[s] ? [draw("path", { ...ring, transform: `translate(${at(chosen)})` })] : [];
            return draw("g", { class: `series${s}` }, ...line, ...marks, ...rings);
        });
        plot.replaceChildren(...frame(x, y), ...layers);
        const near = (pair) => pair.map((value) => Number(value.toPrecision(4))).join(", ");
        const here = (chosen?.series ?? []).flatMap((pair, s) => (pair ? [`${series[s]} at ${near(pair)}`] : []));
        plot.setAttribute("aria-label", `${y.label} over ${x.label}. ${names(value)}: ${here.join("; ") || "no point"}`);
        found.replaceChildren(...(chosen ? shownOf(chosen) : [`There is no stored member at ${names(value)}.`]));
    }

    const graph = make("div", {}, plot, make("div", { class: "legend" }, ...legend));
    const control = make("div", { class: "controls" }, ...controls.map(({ node }) => node));
    return { parts: [control, make("div", { class: "parts" }, graph, found)], show };
}

// The picture of a point, or what stands in its place, and its numbers.
function shownOf({ picture, alt, numbers }) {
    const row = ([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value));
    const { pixelated, ...attributes } = picture ?? {};
    const image = picture ? make("img", { ...attributes, alt, class: pixelated ? "pixelated" : "" }) : make("p", {}, alt);
    return [image, make("table", {}, make("tbody", {}, ...numbers.map(row)))];
}

const KINDS = { decoder, curve };

function render({ model, el }) {
    const { says, caption } = model.get("data");
    el.classList.add("vaekit-widget", "mathjax_ignore");
    el.dataset.live = ""; // page.js takes it no second time
    el.setAttribute("role", "group");
    el.setAttribute("aria-label", says);
    const { parts, show } = KINDS[model.get("kind")](model);
    el.append(...parts, ...(caption ? [make("p", { class: "below" }, caption)] : []));
    show();
    model.on("change:value", show);
    return () => model.off("change:value", show);
}

export default { render };
