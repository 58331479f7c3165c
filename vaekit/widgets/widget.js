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

// Paint what a decoder makes of a code; `how` is as `network`'s `decode` takes it.
function paint(canvas, net, code, how) {
    const [channels, height, width] = net.shape;
    const pixels = net.decode(code, how);
    if (!pixels.every(Number.isFinite)) throw new Error(`the image at z = [${code}] is not finite`);
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    for (let i = 0; i < width * height; i++) {
        // The array rounds and clips to whole numbers from 0 to 255 by itself.
        for (let c = 0; c < 3; c++) image.data[4 * i + c] = 255 * pixels[(c % channels) * width * height + i];
        image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
}

// ---- the decoder: sliders over a code, and the picture that the network makes of it

// One decimal, and no minus before zero.
const decimal = (value) => (Math.round(10 * value) / 10 + 0).toFixed(1).replace("-", "−");
const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());

function decoder(model) {
    const { network: spec, start, first, limit, caption } = model.get("data");
    const [, height, width] = spec.shape;
    let net;
    // What lies beside the page is loaded at the first touch; what the decoder makes of the start is here before.
    let touched = !beside(spec.hash, model);
    const choose = (code) => {
        touched = true;
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
    canvas.style.background = `center / 100% 100% url(data:image/png;base64,${first})`;
    const said = make("p");

    function show() {
        const code = model.get("value");
        if (code.length !== start.length || !code.every(Number.isFinite))
            throw new Error(`z is [${code}]; give ${start.length} finite numbers`);
        sliders.forEach((each, i) => each.show(code[i], decimal(code[i])));
        canvas.setAttribute("aria-label", `What the decoder makes of z = (${code.map(decimal).join(", ")})`);
        if (!net) {
            said.textContent = touched ? "The decoder is loading." : "Move a slider: the decoder loads then.";
            return touched && weights(spec.hash, model).then((buffer) => {
                net ??= network(spec, buffer);
                show();
            });
        }
        paint(canvas, net, code);
        const typical = decimal(Math.sqrt(code.length));
        said.textContent = `Length of z: ${decimal(Math.hypot(...code))} (a sample from the prior: about ${typical})`;
    }

    const controls = make("div", { class: "controls" }, ...sliders.map(({ node }) => node));
    const left = make("div", {}, controls, make("div", { class: "buttons" }, ...buttons));
    const picture = make("div", { class: "picture" }, canvas, said);
    const parts = make("div", { class: "parts" }, left, picture);
    return { parts: [parts, make("p", { class: "below" }, caption)], picture, show };
}

const KINDS = { decoder, playground };

function render({ model, el }) {
    el.classList.add("vaekit-widget", "mathjax_ignore");
    el.dataset.live = ""; // page.js takes it no second time
    // In JupyterLab, the arrow keys move what is here and fold no section. It asks the element that has the focus first,
    // and finds that a shortcut is of any such before it comes to what is around it.
    el.dataset.lmSuppressShortcuts = "true";
    el.addEventListener("focusin", ({ target }) => target.setAttribute("data-lm-suppress-shortcuts", "true"));
    el.setAttribute("role", "group");
    // What goes wrong is said in place of the picture, so that no old one stands for what is asked for now.
    const failed = make("p", { role: "alert" });
    const failure = (error) => {
        console.error(error);
        failed.textContent = String(error);
        return failed;
    };
    const memory = {}; // what outlasts new data
    let built;
    // Nothing where it stands there already.
    const settle = (shown) => (shown === failed ? built.picture : failed).replaceWith(shown);
    const show = () => {
        if (!built.show) return;
        try {
            const loading = built.show();
            settle(built.picture);
            if (loading) loading.catch((error) => settle(failure(error)));
        } catch (error) {
            settle(failure(error));
        }
    };
    const build = () => {
        el.setAttribute("aria-label", model.get("data").says);
        try {
            built = KINDS[model.get("kind")](model, show, memory);
        } catch (error) {
            built = { parts: [failure(error)] };
        }
        el.replaceChildren(...el.querySelectorAll(":scope > script"), ...built.parts);
        show();
    };
    build();
    const heard = (reply, buffers) => {
        const told = memory.asked?.get(reply.id);
        memory.asked?.delete(reply.id);
        told?.(reply, buffers);
    };
    const trained = () => built.trained?.(); // it alone: what stands beside keeps its focus
    const events = [["change:value", show], ["change:data", build], ["change:training", trained], ["msg:custom", heard]];
    for (const [event, tell] of events) model.on(event, tell);
    return () => {
        events.forEach(([event, tell]) => model.off(event, tell));
        memory.asked?.clear();
    };
}

export default { render };
