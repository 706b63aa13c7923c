/** The sheet of keys and the look panel (opacity, brightness, contrast, gamma). */
import { NO_ADJUSTMENT } from "./adjust";
import { element, setAttribute, setText } from "./dom";
import { icon } from "./icons";
import { KEY_SHEET } from "./keys";
import { listen } from "./lifetime";
import type { UiState } from "./ui";

export interface PanelHooks {
  change(patch: Partial<UiState>): void;
  close(): void;
}

function panel(name: string, title: string, hooks: PanelHooks, signal: AbortSignal): HTMLElement {
  const close = element("button", {
    class: "dmw-mini",
    title: "Close (Esc)",
    attributes: { type: "button", "aria-label": "Close" },
  });
  close.append(icon("close"));
  listen(close, "click", () => hooks.close(), signal);
  const head = element("div", { class: "dmw-panel-head" }, element("span", { text: title }), close);
  const attributes = { role: "dialog", "aria-label": title };
  return element("div", { class: `dmw-panel ${name}`, attributes }, head);
}

export function makeKeySheet(hooks: PanelHooks, signal: AbortSignal): HTMLElement {
  const node = panel("dmw-keys", "Mouse and keys", hooks, signal);
  const columns = element("div", { class: "dmw-keys-columns" });
  const body = element("div", { class: "dmw-keys-body", attributes: { tabindex: "0" } }, columns);
  for (const [title, lines] of KEY_SHEET) {
    const section = element("div", { class: "dmw-keys-group" });
    section.append(element("div", { class: "dmw-keys-title", text: title }));
    const list = element("dl");
    for (const [names, text] of lines) {
      const keys = element("dt");
      names.split("; ").forEach((name, i) => {
        if (i) keys.append(document.createTextNode(" "));
        keys.append(element("kbd", { text: name }));
      });
      list.append(keys, element("dd", { text }));
    }
    section.append(list);
    columns.append(section);
  }
  node.append(body);
  node.hidden = true;
  return node;
}

type Slider = "opacity" | "brightness" | "contrast" | "gamma";

const SLIDERS: { name: Slider; label: string; min: number; max: number; step: number }[] = [
  { name: "opacity", label: "Overlay opacity", min: 0, max: 1, step: 0.05 },
  { name: "brightness", label: "Brightness", min: -0.6, max: 0.6, step: 0.02 },
  { name: "contrast", label: "Contrast", min: -0.8, max: 1, step: 0.02 },
  { name: "gamma", label: "Gamma", min: 0.3, max: 3, step: 0.05 },
];

export class LookPanel {
  readonly node: HTMLElement;
  #inputs = new Map<Slider, { input: HTMLInputElement; value: HTMLElement }>();

  constructor(hooks: PanelHooks, signal: AbortSignal) {
    this.node = panel("dmw-look", "Look", hooks, signal);
    for (const { name, label, min, max, step } of SLIDERS) {
      const range = { type: "range", min: String(min), max: String(max), step: String(step) };
      const input = element("input", { attributes: { ...range, "data-look": name } });
      const value = element("span", { class: "dmw-look-value" });
      const caption = element("span", { class: "dmw-look-label" });
      caption.append(element("span", { text: label }), value);
      this.node.append(element("label", { class: "dmw-look-row" }, caption, input));
      listen(input, "input", () => hooks.change({ [name]: Number(input.value) }), signal);
      this.#inputs.set(name, { input, value });
    }
    const reset = element("button", {
      class: "dmw-button dmw-button-text",
      text: "Back to normal",
      attributes: { type: "button" },
    });
    listen(reset, "click", () => hooks.change({ ...NO_ADJUSTMENT, opacity: 0.45 }), signal);
    this.node.append(
      element("p", {
        class: "dmw-look-note",
        text: "Only what you see; the model gets the original.",
      }),
      reset,
    );
    this.node.hidden = true;
  }

  update(ui: UiState): void {
    for (const [name, { input, value }] of this.#inputs) {
      const number = ui[name];
      if (Number(input.value) !== number) input.value = String(number);
      const text =
        name === "gamma"
          ? number.toFixed(2)
          : `${number > 0 && name !== "opacity" ? "+" : ""}${Math.round(number * 100)} %`;
      setText(value, text);
      setAttribute(input, "aria-valuetext", text);
    }
  }
}
