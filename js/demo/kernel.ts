/**
 * A kernel in the page: the protocol of PROTOCOL.md over a stand-in model, with pebbles and discs
 * for masks. For screenshots, tests and trying things out; it knows nothing of networks.
 */
import type { Answer, ClickRecord, InstanceRecord, Traits } from "../src/protocol";
import { labelsOf, marginOf, packLabels, REDUCE, type Stroke } from "./masks";
import { HEIGHT, PEBBLES, pebbleAt, WIDTH } from "./scene";

type Handler = (...args: unknown[]) => void;
type Message = Record<string, never> & { type: string; id: string; view: string; seq?: number };

interface State {
  clicks: ClickRecord[];
  instances: InstanceRecord[];
  strokes: Stroke[];
  active: number;
  nextId: number;
}

export interface KernelOptions {
  /** Milliseconds until an intent is answered. */
  answerMs: number;
  /** Milliseconds that a prediction takes. */
  predictMs: number;
  classes: string[];
  hoverPreview: boolean;
}

/** Colours that people who see few colours can tell apart (after Okabe and Ito). */
const PALETTE = [
  ...["#e69f00", "#56b4e9", "#009e73", "#f0e442"],
  ...["#0072b2", "#d55e00", "#cc79a7", "#8c6bb1"],
];

export class FakeKernel {
  readonly traits: Traits;
  /** Every message that arrived, for tests. */
  readonly received: Message[] = [];
  /** While set, messages pile up unanswered. */
  #paused = false;
  #backlog: Message[] = [];
  #handlers = new Map<string, Handler[]>();
  #state: State = { clicks: [], instances: [], strokes: [], active: 0, nextId: 1 };
  #undo: State[] = [];
  #redo: State[] = [];
  #nextT = 0;
  #revision = 0;
  #applied = new Map<string, Answer>();

  constructor(
    readonly picture: Uint8Array<ArrayBuffer>,
    readonly options: KernelOptions,
  ) {
    this.traits = {
      clicks: [],
      instances: [],
      active_instance: 0,
      classes: options.classes,
      status: { state: "ready", message: "", model: "lite", device: "demo", latency_ms: null },
      image_info: { version: 1, width: WIDTH, height: HEIGHT, name: "pebbles.png" },
      history: { can_undo: false, can_redo: false },
      label_version: 0,
      hover_preview: options.hoverPreview,
      snapshot: {},
      painted: 0,
    };
  }

  // -- the model as the front end sees it --------------------------------------------------------

  get<K extends keyof Traits>(key: K): Traits[K] {
    return this.traits[key];
  }

  set<K extends keyof Traits>(key: K, value: Traits[K]): void {
    this.traits[key] = value;
    this.#emit(`change:${key}`);
  }

  save_changes(): void {}

  on(name: string, handler: Handler): void {
    this.#handlers.set(name, [...(this.#handlers.get(name) ?? []), handler]);
  }

  off(name: string, handler: Handler): void {
    this.#handlers.set(
      name,
      (this.#handlers.get(name) ?? []).filter((h) => h !== handler),
    );
  }

  send(content: unknown): void {
    const message = structuredClone(content) as Message;
    this.received.push(message);
    if (this.#paused) this.#backlog.push(message);
    else setTimeout(() => this.#handle(message), this.options.answerMs);
  }

  // -- handles for tests -------------------------------------------------------------------------

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    for (const message of this.#backlog.splice(0)) this.#handle(message);
  }

  fail(text: string): void {
    this.#message({ type: "error", id: null, message: text });
  }

  /** Number of handlers that are still registered: 0 after every view is gone. */
  get handlerCount(): number {
    return [...this.#handlers.values()].reduce((n, list) => n + list.length, 0);
  }

  #emit(name: string, ...args: unknown[]): void {
    for (const handler of this.#handlers.get(name) ?? []) handler(...args);
  }

  #message(content: Partial<Answer>, buffers: ArrayBufferView[] = []): void {
    const views = buffers.map(
      (b) => new DataView(b.buffer as ArrayBuffer, b.byteOffset, b.byteLength),
    );
    this.#emit("msg:custom", content, views);
  }

  // -- the kernel --------------------------------------------------------------------------------

  #handle(m: Message): void {
    try {
      if (m.seq === undefined) this.#answer(m);
      else this.#intent(m);
    } catch (error) {
      this.#message({ type: "error", id: m.id, message: (error as Error).message });
    }
  }

  #answer(m: Message): void {
    const { id } = m;
    if (m.type === "ready") {
      const size = { width: WIDTH, height: HEIGHT, full_width: WIDTH, full_height: HEIGHT };
      const { version } = this.traits.image_info;
      this.#message({ type: "image", id, version, mime: "image/png", ...size }, [this.picture]);
      if (this.#revision) this.#publishLabels();
    } else if (m.type === "preview") {
      const labels = this.#preview(m as never);
      const { fields, buffers } = packLabels(labels);
      setTimeout(() => this.#message({ type: "preview", id, ...fields }, buffers), 20);
    } else if (m.type === "margin") {
      this.#message({ type: "margin", id, width: 300, height: 200 }, [marginOf(300, 200)]);
    } else if (m.type === "doubtful") {
      const open = PEBBLES.filter(
        (_, i) => !this.#state.clicks.some((c) => pebbleAt(c.x, c.y) === i),
      );
      const index = Number(m.index ?? 0) % Math.max(1, open.length);
      const p = open[index];
      const where = p ? { x: p.x, y: p.y, radius: p.radius * 0.7 } : { x: 0, y: 0, radius: 0 };
      this.#message({ type: "doubtful", id, found: !!p, ...where, index, count: open.length });
    } else {
      this.#message({ type: "ok", id, revision: this.#revision });
    }
  }

  #intent(m: Message): void {
    const key = `${m.view} ${m.seq}`;
    const before = this.#applied.get(key);
    if (before) return this.#message({ ...before, id: m.id, duplicate: true });
    const extra = this.#apply(m as never);
    this.#revision++;
    this.#publish();
    const answer = { type: "ok", id: m.id, revision: this.#revision, ...extra };
    this.#applied.set(key, answer);
    this.#message(answer);
    const revision = this.#revision;
    this.set("status", { ...this.traits.status, state: "predicting" });
    setTimeout(() => {
      if (revision === this.#revision) this.#publishLabels();
    }, this.options.predictMs);
  }

  // biome-ignore lint/suspicious/noExplicitAny: fields differ by message type
  #apply(m: any): Partial<Answer> {
    if (m.type === "undo" || m.type === "redo") {
      const [from, to] = m.type === "undo" ? [this.#undo, this.#redo] : [this.#redo, this.#undo];
      const state = from.pop();
      if (state) {
        to.push(this.#state);
        this.#state = state;
      }
      return { changed: !!state };
    }
    const state = structuredClone(this.#state);
    const answer = this.#edit(state, m);
    this.#undo.push(this.#state);
    this.#redo = [];
    this.#state = state;
    return answer;
  }

  // biome-ignore lint/suspicious/noExplicitAny: fields differ by message type
  #edit(state: State, m: any): Partial<Answer> {
    const own = state.instances.find((i) => i.id === m.instance);
    const change = (patch: Partial<InstanceRecord>) => {
      if (!own) throw new Error(`there is no instance ${m.instance}`);
      Object.assign(own, patch);
    };
    switch (m.type) {
      case "click": {
        if (own?.locked) throw new Error(`instance ${m.instance} is locked`);
        const instance = m.instance === "new" ? this.#newInstance(state, m.class_name) : m.instance;
        if (instance) state.active = instance;
        const click = { t: this.#nextT++, x: m.x, y: m.y, instance };
        state.clicks.push(click);
        return { t: click.t, instance };
      }
      case "move_click":
        Object.assign(state.clicks.find((c) => c.t === m.t) ?? {}, { x: m.x, y: m.y });
        return {};
      case "remove_click":
        state.clicks = state.clicks.filter((c) => c.t !== m.t);
        return {};
      case "new_instance":
        return { instance: this.#newInstance(state, m.class_name) };
      case "remove_instance":
        state.instances = state.instances.filter((i) => i.id !== m.instance);
        state.clicks = state.clicks.filter((c) => c.instance !== m.instance);
        if (state.active === m.instance) state.active = 0;
        return {};
      case "set_class":
        change({ class_name: m.class_name });
        return {};
      case "select":
        state.active = m.instance;
        return {};
      case "lock":
        change({ locked: m.locked });
        return {};
      case "set_visible":
        change({ visible: m.visible });
        return {};
      case "paint":
        state.strokes.push({ ...m, erase: m.mode === "erase" });
        return {};
      case "reset":
        Object.assign(state, { clicks: [], instances: [], strokes: [], active: 0 });
        return {};
      default:
        throw new Error(`unknown message type ${m.type}`);
    }
  }

  #newInstance(state: State, className: string | undefined): number {
    const id = state.nextId++;
    const active = state.instances.find((i) => i.id === state.active);
    state.instances.push({
      id,
      class_name: className ?? active?.class_name ?? this.traits.classes[0] ?? "object",
      colour: PALETTE[(id - 1) % PALETTE.length]!,
      area: 0,
      score: 0,
      visible: true,
      locked: false,
      clicks: 0,
    });
    state.active = id;
    return id;
  }

  #publish(): void {
    const { clicks, instances, active } = this.#state;
    for (const i of instances) i.clicks = clicks.filter((c) => c.instance === i.id).length;
    this.set("clicks", clicks);
    this.set("instances", instances);
    this.set("active_instance", active);
    this.set("history", { can_undo: this.#undo.length > 0, can_redo: this.#redo.length > 0 });
  }

  #publishLabels(): void {
    const labels = labelsOf(this.#state.clicks, this.#state.strokes);
    const areas = new Map<number, number>();
    for (const id of labels) areas.set(id, (areas.get(id) ?? 0) + 1);
    this.#state.instances = this.#state.instances.map((i) => ({
      ...i,
      area: Math.round((areas.get(i.id) ?? 0) / REDUCE ** 2),
      score: areas.has(i.id) ? 0.86 + 0.02 * (i.id % 6) : 0,
    }));
    const latency_ms = this.options.predictMs;
    this.set("instances", this.#state.instances);
    this.set("status", { ...this.traits.status, state: "ready", latency_ms });
    const { fields, buffers } = packLabels(labels);
    const image_version = this.traits.image_info.version;
    const head = { type: "labels", revision: this.#revision, image_version, latency_ms };
    this.#message({ ...head, ...fields }, buffers);
    this.set("label_version", this.#revision);
  }

  #preview(m: { x: number; y: number; instance: number | "new" }): Uint8Array {
    const id = m.instance === "new" ? 250 : m.instance;
    const click = { t: this.#nextT, x: m.x, y: m.y, instance: id };
    return labelsOf([...this.#state.clicks, click], this.#state.strokes).map((v) =>
      v === id ? 1 : 0,
    );
  }
}
