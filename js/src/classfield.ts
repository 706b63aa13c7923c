/** Class name of one instance: a choice when classes are given (with a way out), else free text. */
import { element, setAttribute } from "./dom";
import { listen } from "./lifetime";

export class ClassField {
  readonly node = element("div", "dmw-class");
  readonly #select = element("select", "");
  readonly #other = element("option", "", "Other…");
  readonly #input = element("input", "", {
    type: "text",
    maxlength: "200",
    placeholder: "Class name",
    autocomplete: "off",
  });
  #options = "";
  #value = "";
  /** The person chose "Other…" and types a name. */
  #free = false;

  constructor(
    readonly commit: (name: string) => void,
    signal: AbortSignal,
  ) {
    this.node.append(this.#select, this.#input);
    listen(this.#select, "change", () => this.#choose(), signal);
    listen(this.#input, "change", () => this.#submit(this.#input.value), signal);
    listen(this.#input, "blur", () => this.#leave(), signal);
    listen(this.#input, "keydown", (event) => this.#onKey(event), signal);
  }

  update(value: string, classes: readonly string[], name: string, disabled: boolean): void {
    this.#value = value;
    const names = classes.includes(value) ? [...classes] : [...classes, value];
    const options = JSON.stringify(names);
    if (options !== this.#options) {
      this.#options = options;
      const choices = names.map((n) => element("option", "", n || "No class", { value: n }));
      this.#select.replaceChildren(...choices, this.#other);
    }
    this.#select.value = value;
    const root = this.#input.getRootNode() as Document | ShadowRoot;
    if (root.activeElement !== this.#input) this.#input.value = value;
    for (const control of [this.#select, this.#input]) {
      control.disabled = disabled;
      setAttribute(control, "aria-label", `Class of ${name}`);
    }
    this.#layout(classes.length > 0);
  }

  #layout(choice: boolean): void {
    this.#select.hidden = !choice || this.#free;
    this.#input.hidden = choice && !this.#free;
  }

  #choose(): void {
    if (this.#select.selectedOptions[0] !== this.#other) {
      this.#submit(this.#select.value);
      return;
    }
    this.#free = true;
    this.#layout(true);
    this.#input.focus();
    this.#input.select();
  }

  #submit(text: string): void {
    const name = text.trim();
    if (!name || name === this.#value) return;
    this.#value = name; // blur follows change: the same name must not be sent twice
    this.commit(name);
  }

  #leave(): void {
    this.#submit(this.#input.value);
    this.#input.value = this.#value;
    if (!this.#free) return;
    this.#free = false;
    this.#select.value = this.#value;
    this.#layout(true);
  }

  #onKey(event: KeyboardEvent): void {
    if (event.key === "Escape") this.#input.value = this.#value;
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.stopPropagation();
    this.#input.blur();
  }
}
