/** The list of instances beside the picture. Rows are kept and patched, so focus and typing stay. */
import { ClassField } from "./classfield";
import { inkOn, withAlpha } from "./colour";
import { button, element, setAttribute, setText } from "./dom";
import { icon } from "./icons";
import { listen } from "./lifetime";
import { PROVISIONAL_COLOUR, type Shown, type ShownInstance } from "./reducer";

export interface InstanceHooks {
  select(id: number): void;
  setClass(id: number, name: string): void;
  setVisible(id: number, visible: boolean): void;
  setLocked(id: number, locked: boolean): void;
  remove(id: number): void;
  highlight(id: number): void;
}

export interface ListState {
  shown: Shown;
  classes: readonly string[];
  imagePixels: number;
  readOnly: boolean;
}

interface Row {
  node: HTMLLIElement;
  swatch: HTMLButtonElement;
  meta: HTMLElement;
  eye: HTMLButtonElement;
  lock: HTMLButtonElement;
  trash: HTMLButtonElement;
  field: ClassField;
  look: string;
  abort: AbortController;
}

export class InstanceList {
  readonly node: HTMLElement;
  readonly #count = element("span", "dmw-count");
  readonly #list = element("ul", "dmw-list", { "aria-label": "Instances" });
  readonly #empty = element("p", "dmw-empty");
  #rows = new Map<number, Row>();

  constructor(
    readonly hooks: InstanceHooks,
    readonly signal: AbortSignal,
  ) {
    const title = element("div", "dmw-side-title", element("span", "", "Instances"), this.#count);
    this.node = element("div", "dmw-side", title, this.#list, this.#empty);
    listen(this.node, "pointerleave", () => hooks.highlight(0), signal);
  }

  update(state: ListState): void {
    const { instances, active } = state.shown;
    const ids = new Set(instances.map((i) => i.id));
    for (const [id, row] of this.#rows) {
      if (ids.has(id)) continue;
      row.abort.abort();
      row.node.remove();
      this.#rows.delete(id);
    }
    instances.forEach((instance, index) => {
      const row = this.#rows.get(instance.id) ?? this.#makeRow(instance.id);
      if (this.#list.children[index] !== row.node) {
        this.#list.insertBefore(row.node, this.#list.children[index] ?? null);
      }
      this.#patch(row, instance, instance.id === active, state);
    });
    setText(this.#count, instances.length ? String(instances.length) : "");
    this.#empty.hidden = instances.length > 0;
    setText(
      this.#empty,
      state.readOnly
        ? "No instances."
        : "Click an object in the picture. Each further click refines it; N starts the next one.",
    );
  }

  /** Scroll the row of an instance into sight inside the list, never the page. */
  reveal(id: number): void {
    const row = this.#rows.get(id)?.node;
    if (!row) return;
    const top = row.offsetTop; // the list is positioned
    const { scrollTop, clientHeight } = this.#list;
    if (top < scrollTop) this.#list.scrollTop = top;
    else if (top + row.offsetHeight > scrollTop + clientHeight) {
      this.#list.scrollTop = top + row.offsetHeight - clientHeight;
    }
  }

  #makeRow(id: number): Row {
    const abort = new AbortController();
    const signal = AbortSignal.any([abort.signal, this.signal]);
    const mini = (name: string, run: () => void, ...content: Node[]) =>
      button(`dmw-mini dmw-${name}`, signal, run, ...content);
    const swatch = mini("swatch", () => this.hooks.select(id));
    const eye = mini("eye", () => this.hooks.setVisible(id, eye.ariaPressed === "true"));
    const lock = mini("lock", () => this.hooks.setLocked(id, lock.ariaPressed !== "true"));
    const trash = mini("trash", () => this.hooks.remove(id), icon("trash"));
    const field = new ClassField((name) => this.hooks.setClass(id, name), signal);
    const meta = element("div", "dmw-meta");
    const text = element("div", "dmw-row-text", field.node, meta);
    const actions = element("div", "dmw-row-actions", eye, lock, trash);
    const node = element("li", "dmw-row", swatch, text, actions);
    node.dataset.instance = String(id);
    listen(node, "pointerenter", () => this.hooks.highlight(id), signal);
    listen(
      node,
      "click",
      (event) => {
        // Anywhere on the row that is not a control selects.
        const target = event.target as Element;
        if (!target.closest("button, select, input")) this.hooks.select(id);
      },
      signal,
    );
    const row = { node, swatch, meta, eye, lock, trash, field, look: "", abort };
    this.#rows.set(id, row);
    return row;
  }

  #patch(row: Row, i: ShownInstance, active: boolean, state: ListState): void {
    const look = JSON.stringify([i, active, state.classes, state.imagePixels, state.readOnly]);
    if (look === row.look) return;
    row.look = look;
    const colour = i.colour || PROVISIONAL_COLOUR;
    const name = `instance ${i.id > 0 ? i.id : "(new)"}${i.class_name ? `, ${i.class_name}` : ""}`;
    row.node.classList.toggle("dmw-active", active);
    row.node.classList.toggle("dmw-faded", !i.visible);
    row.node.classList.toggle("dmw-waiting", i.pending);
    setAttribute(row.node, "aria-current", active ? "true" : null);
    row.node.style.setProperty("--dmw-colour", colour);
    row.node.style.setProperty("--dmw-tint", withAlpha(colour, 0.16));
    row.swatch.style.color = inkOn(colour);
    setText(row.swatch, i.id > 0 ? String(i.id) : "+");
    label(row.swatch, `Select ${name}`);
    setAttribute(row.swatch, "aria-pressed", String(active));
    setText(row.meta, describe(i, state.imagePixels));
    toggle(row.eye, !i.visible, i.visible ? "eye" : "eyeOff");
    label(row.eye, `${i.visible ? "Hide" : "Show"} ${name}`);
    toggle(row.lock, i.locked, i.locked ? "lock" : "unlock");
    label(row.lock, `${i.locked ? "Unlock" : "Lock"} ${name}`);
    label(row.trash, `Delete ${name}`);
    for (const control of [row.eye, row.lock, row.trash]) {
      control.hidden = state.readOnly || i.pending;
    }
    row.field.update(i.class_name ?? "", state.classes, name, state.readOnly || i.id < 0);
  }
}

function label(node: HTMLElement, text: string): void {
  node.title = text;
  setAttribute(node, "aria-label", text);
}

function toggle(button: HTMLButtonElement, on: boolean, name: Parameters<typeof icon>[0]): void {
  setAttribute(button, "aria-pressed", String(on));
  button.replaceChildren(icon(name));
}

function describe(i: ShownInstance, imagePixels: number): string {
  if (i.pending) return "waiting for the kernel…";
  const parts: string[] = [];
  if (i.area !== null && i.area !== undefined) {
    const percent = (100 * i.area) / Math.max(1, imagePixels);
    const digits = percent >= 10 ? 0 : percent >= 0.095 ? 1 : 2;
    parts.push(i.area === 0 ? "empty" : `${percent.toFixed(digits)} %`);
  }
  if (i.area && i.score !== null && i.score !== undefined)
    parts.push(`score ${i.score.toFixed(2)}`);
  parts.push(i.clicks === 1 ? "1 click" : `${i.clicks} clicks`);
  return parts.join("  ·  ");
}
