// Follows widget.js in a page without a kernel: a stand-in for anywidget's model, over the JSON in each widget.
for (const el of document.querySelectorAll(".vaekit-widget:not([data-live])")) {
    const state = JSON.parse(el.querySelector("script").textContent);
    const listeners = [];
    const model = {
        get: (name) => state[name],
        set: (name, value) => {
            state[name] = value;
            for (const [event, tell] of listeners) if (event === `change:${name}`) tell();
        },
        on: (event, tell) => listeners.push([event, tell]),
        save_changes: () => {},
    };
    render({ model, el });
}
