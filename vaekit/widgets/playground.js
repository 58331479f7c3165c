// The playground: members on a plane, and two of them, A and B, side by side. Everything it shows of a member is in the
// state, in weights beside it, or, where a kernel answers, asked for at the first touch.

const MARKS = [
    "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0", "M-4-4h8v8h-8z", "M0-6l5.5 9.5h-11z", "M0-5.8l5.8 5.8-5.8 5.8-5.8-5.8z",
    "M0 6l5.5-9.5h-11z", "M-1.7-5h3.4v3.3h3.3v3.4h-3.3v3.3h-3.4v-3.3h-3.3v-3.4h3.3z",
    "M-5-2.6l2.4-2.4 2.6 2.6 2.6-2.6 2.4 2.4-2.6 2.6 2.6 2.6-2.4 2.4-2.6-2.6-2.6 2.6-2.4-2.4 2.6-2.6z",
    "M0-5.6l5.3 3.9-2 6.2h-6.6l-2-6.2z",
];
const REST = 500; // milliseconds without a move, after which a screen reader is told
const PATIENCE = 4000; // milliseconds after which a kernel that has not answered is said to be silent
const DEAD = 0.01; // nats: a dimension of a lower rate tells nothing
const FRAMES = 7; // of a walk
const UNTRAINED = {}; // where no kernel trains
const LETTERS = ["A", "B"];
const [WIDTH, HEIGHT] = [480, 380];
const EDGE = { left: 62, right: 14, top: 12, bottom: 48 };
const across = (value, { low, high }) =>
    EDGE.left + ((value - low) / (high - low)) * (WIDTH - EDGE.left - EDGE.right);
const up = (value, { low, high }) =>
    HEIGHT - EDGE.bottom - ((value - low) / (high - low)) * (HEIGHT - EDGE.top - EDGE.bottom);

// Colours of a rising value, from low to high: in the light dark enough, in the dark light enough to be told from paper.
const RAMP = [
    [[27, 58, 143], [122, 162, 255]], [[112, 48, 160], [190, 140, 255]], [[184, 43, 122], [245, 124, 190]],
    [[212, 84, 40], [255, 146, 112]], [[158, 112, 0], [240, 194, 74]],
];
function coloured(share) {
    const at = share * (RAMP.length - 1);
    const i = Math.min(Math.floor(at), RAMP.length - 2);
    const mixed = (dark) => {
        const [from, to] = [RAMP[i][dark], RAMP[i + 1][dark]];
        return `rgb(${from.map((value, c) => Math.round(value + (at - i) * (to[c] - value))).join(" ")})`;
    };
    return `color: ${mixed(0)}; color: light-dark(${mixed(0)}, ${mixed(1)})`;
}

// An axis of the plane: a range a little wider than the values, and round numbers within.
function scale(values) {
    let [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
    const room = Math.max(0.07 * (high - low || 1), 1e-9 * Math.max(Math.abs(low), Math.abs(high)));
    [low, high] = [low - room, high + room];
    return { low, high, ticks: rounds(low, high, 5) };
}
function rounds(low, high, about) {
    const rough = (high - low) / about;
    const power = 10 ** Math.floor(Math.log10(rough));
    const apart = [1, 2, 5, 10].map((times) => times * power).find((each) => each >= rough * 0.999);
    const first = Math.ceil(low / apart);
    const count = Math.min(20, Math.floor(high / apart) - first + 1);
    return Array.from({ length: Math.max(0, count) }, (_, i) => (first + i) * apart);
}
// Numbers of a scale with as many digits as tell them apart, and no more.
function written(values) {
    for (let digits = 3; digits < 17; digits++) {
        const texts = values.map((value) => plain(value, digits));
        if (new Set(texts).size === values.length) return texts;
    }
    return values.map(String);
}
const plain = (value, digits = 4) => String(Number(value.toPrecision(digits))).replace("-", "−");
const named = (count, what) => `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;

// ---- controls of an axis: `move` is told the value that is chosen; `show` is told which is, and which there are

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
    const show = (value, there, of = "") => {
        node.setAttribute("aria-label", name + of);
        inputs.forEach((input, i) => {
            input.checked = values[i] === value;
            input.disabled = !there.includes(values[i]);
        });
    };
    return { node, show };
}

function list({ name, values, labels, groups = [] }, move) {
    const options = labels.map((label, i) => make("option", { value: i }, label));
    const select = make("select", { "aria-label": name });
    const kinds = [...new Set(groups)];
    if (kinds.length < 2) select.append(...options);
    else select.append(...kinds.map((kind) =>
        make("optgroup", { label: kind }, ...options.filter((_, i) => groups[i] === kind))));
    select.addEventListener("change", () => move(values[select.value]));
    const whole = make("span", { class: "whole", "aria-hidden": true }); // a phone cuts off what is chosen
    const show = (value, there = values, of = "") => {
        select.setAttribute("aria-label", name + of);
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
    return { node, show: (value, there, of = "") => {
        stops = there;
        input.setAttribute("aria-label", name + of);
        input.max = Math.max(0, stops.length - 1);
        input.disabled = stops.length < 2;
        show(stops.indexOf(value), labels[values.indexOf(value)]);
    } };
}

// Numbers have a slider; a few texts stand beside each other, and others are chosen from a list.
function control(axis) {
    if (axis.values.length > 2 && axis.values.every((value) => typeof value === "number")) return steps;
    return axis.labels.join("").length > 48 ? list : radios;
}

// ---- the plane

function bars(flat, x, y) {
    let d = "";
    for (let i = 0; i < flat.length; i += 4) {
        const [px, py, sx, sy] = flat.slice(i, i + 4);
        const [h, v] = [up(py, y), across(px, x)];
        if (sx) d += `M${across(px - sx, x)} ${h}H${across(px + sx, x)}`;
        if (sy) d += `M${v} ${up(py - sy, y)}V${up(py + sy, y)}`;
    }
    return d;
}
const spots = (flat, x, y) =>
    Array.from({ length: flat.length / 4 }, (_, i) => [across(flat[4 * i], x), up(flat[4 * i + 1], y)]);
const joined = (places) => (places.length > 1 ? `M${places.map((place) => place.join(" ")).join("L")}` : "");

function frame(x, y, names) {
    const [left, bottom] = [EDGE.left, HEIGHT - EDGE.bottom];
    const middle = { x: (left + WIDTH - EDGE.right) / 2, y: (EDGE.top + bottom) / 2 };
    const label = (text, x, y, how) => draw("text", { x, y, ...how }, text);
    const [across_, up_] = [written(x.ticks), written(y.ticks)];
    return [
        draw("path", { class: "frame", d: `M${left} ${EDGE.top}V${bottom}H${WIDTH - EDGE.right}` }),
        ...x.ticks.flatMap((value, i) => [
            draw("path", { class: "frame", d: `M${across(value, x)} ${bottom}v4` }),
            label(across_[i], across(value, x), bottom + 19, { "text-anchor": "middle" }),
        ]),
        ...y.ticks.flatMap((value, i) => [
            draw("path", { class: "frame", d: `M${left} ${up(value, y)}h-4` }),
            label(up_[i], left - 7, up(value, y) + 5, { "text-anchor": "end" }),
        ]),
        label(names.x, middle.x, HEIGHT - 7, { "text-anchor": "middle" }),
        label(names.y, 0, 0, { "text-anchor": "middle", transform: `translate(14 ${middle.y}) rotate(-90)` }),
    ];
}

// Lines of equal x + y from edge to edge, and how far apart their sums are.
function diagonal(x, y) {
    const sums = rounds(x.low + y.low, x.high + y.high, 8);
    const ends = sums.map((t) => [Math.max(x.low, t - y.high), Math.min(x.high, t - y.low), t]);
    const d = ends.map(([a, b, t]) => `M${across(a, x)} ${up(t - a, y)}L${across(b, x)} ${up(t - b, y)}`).join("");
    return { d, apart: sums.length > 1 ? sums[1] - sums[0] : 0 };
}

// ---- the whole

function playground(model, redraw, memory) {
    const data = model.get("data");
    const { axes, budgets, points, series, clock } = data;
    const live = data.live && Boolean(model.send); // a notebook that is opened again has no kernel to ask
    const valued = (point) => point.place.map((rank, i) => axes[i].values[rank]);
    // A point by its values; a text names itself, and what all points share is left out.
    const title = (point) => axes.map(({ name, labels, values }, i) => (values.length === 1 && axes.length > 1 ? ""
        : typeof values[point.place[i]] === "string" ? labels[point.place[i]] : `${name} ${labels[point.place[i]]}`))
        .filter(Boolean).join(", ");
    const last = (point) => point.at.at(-1);
    // Where a point is at a snapshot; undefined where it was not measured then.
    const at = (point, snapshot) =>
        (snapshot === null ? last(point) : point.at.find(([each]) => each === snapshot))?.[1];
    const drawnAt = (point, snapshot) => (at(point, snapshot) ?? []).some(Boolean);
    const state = (memory.playground ??= { active: 0, told: 0, budget: points[model.get("value")[0]]?.budget ?? 0, snapshot: null,
        tab: "Reconstruct", image: 0, from: 0, to: 1, t: 0.5, pads: [null, null] });
    const pinned = () => {
        const value = model.get("value");
        if (value.length !== 2 || !value.every((i) => points[i]))
            throw new Error(`A and B are at [${value}]; give two whole numbers from 0 to ${points.length - 1}`);
        return value.map((i) => points[i]);
    };
    // The points that A and B are at; of what a kernel may have set that is none, the first.
    const places = () => LETTERS.map((_, letter) => (points[model.get("value")[letter]] ? model.get("value")[letter] : 0));
    const put = (to) => {
        model.set("value", to);
        model.save_changes();
        redraw(); // also where it was there
    };
    const pin = (letter, point) => {
        state.told = letter;
        put(replaced(places(), letter, points.indexOf(point)));
    };

    // ---- what is known of a member: in the state, else from the kernel

    const known = new Map();
    const asked = (memory.asked = new Map()); // what is not answered yet, by its id: widget.js forgets it then
    const complete = ({ rows, decoder, codes, stored }) => !live || !stored || (rows.length && decoder && codes);
    function facts(point) {
        return known.get(point) ?? { rows: point.rows.map(([label, i]) => [data.labels[label], data.strips[i]]),
            decoder: point.decoder, codes: point.codes, why: point.why, whyNot: point.whyNot };
    }
    // Ask once for all that a kernel has of a member; `changed` is called when it comes.
    function fetched(point) {
        if (complete(point) || known.has(point)) return;
        const waiting = { ...facts(point), waiting: "Asking the kernel …" };
        known.set(point, waiting);
        const silent = setTimeout(() => {
            waiting.waiting = "The kernel has not answered yet: it is busy, or gone. Then run the cell again.";
            redraw();
        }, PATIENCE);
        const id = Math.random().toString(36);
        asked.set(id, (reply, buffers) => {
            clearTimeout(silent);
            const content = buffers?.[0];
            const buffer = content && content.buffer.slice(content.byteOffset, content.byteOffset + content.byteLength);
            known.set(point, { ...facts(point), ...reply.facts, buffer, waiting: "" });
            redraw();
        });
        model.send({ ask: "member", key: point.key, id });
    }
    const networks = new Map();
    const failures = new Map();
    // The decoder of a member, or undefined as long as its weights are on their way.
    function decoderOf(point) {
        const { decoder, buffer } = facts(point);
        if (!decoder) return undefined;
        const { hash } = decoder;
        if (failures.has(hash)) throw failures.get(hash);
        if (!networks.has(hash)) {
            networks.set(hash, undefined);
            const loaded = buffer ? Promise.resolve(buffer) : weights(hash, model);
            loaded.then((content) => networks.set(hash, network(decoder, content)))
                .catch((error) => failures.set(hash, error)).then(redraw);
        }
        return networks.get(hash);
    }

    // ---- moving

    const of = () => ` of ${LETTERS[state.active]}`;
    // Only to what the plane has: a member that was not trained to its end is nowhere on it.
    const within = (budget) => points.filter((point) => point.budget === budget && drawnAt(point, null));
    const far = (a, b) => a.place.reduce((sum, rank, i) => sum + Math.abs(rank - b.place[i]) / axes[i].values.length, 0);
    const nearest = (point, some) => some.reduce((best, one) => (far(one, point) < far(best, point) ? one : best));
    const move = (i) => (value) => {
        const point = points[places()[state.active]];
        const there = within(point.budget).filter((one) => axes[i].values[one.place[i]] === value);
        pin(state.active, nearest(point, there));
    };
    const several = axes.map(({ values }) => values.length > 1);
    const moved = axes.map((axis, i) => (several[i] ? control(axis)(axis, move(i)) : undefined));
    const letters = radios({ name: "moving", values: [0, 1], labels: LETTERS }, (letter) => {
        state.active = state.told = letter;
        redraw();
    });
    letters.node.classList.add("letters");
    const budget = list({ name: "members", values: budgets.map((_, i) => i), labels: budgets.map(({ label }) => label),
        groups: budgets.map(({ group }) => group) }, (chosen) => {
        Object.assign(state, { budget: chosen, snapshot: null });
        const there = within(chosen);
        put(places().map((i) => points.indexOf(nearest(points[i], there))));
    });
    const snapshots = () => [...new Set(within(state.budget).flatMap((point) => point.at.map(([each]) => each)))]
        .sort((a, b) => a - b);
    let stops = [];
    const time = slider(clock, { min: 0, step: 1 }, (i) => {
        state.snapshot = i === stops.length - 1 ? null : stops[i];
        redraw();
    });

    // ---- the plane

    const help = `vaekit-${Math.random().toString(36).slice(2)}`;
    const plane = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "application", tabindex: 0,
        "aria-roledescription": "plot", "aria-describedby": help, class: "plane" });
    const hint = make("p", { class: "hint", id: help },
        "Click a point, or move over the plane with the arrow keys. Shift and a click pins the other letter; Enter leaves this one where it is and moves the other.");
    const legend = make("div", { class: "legend" });
    let anchors = []; // [point, x, y] of all marks that are drawn, those in full colour first

    const others = (point) => point.budget !== state.budget && budgets[point.budget].group === budgets[state.budget].group;
    const visible = (point) => (point.budget === state.budget ? drawnAt(point, state.snapshot)
        : others(point) && drawnAt(point, null));
    const lookOf = (point) => {
        const { values } = axes[data.colourBy];
        return coloured(values.length > 1 ? point.place[data.colourBy] / (values.length - 1) : 0);
    };
    const markOf = (point) => MARKS[data.shapeBy < 0 ? 0 : point.place[data.shapeBy] % MARKS.length];

    function drawPlane([a, b]) {
        const full = within(state.budget).filter((point) => drawnAt(point, state.snapshot));
        const behind = points.filter((point) => others(point) && drawnAt(point, null));
        const ranged = [...full, ...[a, b].filter((point) => others(point))];
        const placesOf = (point, snapshot = point.budget === state.budget ? state.snapshot : null) =>
            (at(point, snapshot) ?? []).map((flat) => flat ?? []);
        const flats = ranged.flatMap((point) => placesOf(point));
        const [xs, ys] = [[], []];
        for (const flat of flats) for (let i = 0; i < flat.length; i += 4) {
            xs.push(flat[i] - flat[i + 2], flat[i] + flat[i + 2]);
            ys.push(flat[i + 1] - flat[i + 3], flat[i + 1] + flat[i + 3]);
        }
        const [x, y] = [scale(xs), scale(ys)];
        const clip = `clip-${help}`;
        const inside = draw("g", { "clip-path": `url(#${clip})` });
        const equal = data.diagonals ? diagonal(x, y) : { d: "", apart: 0 };
        inside.append(draw("path", { class: "diagonal", d: equal.d }));
        anchors = [];
        const marks = (point, kind) => {
            const group = draw("g", { class: `member ${kind}${point.faint ? " faint" : ""}`, style: lookOf(point) });
            group.append(draw("title", {}, `${title(point)}${point.faint ? ` (${point.faint})` : ""}`));
            placesOf(point).forEach((flat, s) => {
                const places = spots(flat, x, y);
                if (places.length > 1) {
                    group.append(draw("path", { class: "reach", d: joined(places) }),
                        draw("path", { class: "line", d: joined(places) }));
                }
                if (kind === "full") group.append(draw("path", { class: "bars", d: bars(flat, x, y) }));
                for (const [px, py] of places) {
                    const small = places.length > 1 ? " scale(0.7)" : "";
                    const mark = { class: s ? "spot hollow" : "spot", d: markOf(point) };
                    group.append(draw("path", { ...mark, transform: `translate(${px} ${py})${small}` }));
                    anchors.push([point, px, py, kind]);
                }
            });
            return group;
        };
        if (data.alongBy >= 0) {
            const curves = new Map();
            for (const point of full) {
                const others_ = point.place.filter((_, i) => i !== data.alongBy).join();
                curves.set(others_, [...(curves.get(others_) ?? []), point]);
            }
            const d = [...curves.values()].flatMap((along) => series.map((_, s) => joined(
                [...along].sort((one, other) => one.place[data.alongBy] - other.place[data.alongBy])
                    .flatMap((point) => spots(placesOf(point)[s] ?? [], x, y))))).join("");
            inside.append(draw("path", { class: "along", d }));
        }
        const front = full.map((point) => marks(point, "full"));
        const back = behind.map((point) => marks(point, "other"));
        inside.append(...back, ...front);
        // A and B stand apart from each other where they are one point.
        const same = a === b;
        const rings = [a, b].flatMap((point, letter) => {
            const shown = point.budget === state.budget || others(point);
            const places = shown ? placesOf(point).flatMap((flat) => spots(flat, x, y)) : [];
            if (!places.length) return [];
            const [px, py] = places.length > 4 ? places.at(-1) : places[0];
            const active = letter === state.active ? " active" : "";
            const ring = places.length > 4 ? draw("path", { class: `pin${active} lined`, d: joined(places) })
                : draw("g", {}, ...places.map(([u, v]) => draw("circle", { class: `pin${active}`, cx: u, cy: v, r: 10 })));
            const [dx, dy] = letter ? [13, same ? 17 : -9] : [13, -9];
            const left = px > WIDTH - 40;
            const words = { x: px + (left ? -dx : dx), y: Math.max(14, py + dy), "text-anchor": left ? "end" : "start" };
            return [ring, draw("text", { class: `letter${active}`, ...words }, LETTERS[letter])];
        });
        const box = { x: EDGE.left - 6, y: EDGE.top - 10, width: WIDTH - EDGE.left - EDGE.right + 14,
            height: HEIGHT - EDGE.top - EDGE.bottom + 16 };
        plane.replaceChildren(
            draw("defs", {}, draw("clipPath", { id: clip }, draw("rect", box))),
            ...frame(x, y, data), inside, ...rings,
        );
        drawLegend(full, behind, equal);
        const near = (point) => placesOf(point).map((flat, s) => (flat.length === 4
            ? `${series[s]} at ${plain(flat[0])}, ${plain(flat[1])}` : "")).filter(Boolean).join("; ");
        const words = [a, b].map((point, letter) => `${LETTERS[letter]} is ${title(point)}${near(point) && `: ${near(point)}`}`);
        const when = state.snapshot === null ? "" : ` after ${plain(state.snapshot)} ${clock}`;
        plane.setAttribute("aria-label",
            `Plot of ${data.y} over ${data.x}: ${named(full.length, "member")}${when}. ${words.join(". ")}.`);
    }

    function drawLegend(full, behind, equal) {
        const entry = (name, d, how, look = "") => {
            const icon = draw("svg", { viewBox: "-7 -7 14 14", "aria-hidden": true, style: look }, draw("path", { ...how, d }));
            return make("span", {}, icon, name);
        };
        const { name, labels, values } = axes[data.colourBy];
        const there = [...new Set(full.map((point) => point.place[data.colourBy]))].sort((one, other) => one - other);
        const share = (rank) => coloured(values.length > 1 ? rank / (values.length - 1) : 0);
        const few = there.length > 8 ? [there[0], there[there.length >> 2], there[there.length >> 1],
            there[(3 * there.length) >> 2], there.at(-1)] : there;
        const chips = few.map((rank) => entry(labels[rank], "M-5-5h10v10h-10z", { class: "spot" }, share(rank)));
        const kinds = data.shapeBy < 0 || data.shapeBy === data.colourBy ? []
            : [...new Set(full.map((point) => point.place[data.shapeBy]))].sort((one, other) => one - other);
        const shapes = kinds.length < 2 ? [] : kinds.map((rank) => entry(axes[data.shapeBy].labels[rank], MARKS[rank % MARKS.length], { class: "spot" }));
        const looks = series.length > 1 ? series.map((text, s) =>
            entry(text, MARKS[0], { class: s ? "spot hollow" : "spot" })) : [];
        const rest = [];
        if (behind.length) rest.push(entry("other budgets, faint", MARKS[0], { class: "spot other" }));
        const reasons = [...new Set(full.map(({ faint }) => faint).filter(Boolean))];
        if (reasons.length) rest.push(make("span", { class: "undertrained" }, `pale: undertrained, ${reasons[0]}`));
        if (equal.apart) rest.push(entry(`equal ${data.diagonals}, ${plain(equal.apart)} apart`, "M-6-6L6 6", { class: "diagonal" }));
        const line = (what, entries) => (entries.length
            ? [make("div", {}, make("span", { class: "what" }, what), ...entries)] : []);
        legend.replaceChildren(...line(name, chips), ...line(data.shapeBy < 0 ? "" : axes[data.shapeBy].name, shapes),
            ...line("", [...looks, ...rest]));
    }

    const onPlane = (event) => {
        const box = plane.getBoundingClientRect();
        return [((event.clientX - box.left) / box.width) * WIDTH, ((event.clientY - box.top) / box.height) * HEIGHT];
    };
    plane.addEventListener("click", (event) => {
        const [x, y] = onPlane(event);
        let [best, least] = [undefined, 34]; // a finger's half, in the plane's own units
        for (const [point, px, py, kind] of anchors) {
            const distance = Math.hypot(px - x, py - y) + (kind === "full" ? 0 : 8);
            if (distance < least) [best, least] = [point, distance];
        }
        if (best) pin(event.shiftKey ? 1 - state.active : state.active, best);
    });
    const TOWARDS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    plane.addEventListener("keydown", (event) => {
        if (event.ctrlKey || event.altKey || event.metaKey) return;
        const here = points[places()[state.active]];
        if (event.key === "Enter" || event.key === " ") {
            event.preventDefault();
            state.active = 1 - state.active; // `told` stays: it is what was pinned
            return redraw();
        }
        const towards = TOWARDS[event.key];
        if (!towards) return;
        event.preventDefault();
        // A line stands where the middle of its places is.
        const middles = new Map();
        for (const [point, px, py, kind] of anchors) {
            if (kind !== "full") continue;
            const sum = middles.get(point) ?? [0, 0, 0];
            middles.set(point, [sum[0] + px, sum[1] + py, sum[2] + 1]);
        }
        const centre = ([x, y, count]) => [x / count, y / count];
        const start = middles.has(here) ? centre(middles.get(here)) : [WIDTH / 2, HEIGHT / 2];
        let [best, least] = [undefined, Infinity];
        if (towards[0] && (at(here, state.snapshot) ?? []).some((flat) => flat?.length > 4)) {
            // Lines lie above each other: sideways is along their axes.
            const apart = (one, other) => one.place.reduce((order, rank, i) => order || rank - other.place[i], 0);
            const row = [...middles.keys()].sort(apart);
            best = row[row.indexOf(here) + towards[0]];
            middles.clear();
        }
        for (const [point, sum] of middles) {
            if (point === here) continue;
            const [x, y] = centre(sum);
            const along = (x - start[0]) * towards[0] + (y - start[1]) * towards[1];
            const aside = Math.abs((x - start[0]) * towards[1]) + Math.abs((y - start[1]) * towards[0]);
            if (along > 0.5 && along + 2 * aside < least) [best, least] = [point, along + 2 * aside];
        }
        if (best) pin(state.active, best);
    });

    // ---- A and B

    const heads = LETTERS.map(() => make("div", { class: "head" }));
    const board = make("div", { class: "board" });
    const numbersOf = make("table", { class: "numbers" });
    const TABS = {
        Reconstruct: { can: (known_) => known_.rows.some(([label]) => !/^sample/i.test(label)), draw: reconstructed },
        Sample: { can: (known_) => known_.decoder || known_.rows.some(([label]) => /^sample/i.test(label)), draw: sampled },
        Traverse: { can: (known_) => known_.decoder, draw: traversed },
        Walk: { can: (known_) => known_.decoder && known_.codes, draw: walked },
    };
    const WANTS = { Reconstruct: "pictures", Sample: "samples", Traverse: "decoder", Walk: "decoder with codes" };
    const tabs = Object.keys(TABS).map((name) => {
        const tab = make("button", { type: "button", role: "tab", id: `${help}-${name}`, "aria-controls": `${help}-panel` }, name);
        tab.addEventListener("click", () => {
            state.tab = name;
            redraw();
        });
        return tab;
    });
    const bar = make("div", { class: "tabs", role: "tablist", "aria-label": "Of A and B" }, ...tabs);
    bar.addEventListener("keydown", (event) => {
        const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!by) return;
        event.preventDefault();
        const i = (tabs.findIndex((tab) => tab.ariaSelected === "true") + by + tabs.length) % tabs.length;
        tabs[i].click();
        tabs[i].focus();
    });
    const shared = make("div", { class: "shared" });
    const panel = make("div", { class: "panel", role: "tabpanel", id: `${help}-panel` }, shared, board);

    // A row of pictures in two halves, so that each is large enough to look at.
    function strips(rows, letter) {
        const half = Math.ceil(rows[0][1].columns / 2);
        const parts = rows[0][1].columns > 4 ? [0, 1] : [0];
        return parts.map((part) => make("div", { class: "strips" }, ...rows.flatMap(([label, strip]) => {
            const alt = `${label} of ${LETTERS[letter]}, ${part ? "the other half" : "from the left"}`;
            const image = make("img", { src: strip.src, alt: parts.length > 1 ? alt : `${label} of ${LETTERS[letter]}` });
            const shown = parts.length > 1 ? half : strip.columns;
            image.style.width = `${(100 * strip.columns) / shown}%`;
            image.style.marginLeft = part ? "-100%" : "0";
            const window_ = make("div", { class: "strip" }, image);
            window_.style.maxWidth = `${2 * shown * (strip.width + 1)}px`;
            window_.style.aspectRatio = `${shown * (strip.width + 1)} / ${strip.height}`;
            return part ? [window_] : [make("span", { class: "naming" }, label), window_];
        })));
    }

    function reconstructed(point, letter) {
        return strips(facts(point).rows.filter(([label]) => !/^sample/i.test(label)), letter);
    }

    // What a decoder makes of a code, on a canvas.
    function painted(net, code, words, how) {
        const [, height, width] = net.shape;
        const canvas = make("canvas", { width, height, role: "img", "aria-label": words });
        paint(canvas, net, code, how);
        return canvas;
    }

    const COUNT = 16;
    const draws = new Map(); // the noise of the samples: the same for A and B where their codes are of one size
    function sampled(point, letter) {
        const { decoder, rows } = facts(point);
        if (!decoder) return strips(rows.filter(([label]) => /^sample/i.test(label)), letter);
        const net = decoderOf(point);
        if (!net) return ["Loading the decoder …"];
        const kind = `${net.latent}/${net.noise}`;
        if (!draws.has(kind)) draws.set(kind, Array.from({ length: COUNT }, () => ({
            code: Array.from({ length: net.latent }, normal), noise: Float32Array.from({ length: net.noise }, normal) })));
        const made = draws.get(kind).map(({ code, noise }, i) =>
            painted(net, code, `sample ${i + 1} of ${LETTERS[letter]}`, { t: 1, noise }));
        return [make("div", { class: "samples" }, ...made)];
    }

    // The test image that a traversal starts at, or a walk's ends: its picture, where there is a row of them.
    function tests(point) {
        return facts(point).rows.find(([label]) => /^test image/i.test(label))?.[1];
    }
    function tile(strip, i) {
        const image = make("img", { src: strip.src, alt: "" });
        image.style.width = `${strip.columns * 100}%`;
        image.style.marginLeft = `${-100 * i}%`;
        const window_ = make("span", { class: "tile" }, image);
        window_.style.aspectRatio = `${strip.width + 1} / ${strip.height}`;
        return window_;
    }
    function choice(name, count, strip, chosen, choose) {
        const group = Math.random().toString(36);
        const options = Array.from({ length: count }, (_, i) => {
            const input = make("input", { type: "radio", name: group, "aria-label": `test image ${i + 1}` });
            input.checked = i === chosen;
            input.addEventListener("change", () => choose(i));
            return make("label", { class: strip ? "pictured" : "" }, input, strip ? tile(strip, i) : `${i + 1}`);
        });
        return make("div", { class: "choice", role: "radiogroup", "aria-label": name }, make("span", { "aria-hidden": true }, name),
            make("div", { class: "images" }, ...options));
    }

    const vectors = new Map(); // the code that a traversal of a member stands at
    const codeOf = (point, net) => {
        const { codes } = facts(point);
        if (!vectors.has(point)) vectors.set(point, [...(codes?.mean[state.image] ?? new Array(net.latent).fill(0))]);
        return vectors.get(point);
    };
    const ordered = (point, net) => {
        const { codes } = facts(point);
        const dims = Array.from({ length: net.latent }, (_, i) => i);
        return codes ? dims.sort((i, j) => codes.kl[j] - codes.kl[i]) : dims;
    };

    function traversed(point, letter) {
        const net = decoderOf(point);
        if (!net) return ["Loading the decoder …"];
        const { codes } = facts(point);
        const [code, dims] = [codeOf(point, net), ordered(point, net)];
        const words = () => `What the decoder of ${LETTERS[letter]} makes of z = (${code.map(decimal).join(", ")})`;
        const canvas = painted(net, code, words());
        const limit = Math.max(3, Math.ceil(Math.max(...code.map(Math.abs))));
        const again = () => {
            paint(canvas, net, code);
            canvas.setAttribute("aria-label", words());
            sliders.forEach((each, k) => each.show(code[dims[k]], decimal(code[dims[k]])));
            mark();
        };
        const sliders = dims.map((i) => {
            const made = slider(`z${i + 1}`, { min: -limit, max: limit, step: 0.1 }, (to) => {
                code[i] = to;
                again();
            });
            const dead = codes && codes.kl[i] < DEAD;
            made.node.querySelector("input").setAttribute("aria-label", `z${i + 1} of ${LETTERS[letter]}${codes
                ? `, ${plain(codes.kl[i], 2)} nats` : ""}${dead ? ", dead" : ""}`);
            made.node.title = codes ? `${plain(codes.kl[i], 2)} nats${dead ? ": dead" : ""}` : "";
            if (dead) made.node.classList.add("dead");
            return made;
        });
        // The pad: two dimensions at once, the first two of the list unless others are chosen.
        const pad = (state.pads[letter] ??= { x: 0, y: 1 });
        if (pad.x >= dims.length || pad.y >= dims.length) Object.assign(pad, { x: 0, y: Math.min(1, dims.length - 1) });
        const dot = draw("circle", { r: 6, class: "dot" });
        const square = draw("svg", { viewBox: "-104 -104 208 208", class: "pad", tabindex: 0, role: "application" },
            draw("path", { class: "frame", d: "M-100-100h200v200h-200zM-100 0h200M0-100v200" }), dot);
        const select = (which) => {
            const made = make("select", { "aria-label": `${which === "x" ? "across" : "up"} on the pad of ${LETTERS[letter]}` },
                ...dims.map((i, k) => make("option", { value: k }, `z${i + 1}`)));
            made.value = pad[which];
            made.addEventListener("change", () => {
                pad[which] = Number(made.value);
                mark();
            });
            return made;
        };
        function mark() {
            const held = (which) => Math.max(-1, Math.min(1, code[dims[pad[which]]] / limit));
            dot.setAttribute("cx", 100 * held("x"));
            dot.setAttribute("cy", -100 * held("y"));
            const [x, y] = [pad.x, pad.y].map((k) => `z${dims[k] + 1} ${decimal(code[dims[k]])}`);
            square.setAttribute("aria-label", `Pad of ${LETTERS[letter]}, arrow keys move it: across ${x}, up ${y}`);
        }
        const put = (x, y) => {
            const held = (value) => Math.round(10 * limit * Math.max(-1, Math.min(1, value))) / 10;
            code[dims[pad.x]] = held(x);
            code[dims[pad.y]] = held(y);
            again();
        };
        const drag = (event) => {
            const box = square.getBoundingClientRect();
            put((2.08 * (event.clientX - box.left)) / box.width - 1.04, 1.04 - (2.08 * (event.clientY - box.top)) / box.height);
        };
        square.addEventListener("pointerdown", (event) => {
            square.setPointerCapture(event.pointerId);
            drag(event);
        });
        square.addEventListener("pointermove", (event) => event.buttons && drag(event));
        square.addEventListener("keydown", (event) => {
            const towards = TOWARDS[event.key];
            if (!towards) return;
            event.preventDefault();
            put((code[dims[pad.x]] + towards[0] * 0.1) / limit, (code[dims[pad.y]] - towards[1] * 0.1) / limit);
        });
        const dead = codes ? dims.filter((i) => codes.kl[i] < DEAD).length : 0;
        const shown = dims.length > 12 ? Math.max(4, Math.min(8, dims.length - dead)) : dims.length;
        const rows = sliders.map(({ node }) => node);
        const rest = make("details", {}, make("summary", {}, `${named(dims.length - shown, "more dimension")}`),
            make("div", { class: "controls" }, ...rows.slice(shown)));
        again();
        const pads = make("div", { class: "padded" }, square, make("div", { class: "picks" },
            make("label", {}, "across", select("x")), make("label", {}, "up", select("y"))));
        return [make("div", { class: "pair" }, canvas, pads), make("div", { class: "controls" }, ...rows.slice(0, shown)), ...(shown < dims.length ? [rest] : []),
            make("p", { class: "below" }, codes ? `Sorted by rate; ${dead} of ${net.latent} dead (below ${DEAD} nats).`
                : "No codes are here: it starts at the prior's mean.")];
    }

    function walked(point, letter) {
        const net = decoderOf(point);
        if (!net) return ["Loading the decoder …"];
        const { codes } = facts(point);
        const count = codes.mean.length;
        const [from, to] = [codes.mean[Math.min(state.from, count - 1)], codes.mean[Math.min(state.to, count - 1)]];
        const between = (t) => from.map((value, i) => value + t * (to[i] - value));
        const canvas = painted(net, between(state.t), `${LETTERS[letter]} at t = ${state.t.toFixed(2)} of the walk`);
        canvas.classList.add("walker");
        const frames = Array.from({ length: FRAMES }, (_, k) => {
            const made = painted(net, between(k / (FRAMES - 1)), "");
            made.setAttribute("aria-hidden", true);
            made.classList.toggle("now", Math.round(state.t * (FRAMES - 1)) === k);
            made.addEventListener("click", () => {
                state.t = k / (FRAMES - 1);
                redraw();
            });
            return made;
        });
        walking[letter] = (t) => {
            paint(canvas, net, between(t));
            canvas.setAttribute("aria-label", `${LETTERS[letter]} at t = ${t.toFixed(2)} of the walk`);
            frames.forEach((made, k) => made.classList.toggle("now", Math.round(t * (FRAMES - 1)) === k));
        };
        return [canvas, make("div", { class: "frames" }, ...frames)];
    }
    let walking = [];
    const walk = slider("t", { min: 0, max: 1, step: 0.01 }, (t) => {
        state.t = t;
        walk.show(t, t.toFixed(2));
        walking.forEach((paintAt) => paintAt?.(t));
    });

    // What stands above A and B, and is of both.
    function sharedOf(pins) {
        const nets = pins.filter((point) => facts(point).decoder);
        const coded = pins.find((point) => facts(point).codes);
        if (state.tab === "Sample" && nets.length) {
            const button = make("button", { type: "button" }, "New samples");
            button.addEventListener("click", () => {
                draws.clear();
                redraw();
                shared.querySelector("button")?.focus();
            });
            return [button];
        }
        if (state.tab === "Traverse" && coded && nets.length) {
            return [choice("starts at test image", facts(coded).codes.mean.length, tests(coded), state.image, (i) => {
                state.image = i;
                vectors.clear();
                redraw();
                shared.querySelectorAll("input")[i]?.focus();
            })];
        }
        if (state.tab === "Walk" && coded) {
            const count = facts(coded).codes.mean.length;
            const ends = [["from", 0], ["to", count]].map(([which, before]) =>
                choice(`${which} test image`, count, tests(coded), state[which], (i) => {
                    state[which] = i;
                    redraw();
                    shared.querySelectorAll("input[type=radio]")[before + i]?.focus();
                }));
            walk.show(state.t, state.t.toFixed(2));
            return [...ends, make("div", { class: "controls" }, walk.node)];
        }
        return [];
    }

    function columnOf(point, letter) {
        fetched(point);
        const mine = facts(point);
        const { can, draw: drawTab } = TABS[state.tab];
        if (can(mine)) {
            try {
                return drawTab(point, letter);
            } catch (error) {
                console.error(error);
                return [make("p", { role: "alert" }, `${error}`)];
            }
        }
        if (mine.waiting) return [make("p", { class: "room" }, mine.waiting)];
        const words = [`This member has no ${WANTS[state.tab]} here.`];
        const reason = state.tab === "Reconstruct" || state.tab === "Sample" ? mine.why : mine.whyNot || "";
        if (reason) words.splice(0, 1, reason);
        const able = points.filter((one) => one !== point && visible(one) && can(facts(one)));
        if (!able.length) { // a kernel may have more of them
            const none = points.some((one) => one.stored && visible(one)) ? "" : " No other member on this plane has them here.";
            return [make("p", { class: "room" }, words[0] + none)];
        }
        const same = able.filter((one) => one.budget === point.budget);
        const one = nearest(point, same.length ? same : able);
        const where = one.budget === point.budget ? "" : `, ${budgets[one.budget].label}`;
        const button = make("button", { type: "button" }, `Pin ${title(one)}`);
        button.addEventListener("click", () => {
            pin(letter, one);
            panel.closest(".playground").querySelector(`[role=tab][aria-selected=true]`).focus();
        });
        return [make("div", { class: "room" }, make("p", {}, `${words[0]} ${named(able.length, "member")} can; the nearest is ${
            title(one)}${where}.`), button)];
    }

    function compare(pins) {
        pins.forEach((point, letter) => {
            const look = draw("svg", { viewBox: "-7 -7 14 14", "aria-hidden": true, style: lookOf(point) },
                draw("path", { class: "spot", d: markOf(point) }));
            const words = make("span", {}, title(point));
            const line = make("div", { class: "title" }, make("strong", {}, LETTERS[letter]), look, words);
            const away = point.budget === state.budget && !drawnAt(point, state.snapshot);
            const notes = [away && `not measured after ${plain(state.snapshot)} ${clock}`, ...(point.budget === state.budget ? []
                : [budgets[point.budget].label, point.faint && `undertrained: ${point.faint}`]), point.of && (point.rows.length || point.decoder || point.stored) && `shown: ${point.of}`].filter(Boolean);
            heads[letter].classList.toggle("active", letter === state.active);
            heads[letter].replaceChildren(line, make("p", { class: "below" }, notes.join("; ")));
        });
        tabs.forEach((tab) => {
            const chosen = tab.textContent === state.tab;
            tab.setAttribute("aria-selected", chosen);
            tab.setAttribute("tabindex", chosen ? 0 : -1);
        });
        panel.setAttribute("aria-labelledby", `${help}-${state.tab}`);
        walking = [];
        const columns = pins.map((point, letter) => make("div", { class: "column", role: "group", "aria-label": LETTERS[letter] },
            ...columnOf(point, letter)));
        shared.replaceChildren(...sharedOf(pins));
        board.replaceChildren(...columns);

        // Beside an earlier snapshot what is known of the end says so.
        const texts = pins.map((point) => new Map([...coordinates(point),
            ...point.numbers.map(([i, text]) => [`${earlier(point) ? "at the end: " : ""}${data.numbers[i]}`, text])]));
        const rows = [...new Set(texts.flatMap((of_) => [...of_.keys()]))];
        const cells = (name) => texts.map((of_) => make("td", {}, of_.get(name) ?? "–"));
        numbersOf.replaceChildren(
            make("thead", {}, make("tr", {}, make("td", {}), ...LETTERS.map((letter) => make("th", { scope: "col" }, letter)))),
            make("tbody", {}, ...rows.map((name) => make("tr", {}, make("th", { scope: "row" }, name), ...cells(name)))),
        );
    }

    // Whether a point stands where it was before its end: of another budget its end is shown.
    const earlier = (point) => point.budget === state.budget && state.snapshot !== null && state.snapshot !== last(point)?.[0];

    // What stands above the numbers of the end: of a line its places, of a point where it was at an earlier snapshot.
    function coordinates(point) {
        const before = earlier(point);
        const when = before ? ` after ${plain(state.snapshot)} ${clock}` : "";
        const spread = (sd, text) => (sd ? ` ± ${text(sd)}` : "");
        return (at(point, before ? state.snapshot : null) ?? []).flatMap((flat, s) => {
            if (flat?.length > 4) {
                return data.stations.map((name, i) => [`${name}${when}`,
                    `${decimal(flat[4 * i + 1])}${spread(flat[4 * i + 3], (sd) => sd.toFixed(1))}`]);
            }
            const of_ = series.length > 1 ? `, ${series[s]}` : "";
            return flat && when ? [data.y, data.x].map((name, i) =>
                [`${name}${of_}${when}`, `${plain(flat[1 - i])}${spread(flat[3 - i], (sd) => plain(sd, 2))}`]) : [];
        });
    }

    // ---- train here

    const bench = live && trainer(model, memory, () => [points[places()[state.active]], state.active]);

    // ---- what a screen reader is told, when nothing has moved for a while

    const spoken = make("p", { class: "spoken", role: "status" });
    let [resting, said] = [0, undefined];
    function speak(sentence) {
        if (sentence === said) return;
        clearTimeout(resting);
        if (said !== undefined) resting = setTimeout(() => (spoken.textContent = sentence), REST);
        said = sentence; // what is there at first is read where it stands
    }

    function show() {
        const pins = pinned();
        if (![0, 1].some((letter) => pins[letter].budget === state.budget)) {
            Object.assign(state, { budget: pins[state.active].budget, snapshot: null });
        }
        stops = snapshots();
        budget.show(state.budget, budgets.map((_, i) => i).filter((i) => within(i).length));
        letters.show(state.active, [0, 1]);
        const mine = pins[state.active];
        const there = within(mine.budget);
        moved.forEach((each, i) => each?.show(valued(mine)[i], axes[i].values.filter((_, rank) =>
            there.some((one) => one.place[i] === rank)), of()));
        const input = time.node.querySelector("input");
        input.max = Math.max(0, stops.length - 1);
        const now = state.snapshot === null ? stops.length - 1 : stops.indexOf(state.snapshot);
        time.show(now, stops.length ? `${stops[now].toLocaleString("en")}${state.snapshot === null ? " (end)" : ""}` : "–");
        time.node.hidden = stops.length < 2;
        drawPlane(pins);
        compare(pins);
        if (bench) bench.show();
        const when = state.snapshot === null ? "" : ` The plane is after ${plain(state.snapshot)} ${clock}.`;
        const sentence = (text) => text.replace(/\.?$/, ".");
        const same = pins[0] === pins[1] ? " A and B are the same member." : "";
        const moves = state.told === state.active ? "" : ` The arrow keys move ${LETTERS[state.active]} now.`;
        const ended = earlier(pins[state.told]) ? "at the end, " : "";
        const told = `${LETTERS[state.told]}${moves && " is pinned"}: ${ended}${pins[state.told].says}`;
        speak(when || same || moves ? `${sentence(told)}${when}${same}${moves}` : told);
    }

    const sliders = make("div", { class: "controls" }, ...(budgets.length > 1 ? [budget.node] : []), letters.node,
        ...moved.filter(Boolean).map(({ node }) => node), time.node);
    const left = make("div", { class: "left" }, plane, legend, hint);
    const right = make("div", { class: "right" }, make("div", { class: "heads" }, ...heads), bar, panel, numbersOf);
    const picture = make("div", { class: "stage" }, left, right); // without a box of its own
    const movers = make("div", { class: "movers" }, sliders, ...(bench ? [bench.node] : []));
    const arena = make("div", { class: "playground" }, picture, movers);
    return { parts: [arena, make("p", { class: "below" }, data.caption), spoken], picture, show, trained: bench?.show };
}

// "Train here": what a kernel trains in a thread, with its curves, until it is stopped. The kernel's state has it, so
// that it outlasts new data and every view; `memory` has what is typed, and what the kernel has not answered yet.
function trainer(model, memory, active) {
    const { trains } = model.get("data");
    const training = () => model.get("training") ?? UNTRAINED;
    const mine = (memory.trainer ??= { texts: { ...training().values }, asked: "", before: undefined });
    const fields = trains.map((name) => {
        const input = make("input", { type: "number", step: "any", "aria-label": `new ${name}` });
        input.value = mine.texts[name] ?? "";
        input.addEventListener("input", () => {
            mine.texts[name] = input.value;
            show();
        });
        return input;
    });
    const [begin, stop] = ["Train here", "Stop"].map((name) => make("button", { type: "button" }, name));
    const said = make("p", { class: "below", role: "status" });
    const plot = draw("svg", { viewBox: "0 0 320 132", class: "curve", role: "img" });
    const ready = "Trains a network like the one that is moved, with another value, in this kernel; nothing else runs.";
    // Going on is of what was stopped: of another number, or another member, another training begins.
    const again = () => training().stopped && training().key === active()[0].key
        && trains.every((name) => (mine.texts[name] ?? "") === training().values[name]);
    const asks = (what, words) => {
        Object.assign(mine, { asked: words, before: training() });
        model.send(what);
        show();
    };
    const show = () => {
        if (mine.before !== training()) mine.asked = ""; // it has answered
        const { running = false, say = "", curve = [] } = training();
        const runs = running || mine.asked;
        begin.hidden = Boolean(runs);
        stop.hidden = !runs;
        begin.textContent = again() ? "Go on" : "Train here";
        begin.disabled = !active()[0].key;
        said.textContent = mine.asked || say || ready;
        plot.toggleAttribute("hidden", !curve.length);
        if (curve.length) drawCurve(curve);
    };
    function drawCurve(curve) {
        const { step, steps, ...newest } = curve.at(-1);
        const names = Object.keys(newest);
        const lines = names.map((name, s) => {
            const values = curve.map((one) => one[name]);
            const [low, high] = [Math.min(...values), Math.max(...values)];
            const place = (one) => `${8 + (one.step / steps) * 232} ${104 - ((one[name] - low) / (high - low || 1)) * 92}`;
            return draw("g", { class: `series${s}` }, draw("path", { class: "line", d: `M${curve.map(place).join("L")}` }),
                draw("text", { x: 250, y: 34 + 36 * s }, `${name} ${plain(values.at(-1))}`));
        });
        const most = draw("text", { x: 240, y: 126, "text-anchor": "end", class: "most" }, named(steps, "step"));
        plot.replaceChildren(draw("path", { class: "frame", d: "M8 8V110H244" }), most, ...lines);
        plot.setAttribute("aria-label", `${names.join(" and ")} after ${step} of ${steps} steps, each from its least to its most`);
    }
    begin.addEventListener("click", () => {
        const [{ key }, letter] = active();
        const values = Object.fromEntries(trains.map((name) => [name, mine.texts[name] ?? ""]));
        asks({ ask: "train", key, letter, values }, "Asking the kernel …");
        stop.focus();
    });
    stop.addEventListener("click", () => asks({ ask: "stop" }, "Stopping at the next saved step …"));
    const labels = trains.map((name, i) => make("label", {}, `new ${name} `, fields[i]));
    const node = make("fieldset", { class: "bench" }, make("legend", {}, "Train here"),
        make("div", { class: "buttons" }, ...labels, begin, stop), said, plot);
    return { node, show };
}
