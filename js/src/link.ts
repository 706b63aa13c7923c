/**
 * What the view asks the kernel for and what it does with what arrives: the picture, label maps,
 * heat maps, doubtful regions, previews. Stale answers end here.
 */
import { heatRamp } from "./colour";
import { type Answer, isLabelsMessage, type LabelHeader, type LabelsMessage } from "./protocol";
import { type Bytes, decodeLabels, toBytes } from "./rle";
import { Overlay, rasterise } from "./scene";
import { readSnapshot } from "./snapshot";
import type { Store } from "./store";
import { focusOn, resizeImage } from "./viewport";

export interface LinkHooks {
  error(message: string): void;
  say(text: string): void;
  /** The picture on the canvas changed. */
  pictureShown(): void;
  /** A label map was taken over; milliseconds it took to decode and trace. */
  labelled(revision: number, decodeMs: number): void;
}

export class Link {
  #readyToken = 0;
  /** Labels that arrived before the picture they belong to. */
  #early: { message: LabelsMessage; buffers: readonly Bytes[] } | null = null;
  #doubtfulIndex = 0;
  #previewBusy = false;
  #previewWanted: { x: number; y: number } | null = null;

  constructor(
    readonly store: Store,
    readonly hooks: LinkHooks,
  ) {}

  /** Ask for the picture (and the labels that follow it). */
  async ready(): Promise<void> {
    const token = ++this.#readyToken;
    const { channel } = this.store;
    try {
      const { answer, buffers } = await channel.ask({ type: "ready" }, Number.POSITIVE_INFINITY);
      if (token !== this.#readyToken) return;
      await this.#showImage(answer, buffers, () => token === this.#readyToken);
    } catch (error) {
      if (token === this.#readyToken) this.hooks.error(`The picture did not load: ${words(error)}`);
    }
  }

  async #showImage(answer: Answer, buffers: readonly Bytes[], current: () => boolean) {
    if (answer.type !== "image" || !buffers[0]) throw new Error("the kernel sent no picture");
    const blob = new Blob([toBytes(buffers[0])], { type: String(answer.mime ?? "image/png") });
    const picture = await createImageBitmap(blob);
    if (!current()) {
      picture.close();
      return;
    }
    const { store } = this;
    const width = Number(answer.full_width ?? answer.width ?? picture.width);
    const height = Number(answer.full_height ?? answer.height ?? picture.height);
    const first = store.imageVersion < 0;
    const version = Number(answer.version ?? store.imageInfo.version);
    const changed = version !== store.imageVersion;
    this.#replacePicture(picture);
    const { imageWidth, imageHeight } = store.viewport;
    if (changed || width !== imageWidth || height !== imageHeight) {
      store.viewport = resizeImage(store.viewport, width, height);
    }
    if (changed) {
      store.painted = -1;
      store.setOverlay(null);
      store.scene.heat = null;
      store.scene.doubtful = null;
    }
    store.imageVersion = version;
    if (first || changed) {
      const brushRadius = Math.max(2, Math.round(Math.max(width, height) / 60));
      store.set({ brushRadius, cursor: null, readOnly: answer.read_only === true });
    }
    const early = this.#early;
    this.#early = null;
    if (early) this.#takeLabels(early.message, early.buffers);
    this.hooks.pictureShown();
    store.invalidate();
  }

  #replacePicture(picture: ImageBitmap): void {
    const old = this.store.scene.picture;
    if (old instanceof ImageBitmap) old.close();
    this.store.scene.picture = picture;
  }

  /** A message that answers no request of this view. */
  receive(message: Answer, buffers: readonly Bytes[]): void {
    if (isLabelsMessage(message)) this.#takeLabels(message, buffers);
    else if (message.type === "error" && !message.id) {
      this.hooks.error(message.message ?? "The kernel reports an error without words.");
    }
  }

  #takeLabels(message: LabelsMessage, buffers: readonly Bytes[]): void {
    const { store } = this;
    const version = message.image_version ?? store.imageInfo.version;
    if (version !== store.imageVersion) {
      const newer = !this.#early || message.revision >= this.#early.message.revision;
      if (version === store.imageInfo.version && newer) this.#early = { message, buffers };
      return;
    }
    // An older state overtaken on the way, or the answer to another view's `ready`.
    if (message.revision < store.painted) return;
    if (message.revision === store.painted && store.scene.overlay) return;
    const start = performance.now();
    try {
      store.setOverlay(new Overlay(decodeLabels(message, buffers)));
    } catch (error) {
      this.hooks.error(`The mask could not be read: ${words(error)}`);
      return;
    }
    store.painted = message.revision;
    store.latencyMs = message.latency_ms ?? store.latencyMs; // provisional labels have none
    store.scene.doubtful = null;
    this.#doubtfulIndex = 0;
    this.clearPreview();
    if (store.ui.heat) void this.refreshHeat();
    this.hooks.labelled(message.revision, performance.now() - start);
  }

  /** Show the saved snapshot until a kernel answers; false when there is none. */
  async showSnapshot(): Promise<boolean> {
    const { store } = this;
    const snapshot = readSnapshot(store.trait("snapshot", {}));
    if (!snapshot) return false;
    try {
      const picture = await createImageBitmap(
        new Blob([snapshot.thumbnail], { type: snapshot.mime }),
      );
      if (store.imageVersion >= 0) {
        picture.close(); // the kernel was faster
        return false;
      }
      store.snapshot = snapshot;
      this.#replacePicture(picture);
      store.viewport = resizeImage(store.viewport, snapshot.width, snapshot.height);
      store.setOverlay(snapshot.labels ? new Overlay(snapshot.labels) : null);
      this.hooks.pictureShown();
      return true;
    } catch {
      return false;
    }
  }

  async refreshHeat(): Promise<void> {
    const { store } = this;
    const painted = store.painted;
    try {
      const { answer, buffers } = await store.channel.ask({ type: "margin" });
      // Overtaken by a new state: its labels ask again.
      if (!store.ui.heat || store.painted !== painted || !buffers[0]) return;
      const { width, height } = answer as unknown as LabelHeader;
      const values = toBytes(buffers[0]);
      if (values.length !== width * height) throw new Error("its size is wrong");
      store.scene.heat = rasterise(values, width, height, heatRamp());
      store.scene.generation++;
      store.changed();
    } catch (error) {
      store.set({ heat: false });
      this.hooks.error(`The map of doubts could not be made: ${words(error)}`);
    }
  }

  /** Go to the next doubtful region, from the most doubtful downwards. */
  async nextDoubtful(): Promise<void> {
    const { store } = this;
    const painted = store.painted;
    const index = this.#doubtfulIndex++;
    try {
      const { answer } = await store.channel.ask({ type: "doubtful", index });
      if (store.painted !== painted || answer.type !== "doubtful") return; // overtaken
      if (!answer.found) {
        this.#doubtfulIndex = 0;
        store.scene.doubtful = null;
        store.changed();
        this.hooks.say("No doubtful region");
        return;
      }
      const { x, y, radius } = answer as unknown as { x: number; y: number; radius: number };
      store.scene.doubtful = { x, y, radius };
      store.viewport = focusOn(store.viewport, x, y, radius);
      store.set({ cursor: { x: Math.round(x), y: Math.round(y) } });
      this.hooks.say(`Doubtful region ${index + 1} at ${Math.round(x)}, ${Math.round(y)}`);
    } catch (error) {
      this.hooks.error(`No doubtful region: ${words(error)}`);
    }
  }

  /** Ask what a click at this pixel would do; one request at a time, the newest wish wins. */
  preview(at: { x: number; y: number }): void {
    this.#previewWanted = at;
    if (!this.#previewBusy) void this.#previewLoop();
  }

  clearPreview(): void {
    this.#previewWanted = null;
    if (!this.store.scene.ghost) return;
    this.store.scene.ghost = null;
    this.store.changed();
  }

  async #previewLoop(): Promise<void> {
    this.#previewBusy = true;
    const { store } = this;
    while (this.#previewWanted) {
      const wanted: { x: number; y: number } = this.#previewWanted;
      const target = store.target;
      if (typeof target === "object") break; // its instance is still being made
      try {
        const { answer, buffers } = await store.channel.ask(
          { type: "preview", x: wanted.x, y: wanted.y, instance: target },
          5000,
        );
        if (!this.#previewWanted) break;
        // Anything else says that it was skipped for something newer.
        if (answer.type === "preview") {
          store.scene.ghost = new Overlay(decodeLabels(answer as unknown as LabelHeader, buffers));
          store.changed();
        }
      } catch {
        // A preview is a courtesy: what goes wrong with it is not worth an alert.
        this.#previewWanted = null;
      }
      if (this.#previewWanted === wanted) this.#previewWanted = null;
    }
    this.#previewBusy = false;
  }

  close(): void {
    this.#readyToken++;
    this.clearPreview();
    if (this.store.scene.picture instanceof ImageBitmap) this.store.scene.picture.close();
    this.store.scene.picture = null;
  }
}

function words(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
