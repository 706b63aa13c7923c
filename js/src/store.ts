/**
 * State of one view: traits (read only), the view's own state, viewport, scene.
 * Whoever changes something calls `changed()`; the view then draws once per frame.
 */
import type { Channel } from "./channel";
import type { ImageInfo, InstanceRef, Traits, WidgetModel } from "./protocol";
import { project, type Shown } from "./reducer";
import { emptyScene, type Overlay } from "./scene";
import type { Snapshot } from "./snapshot";
import { INITIAL_UI, type UiState } from "./ui";
import { EMPTY_VIEWPORT, type Viewport } from "./viewport";

export class Store {
  readonly scene = emptyScene();
  ui: UiState = INITIAL_UI;
  viewport: Viewport = EMPTY_VIEWPORT;
  snapshot: Snapshot | null = null;
  /** Version of the picture on the canvas; -1 before the first. */
  imageVersion = -1;
  /** Revision of the label map on the canvas; -1 for none. */
  painted = -1;
  latencyMs: number | null = null;
  roundTripMs: number | null = null;
  #shown: Shown | null = null;

  constructor(
    readonly model: WidgetModel,
    readonly changed: () => void,
  ) {}

  channel!: Channel;

  trait<K extends keyof Traits>(name: K, fallback: Traits[K]): Traits[K] {
    return this.model.get(name) ?? fallback;
  }

  get imageInfo(): ImageInfo {
    return this.trait("image_info", { version: -1, width: 0, height: 0 });
  }

  /** The state to draw: published, with unanswered intents applied. */
  get shown(): Shown {
    this.#shown ??= project(this.#published(), this.channel.pending);
    return this.#shown;
  }

  #published() {
    if (this.snapshot && this.imageVersion < 0) {
      return { clicks: this.snapshot.clicks, instances: this.snapshot.instances, active: 0 };
    }
    return {
      clicks: this.trait("clicks", []),
      instances: this.trait("instances", []),
      active: this.trait("active_instance", 0),
    };
  }

  /** Traits or pending intents changed. */
  invalidate(): void {
    this.#shown = null;
    this.changed();
  }

  set(patch: Partial<UiState>): void {
    this.ui = { ...this.ui, ...patch };
    if (patch.readOnly !== undefined) this.#shown = null;
    this.changed();
  }

  setViewport(viewport: Viewport): void {
    this.viewport = viewport;
    this.changed();
  }

  setOverlay(overlay: Overlay | null): void {
    this.scene.overlay = overlay;
    this.scene.generation++;
    this.changed();
  }

  get previewing(): boolean {
    return this.ui.preview ?? this.trait("hover_preview", false);
  }

  /** True once the kernel's picture is on the canvas and can be clicked. */
  get live(): boolean {
    return this.imageVersion >= 0 && !this.ui.readOnly;
  }

  /** Where the next object click goes. Negative ids belong to instances still being made. */
  get target(): InstanceRef {
    if (this.ui.armed) return "new";
    const active = this.shown.active;
    if (active === 0) return "new";
    return active < 0 ? { after: -active } : active;
  }
}
