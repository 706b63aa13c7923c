/** What the person does, turned into intents: clicks, moves, strokes, edits of instances. */
import { instanceAt, markerAt } from "./hit";
import type { Intent } from "./protocol";
import type { ShownClick } from "./reducer";
import type { Stroke } from "./scene";
import type { Store } from "./store";
import { clampPixel, type Point, toNearestPixel, toPixel, toStage } from "./viewport";

export interface ActionHooks {
  say(text: string): void;
  /** An intent was answered: the revision it led to and when it was made (`performance.now`). */
  answered(revision: number, madeAt: number): void;
}

const STROKE_STAYS_MS = 4000;
const MAX_STROKE_POINTS = 10_000;

export class Actions {
  #stroke: Stroke | null = null;
  #lastClick: { seq: number; wasArmed: boolean; answered: Promise<number | null> } | null = null;
  #lastSeq = 0;

  constructor(
    readonly store: Store,
    readonly hooks: ActionHooks,
  ) {}

  /** Queue an intent; the promise gives the revision it led to, null when it was refused. */
  #intend(intent: Intent): { seq: number; answered: Promise<number | null> } {
    const madeAt = performance.now();
    const { seq, answered } = this.store.channel.intend(intent);
    this.#lastSeq = seq;
    return {
      seq,
      answered: answered.then((answer) => {
        if (!answer) return null;
        const revision = answer.revision ?? -1;
        this.hooks.answered(revision, madeAt);
        return revision;
      }),
    };
  }

  send(intent: Intent): void {
    if (this.store.live) this.#intend(intent);
  }

  clickAt(stage: Point, as: "object" | "background" | "select"): void {
    const pixel = toPixel(this.store.viewport, stage.x, stage.y);
    if (pixel) this.clickPixel(pixel, as);
  }

  clickPixel({ x, y }: Point, as: "object" | "background" | "select"): void {
    const { store, hooks } = this;
    if (!store.live) return;
    if (as === "select") {
      const id = this.instanceAt({ x, y });
      if (id) this.select(id);
      else hooks.say("No instance here");
      return;
    }
    const { armed: wasArmed, armedClass } = store.ui;
    const instance = as === "background" ? 0 : store.target;
    const intent: Intent = { type: "click", x, y, instance };
    if (instance === "new" && armedClass) intent.class_name = armedClass;
    this.#lastClick = { ...this.#intend(intent), wasArmed };
    if (wasArmed && instance) store.set({ armed: false, armedClass: null });
    const who = typeof instance === "number" ? `instance ${instance}` : "a new instance";
    hooks.say(`Click for ${instance ? who : "the background"} at ${x}, ${y}`);
  }

  /** Take back the click that turned out to be the first half of a double click. */
  async revokeClick(): Promise<void> {
    const click = this.#lastClick;
    this.#lastClick = null;
    if (!click) return;
    if (click.wasArmed) this.store.set({ armed: true });
    const revision = await click.answered;
    // Undo is exact, but only while nothing else came after the click.
    if (revision !== null && this.#lastSeq === click.seq) this.#intend({ type: "undo" });
  }

  instanceAt(pixel: Point): number {
    const { imageWidth, imageHeight } = this.store.viewport;
    return instanceAt(this.store.scene.overlay?.map ?? null, pixel, imageWidth, imageHeight);
  }

  select(id: number): void {
    this.store.set({ armed: false, armedClass: null });
    if (id > 0 && id !== this.store.shown.active) {
      this.send({ type: "select", instance: id });
      this.hooks.say(`Instance ${id} is active`);
    }
  }

  /** The marker under the pointer, or under the crosshair when the pointer is elsewhere. */
  markerInReach(): ShownClick | null {
    const { ui, shown, viewport } = this.store;
    if (ui.hover) return markerAt(shown.clicks, viewport, ui.hover);
    if (!ui.cursor) return null;
    return markerAt(shown.clicks, viewport, toStage(viewport, ui.cursor.x, ui.cursor.y));
  }

  removeMarker(key: string): void {
    const click = this.store.shown.clicks.find((c) => c.key === key);
    if (!click || click.t < 0) return;
    this.send({ type: "remove_click", t: click.t });
    this.hooks.say("Click removed");
  }

  dragMarker(key: string, stage: Point, phase: "move" | "end" | "cancel"): void {
    const { store } = this;
    const click = store.shown.clicks.find((c) => c.key === key);
    if (!store.live || !click || click.t < 0 || phase === "cancel") {
      store.scene.dragged = null;
    } else if (phase === "move") {
      store.scene.dragged = { key, at: toNearestPixel(store.viewport, stage.x, stage.y) };
    } else {
      const at = toNearestPixel(store.viewport, stage.x, stage.y);
      store.scene.dragged = null;
      if (at.x !== click.x || at.y !== click.y) {
        this.send({ type: "move_click", t: click.t, x: at.x, y: at.y });
        this.hooks.say(`Click moved to ${at.x}, ${at.y}`);
      }
    }
    store.changed();
  }

  /** A brush or eraser stroke, point by point. */
  strokeTo(stage: Point, erase: boolean, phase: "start" | "move" | "end" | "cancel"): void {
    const { store } = this;
    if (phase === "start") {
      if (!store.live) return;
      if (erase && (store.ui.armed || store.shown.active === 0)) {
        this.hooks.say("Choose the instance to erase from first");
        return;
      }
      const own = store.shown.instances.find((i) => i.id === store.shown.active);
      const colour = !store.ui.armed && own ? own.colour : "#ffffff";
      this.#stroke = { points: [], radius: store.ui.brushRadius, erase, colour };
      store.scene.strokes.add(this.#stroke);
    }
    const stroke = this.#stroke;
    if (!stroke) return;
    if (phase !== "cancel") addPoint(stroke, toNearestPixel(store.viewport, stage.x, stage.y));
    if (phase === "end") this.#finishStroke(stroke);
    if (phase === "cancel") store.scene.strokes.delete(stroke);
    if (phase === "end" || phase === "cancel") this.#stroke = null;
    store.changed();
  }

  /** One dab of the brush at a pixel (keyboard). */
  dab(pixel: Point, erase: boolean): void {
    const at = toStage(this.store.viewport, pixel.x, pixel.y);
    this.strokeTo(at, erase, "start");
    this.strokeTo(at, erase, "end");
  }

  #finishStroke(stroke: Stroke): void {
    const { store } = this;
    let instance = store.target;
    if (instance === "new") {
      const intent: Intent = { type: "new_instance" };
      if (store.ui.armedClass) intent.class_name = store.ui.armedClass;
      instance = { after: this.#intend(intent).seq };
      store.set({ armed: false, armedClass: null });
    }
    const mode = stroke.erase ? "erase" : "add";
    const points = stroke.points.map((p): [number, number] => [p.x, p.y]);
    const sent = this.#intend({ type: "paint", instance, mode, radius: stroke.radius, points });
    const drop = () => {
      store.scene.strokes.delete(stroke);
      store.changed();
    };
    void sent.answered.then((revision) => {
      if (revision === null) return drop();
      stroke.revision = revision;
      if (store.painted >= revision) return drop();
      store.channel.clock.later(STROKE_STAYS_MS, drop);
    });
  }

  /** Strokes that the label map on the canvas already contains are no longer drawn. */
  dropPaintedStrokes(revision: number): void {
    for (const stroke of this.store.scene.strokes) {
      if (stroke.revision !== undefined && stroke.revision <= revision) {
        this.store.scene.strokes.delete(stroke);
      }
    }
  }

  /** Class by digit: of the armed instance, else of the active one. */
  setClassByNumber(number: number): void {
    const { store } = this;
    const name = store.trait("classes", [])[number - 1];
    if (name === undefined) {
      this.hooks.say(`There is no class ${number}`);
      return;
    }
    const target = store.target;
    if (target === "new") store.set({ armed: true, armedClass: name });
    else this.send({ type: "set_class", instance: target, class_name: name });
    this.hooks.say(`Class ${name}`);
  }

  moveCursor(dx: number, dy: number): Point {
    const { viewport: v, ui } = this.store;
    const start = ui.cursor ?? {
      x: Math.floor((v.stageWidth / 2 - v.left) / v.scale),
      y: Math.floor((v.stageHeight / 2 - v.top) / v.scale),
    };
    // Without a crosshair the first key only shows it.
    const step = ui.cursor ? { x: start.x + dx, y: start.y + dy } : start;
    return clampPixel(v, step);
  }
}

/** Add a point unless it lies within a third of the brush of the last one. */
function addPoint(stroke: Stroke, point: Point): void {
  const last = stroke.points.at(-1);
  const spacing = Math.max(1, stroke.radius / 3);
  if (last && Math.hypot(point.x - last.x, point.y - last.y) < spacing) return;
  if (stroke.points.length < MAX_STROKE_POINTS) stroke.points.push(point);
}
