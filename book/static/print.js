// Paper is white: a page is printed in its light colours, whatever theme its reader has chosen.
(() => {
    const root = document.documentElement;
    let theme;
    addEventListener("beforeprint", () => { theme = root.dataset.theme; root.dataset.theme = "light"; });
    addEventListener("afterprint", () => { root.dataset.theme = theme; });
})();
