/**
 * Light or dark, for the fallbacks of the host variables: hosts that set `--jp-*` or `--vscode-*`
 * colour the widget themselves, but some pages only have a background.
 */
import { luminance, type Rgb } from "./colour";

/** Guess from what is behind `node`; the system's preference where nothing is. */
export function detectTheme(node: HTMLElement): "light" | "dark" {
  for (let at: Element | null = node.parentElement ?? hostOf(node); at; ) {
    const parts = /rgba?\(([^)]+)\)/.exec(getComputedStyle(at).backgroundColor)?.[1];
    const [r, g, b, a = 1] = (parts ?? "").split(/[\s,/]+/).map(Number) as [...Rgb, number?];
    if (parts && a > 0.5) return luminance([r, g, b]) < 0.25 ? "dark" : "light";
    at = at.parentElement ?? hostOf(at);
  }
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

function hostOf(node: Element): Element | null {
  const root = node.getRootNode();
  return root instanceof ShadowRoot ? root.host : null;
}

/** Keep `data-theme` of `root` right until `signal` aborts. */
export function followTheme(root: HTMLElement, signal: AbortSignal): void {
  const update = () => {
    root.dataset.theme = detectTheme(root);
  };
  const media = matchMedia("(prefers-color-scheme: dark)");
  media.addEventListener("change", update, { signal });
  const observer = new MutationObserver(update);
  const options = { attributeFilter: ["class", "style", "data-jp-theme-light"] };
  observer.observe(document.documentElement, options);
  observer.observe(document.body, options);
  signal.addEventListener("abort", () => observer.disconnect(), { once: true });
  update();
  requestAnimationFrame(update); // the host may attach the element only after render()
}
