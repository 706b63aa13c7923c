/** The toolbar: one roving tab stop, arrow keys inside, tooltips that name the key. */
import { button, element, setAttribute } from "./dom";
import { type IconName, icon } from "./icons";
import type { Command } from "./keys";
import { listen } from "./lifetime";

export interface ToolbarState {
  /** Commands whose button is shown pressed. */
  pressed: ReadonlySet<Command>;
  disabled: ReadonlySet<Command>;
  readOnly: boolean;
}

/** Command, icon, label, key, and marks: `t` toggles, `o` works without a kernel. */
type Item = [command: Command, icon: IconName, label: string, key: string, marks: string];

const GROUPS: [label: string, items: Item[]][] = [
  ["Instances", [["new", "plus", "New instance", "N", "t"]]],
  [
    "Tools",
    [
      ["tool-click", "point", "Object clicks", "V", "t"],
      ["tool-background", "background", "Background clicks", "G, or right click", "t"],
      ["tool-brush", "brush", "Brush", "B", "t"],
      ["tool-eraser", "eraser", "Eraser", "E", "t"],
    ],
  ],
  [
    "History",
    [
      ["undo", "undo", "Undo", "Ctrl+Z", ""],
      ["redo", "redo", "Redo", "Ctrl+Shift+Z", ""],
      ["reset", "reset", "Start over", "can be undone", ""],
    ],
  ],
  [
    "Zoom",
    [
      ["zoom-out", "zoomOut", "Zoom out", "Ctrl+wheel", "o"],
      ["fit", "fit", "Whole picture", "0", "o"],
      ["zoom-in", "zoomIn", "Zoom in", "Ctrl+wheel", "o"],
    ],
  ],
  [
    "View",
    [
      ["hide", "eye", "Hide the overlay", "H", "to"],
      ["outlines", "outline", "Outlines only", "O", "to"],
      ["heat", "heat", "Where the model is unsure", "M", "t"],
      ["doubtful", "doubt", "Most doubtful region", "Tab on the picture", ""],
      ["preview", "preview", "Preview under the pointer", "P", "t"],
      ["look", "look", "Opacity, brightness, contrast, gamma", "I", "to"],
    ],
  ],
  ["Help", [["keys", "help", "Mouse and keys", "?", "to"]]],
];

export class Toolbar {
  readonly node: HTMLElement;
  #buttons = new Map<Command, { button: HTMLButtonElement; marks: string }>();

  constructor(run: (command: Command) => void, signal: AbortSignal) {
    this.node = element("div", "dmw-toolbar", {
      role: "toolbar",
      "aria-label": "Segmentation tools",
    });
    for (const [label, items] of GROUPS) {
      const box = element("div", "dmw-group", { role: "group", "aria-label": label });
      for (const item of items) box.append(this.#button(item, run, signal));
      this.node.append(box);
    }
    this.#moveStop([...this.#buttons.values()][0]!.button);
    listen(this.node, "keydown", (event) => this.#onKey(event), signal);
    listen(
      this.node,
      "focusin",
      (event) => {
        if (event.target instanceof HTMLButtonElement) this.#moveStop(event.target);
      },
      signal,
    );
  }

  #button(item: Item, run: (command: Command) => void, signal: AbortSignal): HTMLButtonElement {
    const [command, name, label, key] = item;
    const node = button("dmw-button", signal, () => run(command), icon(name), {
      title: `${label} (${key})`,
      "aria-label": label,
      "data-command": command,
    });
    if (command === "new") {
      node.classList.add("dmw-button-text");
      node.append(element("span", "", "New"));
    }
    this.#buttons.set(command, { button: node, marks: item[4] });
    return node;
  }

  update(state: ToolbarState): void {
    for (const [command, { button, marks }] of this.#buttons) {
      if (marks.includes("t")) {
        setAttribute(button, "aria-pressed", String(state.pressed.has(command)));
      }
      // aria-disabled keeps the button focusable: a disabled one would drop the focus.
      const off = state.disabled.has(command) || (state.readOnly && !marks.includes("o"));
      setAttribute(button, "aria-disabled", off ? "true" : null);
    }
  }

  #moveStop(current: HTMLButtonElement): void {
    for (const { button } of this.#buttons.values()) button.tabIndex = button === current ? 0 : -1;
  }

  #onKey(event: KeyboardEvent): void {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const buttons = [...this.#buttons.values()].map((b) => b.button);
    const at = buttons.indexOf(event.target as HTMLButtonElement);
    if (at < 0) return;
    event.preventDefault();
    event.stopPropagation();
    buttons[(at + step + buttons.length) % buttons.length]!.focus();
  }
}
