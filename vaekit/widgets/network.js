// A trained decoder, run in the reader's browser: its weights, and the function from a code to pixels.

// The little-endian numbers of a typed array, from base64.
function numbers(Numbers, base64) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
    return new Numbers(bytes.buffer);
}

// The weights of a name, a promise of an ArrayBuffer: JupyterLab's model has them, the page holds them, or they lie in
// a file beside it. That is a classic script, since a page opened as a file may load neither a module nor by fetch; it
// calls `vaekitWeights`. All modules of a page share what was loaded.
function weights(hash, model) {
    const held = model?.get("weights")?.[hash];
    if (held) return Promise.resolve(held.buffer.slice(held.byteOffset, held.byteOffset + held.byteLength));
    const loaded = (globalThis.vaekitLoaded ??= new Map());
    if (!loaded.has(hash)) {
        loaded.set(hash, fromPage(hash));
        loaded.get(hash).catch(() => loaded.delete(hash)); // the next touch tries again
    }
    return loaded.get(hash);
}

const holderOf = (hash) => document.querySelector(`script.vaekit-weights[data-hash="${hash}"]`);

// Whether they lie in a file beside the page.
const beside = (hash, model) => !model?.get("weights")?.[hash] && Boolean(holderOf(hash)?.dataset.src);

async function fromPage(hash) {
    const holder = holderOf(hash);
    if (!holder) throw new Error(`the weights ${hash} of this decoder are not in this page`);
    if (!holder.dataset.src) return numbers(Uint8Array, holder.textContent).buffer;
    const script = Object.assign(document.createElement("script"), { src: holder.dataset.src });
    const texts = (globalThis.vaekitTexts ??= new Map());
    globalThis.vaekitWeights = (name, base64) => texts.set(name, base64);
    await new Promise((done) => {
        script.onload = script.onerror = done;
        document.head.append(script);
    });
    script.remove();
    const text = texts.get(hash);
    if (!text) throw new Error(`the weights of this decoder are not beside this page, in ${holder.dataset.src}`);
    texts.delete(hash);
    return numbers(Uint8Array, text).buffer;
}

const POINTWISE = {
    relu: ({ slope }) => (value) => (value > 0 ? value : slope * value),
    tanh: () => Math.tanh,
    sigmoid: () => (value) => 1 / (1 + Math.exp(-value)),
};
const softplus = (value) => Math.max(value, 0) + Math.log1p(Math.exp(-Math.abs(value)));

// What network.py's `packed` made, as functions. The buffer has float32 numbers first (of each linear layer the size of a
// step in each of its rows, then the bias), then the matrices in whole numbers.
function network({ latent, shape, noise, layers, floats }, buffer) {
    const rest = new Float32Array(buffer, 0, floats);
    const steps = new Int16Array(buffer, 4 * floats);

    // `t` times the noise is added to what a top-down model draws between its layers: 0 is the mean.
    function decode(code, { t = 0, noise: drawn } = {}) {
        let values = Float32Array.from(code);
        let [at, row] = [0, 0];
        for (const layer of layers) {
            if (layer.op === "linear") {
                values = linear(layer, values, steps, at, rest, row);
                at += layer.weights;
                row += 2 * layer.to[0];
            } else if (layer.op === "normal") {
                const mean = values.subarray(0, noise);
                values = t ? mean.map((mu, i) => mu + t * softplus(values[noise + i]) * drawn[i]) : mean;
            } else {
                values = values.map(POINTWISE[layer.op](layer));
            }
        }
        return values;
    }

    return { latent, shape, noise, decode };
}

// A linear layer or a convolution, also a transposed one: maps of the sizes `from` to maps of the sizes `to`, each (C, H,
// W). The matrix of each tap of the kernel, by rows, takes what lies in one place to what lies in another.
function linear({ from, to, kernel, stride, padding, transposed }, values, steps, at, rest, row) {
    const [inputs, height, width] = from;
    const [outputs, high, wide] = to;
    // Of an axis: the places that tap k takes, from where to where.
    const moves = (k, size, goal, axis) => {
        const found = [];
        for (let i = 0; i < (transposed ? size : goal); i++) {
            const j = i * stride[axis] - padding[axis] + k;
            if (j >= 0 && j < (transposed ? goal : size)) found.push(transposed ? [i, j] : [j, i]);
        }
        return found;
    };
    // The channels last, so that the innermost loop runs along both.
    const places = height * width;
    const last = new Float32Array(values.length);
    for (let c = 0, i = 0; c < inputs; c++) for (let p = 0; p < places; p++) last[p * inputs + c] = values[i++];
    const sums = new Float64Array(outputs * high * wide);
    for (let ky = 0; ky < kernel[0]; ky++) {
        const rows = moves(ky, height, high, 0);
        for (let kx = 0; kx < kernel[1]; kx++, at += inputs * outputs) {
            const columns = moves(kx, width, wide, 1);
            for (const [y, toY] of rows)
                for (const [x, toX] of columns)
                    product(steps, at, last, (y * width + x) * inputs, inputs, sums, (toY * wide + toX) * outputs, outputs);
        }
    }
    const made = new Float32Array(sums.length);
    for (let o = 0, i = 0; o < outputs; o++)
        for (let p = 0; p < high * wide; p++)
            made[i++] = sums[p * outputs + o] * rest[row + o] + rest[row + outputs + o];
    return made;
}

// Adds a matrix times a vector: four rows at once, which read the vector once.
function product(matrix, at, vector, from, inputs, sums, to, outputs) {
    let o = 0;
    for (; o + 4 <= outputs; o += 4, at += 4 * inputs) {
        const [b, c, d] = [at + inputs, at + 2 * inputs, at + 3 * inputs];
        let [s0, s1, s2, s3] = [0, 0, 0, 0];
        for (let i = 0; i < inputs; i++) {
            const value = vector[from + i];
            s0 += matrix[at + i] * value;
            s1 += matrix[b + i] * value;
            s2 += matrix[c + i] * value;
            s3 += matrix[d + i] * value;
        }
        sums[to + o] += s0;
        sums[to + o + 1] += s1;
        sums[to + o + 2] += s2;
        sums[to + o + 3] += s3;
    }
    for (; o < outputs; o++, at += inputs) {
        let sum = 0;
        for (let i = 0; i < inputs; i++) sum += matrix[at + i] * vector[from + i];
        sums[to + o] += sum;
    }
}
