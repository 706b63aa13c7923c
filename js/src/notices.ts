/** Messages over the picture that stay until dismissed: errors, a silent kernel, saved results. */
import { element, setText } from "./dom";
import { icon } from "./icons";
import { listen } from "./lifetime";

export interface NoticeAction {
  label: string;
  run(): void;
}

export class Notices {
  readonly node = element("div", { class: "dmw-notices" });
  #shown = new Map<string, { node: HTMLElement; text: HTMLElement; abort: AbortController }>();

  constructor(readonly signal: AbortSignal) {}

  /** Show or reword the notice called `name`. */
  show(name: string, text: string, tone: "error" | "note" = "error", action?: NoticeAction): void {
    const existing = this.#shown.get(name);
    if (existing) {
      setText(existing.text, text);
      return;
    }
    const abort = new AbortController();
    const signal = AbortSignal.any([abort.signal, this.signal]);
    const words = element("span", { class: "dmw-notice-text", text });
    const node = element("div", {
      class: "dmw-notice",
      attributes: { role: tone === "error" ? "alert" : "status", "data-tone": tone },
    });
    node.append(words);
    if (action) {
      const button = element("button", {
        class: "dmw-notice-action",
        text: action.label,
        attributes: { type: "button" },
      });
      listen(button, "click", action.run, signal);
      node.append(button);
    }
    const close = element("button", {
      class: "dmw-mini",
      title: "Dismiss",
      attributes: { type: "button", "aria-label": "Dismiss" },
    });
    close.append(icon("close"));
    listen(close, "click", () => this.hide(name), signal);
    node.append(close);
    this.node.append(node);
    this.#shown.set(name, { node, text: words, abort });
    // Old messages give way: more than three would hide the picture.
    if (this.#shown.size > 3) this.hide([...this.#shown.keys()][0]!);
  }

  has(name: string): boolean {
    return this.#shown.has(name);
  }

  hide(name: string): void {
    const notice = this.#shown.get(name);
    if (!notice) return;
    notice.abort.abort();
    notice.node.remove();
    this.#shown.delete(name);
  }
}
