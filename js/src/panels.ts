/** The sheet of keys and the look panel (opacity, brightness, contrast, gamma). */
import { NO_ADJUSTMENT } from "./adjust";
import { button, element, setAttribute, setText } from "./dom";
import { icon } from "./icons";
import { KEY_SHEET } from "./keys";
import { listen } from "./lifetime";
import { INITIAL_UI, type UiState } from "./ui";

export interface PanelHooks {
  change(patch: Partial<UiState>): void;
  close(): void;
}

function panel(name: string, title: string, hooks: PanelHooks, signal: AbortSignal): HTMLElement {
  const label = { title: "Close (Esc)", "aria-label": "Close" };
  const close = button("dmw-mini", signal, hooks.close, icon("close"), label);
  const head = element("div", "dmw-panel-head", element("span", "", title), close);
  const node = element("div", `dmw-panel ${name}`, { role: "dialog", "aria-label": title }, head);
  node.hidden = true;
  return node;
}

export function makeKeySheet(hooks: PanelHooks, signal: AbortSignal): HTMLElement {
  const node = panel("dmw-keys", "Mouse and keys", hooks, signal);
  const columns = element("div", "dmw-keys-columns");
  const body = element("div", "dmw-keys-body", { tabindex: "0" }, columns);
  for (const [title, lines] of KEY_SHEET) {
    const list = element("dl", "");
    for (const [names, text] of lines) {
      const keys = element("dt", "");
      names.split("; ").forEach((name, i) => {
        if (i) keys.append(" ");
        keys.append(element("kbd", "", name));
      });
      list.append(keys, element("dd", "", text));
    }
    columns.append(element("div", "dmw-keys-group", element("div", "dmw-keys-title", title), list));
  }
  node.append(body);
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
      const input = element("input", "", range, { "data-look": name });
      const value = element("span", "dmw-look-value");
      const caption = element("span", "dmw-look-label", element("span", "", label), value);
      this.node.append(element("label", "dmw-look-row", caption, input));
      listen(input, "input", () => hooks.change({ [name]: Number(input.value) }), signal);
      this.#inputs.set(name, { input, value });
    }
    const reset = () => hooks.change({ ...NO_ADJUSTMENT, opacity: INITIAL_UI.opacity });
    this.node.append(
      element("p", "dmw-look-note", "Only what you see; the model gets the original."),
      button("dmw-button dmw-button-text", signal, reset, "Back to normal"),
    );
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
