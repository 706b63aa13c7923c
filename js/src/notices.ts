/** Messages over the picture that stay until dismissed: errors, a silent kernel, saved results. */
import { button, element, setText } from "./dom";
import { icon } from "./icons";

export interface NoticeAction {
  label: string;
  run(): void;
}

export class Notices {
  readonly node = element("div", "dmw-notices");
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
    const words = element("span", "dmw-notice-text", text);
    const node = element("div", "dmw-notice", words, {
      role: tone === "error" ? "alert" : "status",
      "data-tone": tone,
    });
    if (action) node.append(button("dmw-notice-action", signal, action.run, action.label));
    const label = { title: "Dismiss", "aria-label": "Dismiss" };
    node.append(button("dmw-mini", signal, () => this.hide(name), icon("close"), label));
    this.node.append(node);
    this.#shown.set(name, { node, text: words, abort });
    // Old messages give way: more than three would hide the picture.
    if (this.#shown.size > 3) this.hide([...this.#shown.keys()][0]!);
  }

  hide(name: string): void {
    const notice = this.#shown.get(name);
    if (!notice) return;
    notice.abort.abort();
    notice.node.remove();
    this.#shown.delete(name);
  }
}
