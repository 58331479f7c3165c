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
    const { shape, layers, weights, rest, start, limit, caption } = model.get("data");
    const [channels, height, width] = shape;
    const decode = network(layers, numbers(Int16Array, weights), numbers(Float32Array, rest));
    const choose = (code) => {
        model.set("value", code);
        model.save_changes();
    };
    // Also from what is no code, which a kernel may have set.
    const moved = (i, to) => replaced(start.map((from, j) => {
        const value = model.get("value")[j];
        return Number.isFinite(value) ? value : from;
    }), i, to);
    const sliders = start.map((_, i) =>
        slider(`z${i + 1}`, { min: -limit, max: limit, step: 0.1 }, (to) => choose(moved(i, to))),
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
        if (code.length !== start.length || !code.every(Number.isFinite))
            throw new Error(`z is [${code}]; give ${start.length} finite numbers`);
        sliders.forEach((each, i) => each.show(code[i], decimal(code[i])));
        const pixels = decode(code);
        if (!pixels.every(Number.isFinite)) throw new Error(`the image at z = [${code}] is not finite`);
        const image = context.createImageData(width, height);
        for (let i = 0; i < width * height; i++) {
            // The array rounds and clips to whole numbers from 0 to 255 by itself.
            for (let c = 0; c < 3; c++) image.data[4 * i + c] = 255 * pixels[(c % channels) * width * height + i];
            image.data[4 * i + 3] = 255;
        }
        context.putImageData(image, 0, 0);
        canvas.setAttribute("aria-label", `What the decoder makes of z = (${code.map(decimal).join(", ")})`);
        const typical = decimal(Math.sqrt(code.length));
        said.textContent = `Length of z: ${decimal(Math.hypot(...code))} (a sample from the prior: about ${typical})`;
    }

    const controls = make("div", { class: "controls" }, ...sliders.map(({ node }) => node));
    const left = make("div", {}, controls, make("div", { class: "buttons" }, ...buttons));
    const picture = make("div", { class: "picture" }, canvas, said);
    const parts = make("div", { class: "parts" }, left, picture);
    return { parts: [parts, make("p", { class: "below" }, caption)], picture, show };
}

// ---- the curve: members on a plot, and the picture and the numbers of the one chosen

const MARKS = ["M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0", "M-3.6-3.6h7.2v7.2h-7.2z", "M0-5l5 5-5 5-5-5z", "M0-5l4.6 8h-9.2z"];
const BARS = "M0-5V5M-3-5h6M-3 5h6";
const REST = 500; // milliseconds without a move
const RING = "M-9 0a9 9 0 1 0 18 0a9 9 0 1 0-18 0";
const [WIDTH, HEIGHT] = [360, 270];
const EDGE = { left: 68, right: 10, top: 8, bottom: 48 };
const across = (value, { low, high }) =>
    EDGE.left + ((value - low) / (high - low)) * (WIDTH - EDGE.left - EDGE.right);
const up = (value, { low, high }) =>
    HEIGHT - EDGE.bottom - ((value - low) / (high - low)) * (HEIGHT - EDGE.top - EDGE.bottom);

function frame(x, y, names) {
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
        label(names.x, middle.x, HEIGHT - 6, { "text-anchor": "middle" }),
        label(names.y, 0, 0, { "text-anchor": "middle", transform: `translate(14 ${middle.y}) rotate(-90)` }),
    ];
}

// Of an axis: `move` is told the value that is chosen; `show` is told which is, and which of them there are.

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
    const show = (value, there) => inputs.forEach((input, i) => {
        input.checked = values[i] === value;
        input.disabled = !there.includes(values[i]);
    });
    return { node, show };
}

function list({ name, values, labels }, move) {
    const options = labels.map((label, i) => make("option", { value: i }, label));
    const select = make("select", { "aria-label": name }, ...options);
    select.addEventListener("change", () => move(values[select.value]));
    const whole = make("span", { class: "whole", "aria-hidden": true }); // a phone cuts off what is chosen
    const show = (value, there) => {
        select.value = values.indexOf(value);
        whole.textContent = labels[values.indexOf(value)];
        options.forEach((option, i) => (option.disabled = !there.includes(values[i])));
    };
    return { node: make("div", { class: "control" }, make("span", { "aria-hidden": true }, name), select, whole), show };
}

function steps({ name, values, labels }, move) {
    let stops = values;
    const { node, show } = slider(name, { min: 0, step: 1 }, (i) => move(stops[i]));
    const input = node.querySelector("input");
    return { node, show: (value, there) => {
        stops = there;
        input.max = stops.length - 1;
        show(stops.indexOf(value), labels[values.indexOf(value)]);
    } };
}

// Texts that do not fit beside each other are chosen from a list.
const long = ({ labels }) => labels.join("").length > 48;
const control = (axis, isLast) => (isLast ? steps : long(axis) ? list : radios);

// The spread of a point as bars with caps, where there is any.
function bars([px, py, sx, sy], x, y) {
    const [left, right] = [across(px - sx, x), across(px + sx, x)];
    const [bottom, top] = [up(py - sy, y), up(py + sy, y)];
    const [h, v] = [up(py, y), across(px, x)];
    return (sx ? `M${left} ${h}H${right}M${left} ${h - 3}v6M${right} ${h - 3}v6` : "")
        + (sy ? `M${v} ${bottom}V${top}M${v - 3} ${bottom}h6M${v - 3} ${top}h6` : "");
}

function curve(model) {
    const { axes, series, x: nameX, y: nameY, caption, ...packed } = model.get("data");
    const last = axes.length - 1;
    const valued = (ranks) => ranks.map((rank, i) => axes[i].values[rank]);
    const named = (numbers) => numbers.map(([name, text]) => [packed.numbers[name], text]);
    const points = packed.points.map((p) => ({ ...p, place: valued(p.place), numbers: named(p.numbers) }));
    const plots = packed.plots.map((plot) => ({ ...plot, of: valued(plot.of) }));
    // Of one axis, the values that are stored with those before it.
    const offered = (value, i) => {
        const same = points.filter(({ place }) => place.slice(0, i).every((v, j) => v === value[j]));
        const stored = new Set(same.map(({ place }) => place[i]));
        return axes[i].values.filter((v) => stored.has(v));
    };
    // The stored place that is nearest to one that is asked for; the axes before the others.
    const settled = (wanted) => axes.reduce((value, { values }, i) => {
        const off = (v) => Math.abs(values.indexOf(v) - values.indexOf(wanted[i]));
        return [...value, offered(value, i).reduce((a, b) => (off(b) < off(a) ? b : a))];
    }, []);
    const choose = (value) => {
        model.set("value", settled(value));
        model.save_changes();
    };
    const controls = axes.map((axis, i) =>
        control(axis, i === last)(axis, (to) => choose(replaced(model.get("value"), i, to))),
    );
    const names = (place) =>
        axes.map(({ name, values, labels }, i) => `${name} ${labels[values.indexOf(place[i])] ?? place[i]}`).join(", ");
    const plot = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
    const entry = (name, how, d) => {
        const look = { viewBox: "-6 -6 12 12", "aria-hidden": true };
        return make("span", {}, draw("svg", look, draw("path", { ...how, d })), name);
    };
    const legend = make("div", { class: "legend" });
    const found = make("div", { class: "found" });
    const below = make("p", { class: "below" }, caption);
    // Not the slider's own value text, which would be read at every step of a drag: the sentence comes when it rests.
    const live = make("p", { class: "spoken", role: "status" });
    let [resting, silent] = [0, true];

    function speak(sentence) {
        clearTimeout(resting);
        if (!silent) resting = setTimeout(() => (live.textContent = sentence), REST);
        silent = false; // what is there at first is read where it stands
    }

    function show() {
        const value = model.get("value");
        if (value.length !== axes.length)
            throw new Error(`the place is [${value}]; give a value for each of ${axes.map(({ name }) => name).join(", ")}`);
        controls.forEach((each, i) => each.show(value[i], offered(value, i)));
        const shown = points.filter((point) => value.every((v, i) => i === last || point.place[i] === v));
        const chosen = shown.find((point) => point.place[last] === value[last]);
        const { x, y, diagonals, legend: equal } = plots.find(({ of }) => of.every((v, i) => v === value[i])) ?? plots[0];

        const ends = ([a, b, c, d]) => `M${across(a, x)} ${up(b, y)}L${across(c, x)} ${up(d, y)}`;
        const behind = draw("path", { class: "diagonal", d: diagonals.map(ends).join("") });
        // The curves that share the plot with the chosen one, faint behind it.
        const beside = points.filter(({ place }) => value.every((v, i) => i >= last - 1 || place[i] === v));
        const around = new Map(last ? axes[last - 1].values.map((v) => [v, []]) : []);
        around.delete(value[last - 1]);
        for (const point of beside) around.get(point.place[last - 1])?.push(point);
        const others = [...around.values()].flatMap((along) => series.map((_, s) =>
            along.filter((point) => point.series[s]).map(({ series }) => `${across(series[s][0], x)} ${up(series[s][1], y)}`),
        )).filter((along) => along.length);
        const faint = draw("path", { class: "others", d: others.map((along) => `M${along.join("L")}`).join("") });
        const dots = draw("path", { class: "others dots", d: others.flat().map((at) => `M${at}h0`).join("") });
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
            const spread = there.map(({ series }) => bars(series[s], x, y)).join("");
            if (spread) line.push(draw("path", { class: "bars", d: spread }));
            const ring = { class: "ring", d: RING };
            const rings = chosen?.series[s] ? [draw("path", { ...ring, transform: `translate(${at(chosen)})` })] : [];
            return draw("g", { class: `series${s}` }, ...line, ...marks, ...rings);
        });
        plot.replaceChildren(behind, faint, dots, ...frame(x, y, { x: nameX, y: nameY }), ...layers);
        const barred = layers.some((layer) => layer.querySelector(".bars"));
        legend.replaceChildren(
            ...series.map((name, s) => entry(name, { class: `mark series${s}` }, MARKS[s])),
            ...(barred ? [entry("standard deviation over seeds", { class: "bars" }, BARS)] : []),
            ...(others.length ? [entry(`other values of ${axes[last - 1].name}`, { class: "others" }, "M-6 0H6")] : []),
            ...(equal ? [entry(equal, { class: "diagonal" }, "M-6-6L6 6")] : []),
        );

        const near = (pair) => pair.slice(0, 2).map((number) => Number(number.toPrecision(4))).join(", ");
        const here = (chosen?.series ?? []).flatMap((pair, s) => (pair ? [`${series[s]} at ${near(pair)}`] : []));
        const drawn = series.filter((_, s) => shown.some((point) => point.series[s])).join(" and ") || "no point";
        const stops = offered(value, last).map((v) => axes[last].labels[axes[last].values.indexOf(v)]).join(", ");
        const label = [
            `Plot of ${nameY} over ${nameX}: ${drawn}, a point for each ${axes[last].name} of ${stops}`,
            `Ringed is ${names(value)}: ${here.join("; ") || "no point"}`,
        ];
        plot.setAttribute("aria-label", `${label.join(". ")}.`);
        const absent = `There is no trained member at ${names(value)}.`;
        found.replaceChildren(...(chosen ? shownOf(chosen, shown.find(({ picture }) => picture)) : [absent]));
        speak(chosen?.says ?? absent);
    }

    const graph = make("div", {}, plot, legend);
    const top = make("div", { class: "controls" }, ...controls.map(({ node }) => node));
    const picture = make("div", { class: "parts" }, graph, found);
    return { parts: [top, picture, below, live], picture, show };
}

// The picture of a point with its caption, and its numbers. Where others of its curve have pictures, like this one, a
// point without has the same room for it: nothing jumps as the slider moves.
function shownOf({ picture, alt, numbers }, like) {
    const row = ([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value));
    const table = make("table", {}, make("tbody", {}, ...numbers.map(row)));
    if (!like) return [...(alt ? [make("p", {}, alt)] : []), table];
    const { pixelated, ...size } = picture ?? like.picture;
    const caption = make("p", { class: "below", "aria-hidden": true }, picture ? alt : like.alt);
    if (picture) return [make("img", { ...size, alt, class: pixelated ? "pixelated" : "" }), caption, table];
    const space = make("div");
    Object.assign(space.style, { aspectRatio: `${size.width} / ${size.height}`, maxWidth: `${size.width}px` });
    caption.style.visibility = "hidden";
    return [make("div", { class: "room" }, space, caption, make("p", {}, alt)), table];
}

const KINDS = { decoder, curve };

function render({ model, el }) {
    const { says } = model.get("data");
    el.classList.add("vaekit-widget", "mathjax_ignore");
    el.dataset.live = ""; // page.js takes it no second time
    el.setAttribute("role", "group");
    el.setAttribute("aria-label", says);
    // What goes wrong is said in place of the picture, so that no old one stands for what is asked for now.
    const failed = make("p", { role: "alert" });
    const failure = (error) => {
        console.error(error);
        failed.textContent = String(error);
        return failed;
    };
    const built = (() => {
        try {
            return KINDS[model.get("kind")](model);
        } catch (error) {
            return { parts: [failure(error)] };
        }
    })();
    el.append(...built.parts);
    if (!built.show) return;
    const show = () => {
        let shown = built.picture;
        try {
            built.show();
        } catch (error) {
            shown = failure(error);
        }
        (shown === failed ? built.picture : failed).replaceWith(shown); // nothing where it stands there already
    };
    show();
    model.on("change:value", show);
    return () => model.off("change:value", show);
}

export default { render };
