/**
 * What a view tells others about itself: `data-` attributes and an event for tests and benchmarks,
 * and the synced counter `painted`, by which reactive notebooks notice that masks changed.
 */
import { setAttribute } from "./dom";
import type { Store } from "./store";

const BUMP_AFTER_MS = 200;

export interface PaintDetail {
  revision: number;
  decode_ms: number;
  paint_ms: number;
  model_ms: number | null;
  round_trip_ms: number | null;
}

export class Reporter {
  /** Intents whose mask is not on the canvas yet: the revision they led to, when they were made. */
  #awaited: { revision: number; madeAt: number }[] = [];
  #fresh: { revision: number; decodeMs: number } | null = null;
  #bumping = false;

  constructor(
    readonly root: HTMLElement,
    readonly store: Store,
  ) {}

  answered(revision: number, madeAt: number): void {
    if (revision > this.store.painted) this.#awaited.push({ revision, madeAt });
    this.#bump();
  }

  labelled(revision: number, decodeMs: number): void {
    this.#fresh = { revision, decodeMs };
  }

  /** After drawing: announce a label map that is now on the canvas. */
  drawn(paintMs: number): void {
    const { store } = this;
    if (this.#fresh) {
      const { revision, decodeMs } = this.#fresh;
      this.#fresh = null;
      const done = this.#awaited.filter((a) => a.revision <= revision);
      this.#awaited = this.#awaited.filter((a) => a.revision > revision);
      const last = done.at(-1);
      const roundTripMs = last ? performance.now() - last.madeAt : null;
      if (roundTripMs !== null) store.roundTripMs = roundTripMs;
      const detail: PaintDetail = {
        revision,
        decode_ms: decodeMs,
        paint_ms: paintMs,
        model_ms: store.latencyMs,
        round_trip_ms: roundTripMs,
      };
      setAttribute(this.root, "data-painted", String(revision));
      this.root.dispatchEvent(
        new CustomEvent("dmw-painted", { detail, bubbles: true, composed: true }),
      );
      this.#bump();
    }
    this.#attributes();
  }

  #attributes(): void {
    const { store, root } = this;
    const { channel, viewport: v } = store;
    const state = store.trait("status", {}).state;
    const working = state === "starting" || state === "embedding" || state === "predicting";
    const busy =
      !store.ui.readOnly && (channel.unanswered > 0 || working || store.imageVersion < 0);
    const values: Record<string, string> = {
      "data-ready": store.imageVersion >= 0 ? "1" : "0",
      "data-read-only": store.ui.readOnly ? "1" : "0",
      "data-image-version": String(store.imageVersion),
      "data-seq": String(channel.lastSent),
      "data-acked": String(channel.lastAcked),
      "data-painted": String(store.painted),
      "data-busy": busy ? "1" : "0",
      "data-tool": store.ui.tool,
      "data-armed": store.ui.armed ? "1" : "0",
      "data-view": `${v.scale} ${v.left} ${v.top}`,
    };
    for (const [name, value] of Object.entries(values)) setAttribute(root, name, value);
  }

  /** Write the counter once things have settled; only where the kernel has such a trait. */
  #bump(): void {
    const { model, channel } = this.store;
    if (this.#bumping || model.get("painted") === undefined) return;
    this.#bumping = true;
    channel.clock.later(BUMP_AFTER_MS, () => {
      this.#bumping = false;
      const value = Math.floor(Math.max(this.store.painted, channel.lastRevision));
      if (value < 0 || model.get("painted") === value) return;
      try {
        model.set("painted", value);
        model.save_changes();
      } catch {
        // Without a kernel there is nobody to tell.
      }
    });
  }
}
