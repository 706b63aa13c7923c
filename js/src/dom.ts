/** Building DOM nodes. Text always goes through `textContent`, never through markup. */
import { listen } from "./lifetime";

/** What an element is made with: text, children, attributes. */
export type Content = string | Node | Record<string, string>;

const FOCUSABLE = new Set(["button", "input", "select"]);

/**
 * Keep the single-key shortcuts of JupyterLab (a, b, x, d d, …) away from an element with focus.
 * It looks for the attribute before it looks at the next ancestor, and its selectors match the
 * focused element itself: on an ancestor alone the attribute comes too late.
 */
export function ownKeys(node: HTMLElement): void {
  node.dataset.lmSuppressShortcuts = "true";
}

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  classes: string,
  ...content: Content[]
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  if (classes) node.className = classes;
  for (const item of content) {
    if (typeof item === "string" || item instanceof Node) node.append(item);
    else for (const name in item) node.setAttribute(name, item[name]!);
  }
  if (FOCUSABLE.has(tag)) ownKeys(node);
  return node;
}

/** A button that runs something until `signal` aborts. */
export function button(
  classes: string,
  signal: AbortSignal,
  run: () => void,
  ...content: Content[]
): HTMLButtonElement {
  const node = element("button", classes, { type: "button" }, ...content);
  listen(node, "click", run, signal);
  return node;
}

/** Set text only when it differs: screen readers announce every write to a live region. */
export function setText(node: Node, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

/** Set or remove an attribute; null removes. */
export function setAttribute(node: Element, name: string, value: string | null): void {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** True for elements in which keys mean text or a choice, so that shortcuts must not act. */
export function takesText(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target instanceof HTMLSelectElement) return true;
  if (target instanceof HTMLTextAreaElement) return true;
  return target instanceof HTMLInputElement && !["button", "checkbox"].includes(target.type);
}
