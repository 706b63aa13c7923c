/**
 * The two canvases of a view. Behind: the picture. In front: overlays, markers, cursors.
 * Overlays are drawn once into a spare canvas and copied, so that moving the pointer stays cheap.
 */
import { adjustmentTable, applyTable, isIdentity } from "./adjust";
import { casingFor, parseColour, withAlpha } from "./colour";
import { ownKeys } from "./dom";
import { drawFrontDetails, strokeCased } from "./markers";
import type { Shown } from "./reducer";
import { makeCanvas, type Overlay, rasterise, type Scene } from "./scene";
import type { UiState } from "./ui";
import type { Viewport } from "./viewport";

export interface Frame {
  scene: Scene;
  shown: Shown;
  ui: UiState;
  viewport: Viewport;
  /** Milliseconds, for pulses. */
  now: number;
  focused: boolean;
}

export class Painter {
  readonly back: HTMLCanvasElement;
  readonly front: HTMLCanvasElement;
  readonly #overlay = makeCanvas(1, 1);
  #ratio = 1;
  #overlayKey = "";
  #pictureKey = "";
  #picture: CanvasImageSource | null = null;
  #adjusted: HTMLCanvasElement | null = null;
  #adjustedKey = "";

  constructor() {
    this.back = makeCanvas(1, 1);
    this.front = makeCanvas(1, 1);
    this.back.className = "dmw-picture";
    this.front.className = "dmw-front";
    ownKeys(this.front);
  }

  /** Match the backing stores to a CSS size and the pixel density of the screen. */
  resize(width: number, height: number, ratio: number): void {
    const w = Math.max(1, Math.round(width * ratio));
    const h = Math.max(1, Math.round(height * ratio));
    if (w === this.front.width && h === this.front.height && ratio === this.#ratio) return;
    this.#ratio = ratio;
    for (const canvas of [this.back, this.front, this.#overlay]) {
      canvas.width = w;
      canvas.height = h;
    }
    this.#pictureKey = "";
    this.#overlayKey = "";
  }

  draw(frame: Frame): void {
    this.#drawPicture(frame);
    this.#drawOverlay(frame);
    const context = this.front.getContext("2d")!;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.front.width, this.front.height);
    context.drawImage(this.#overlay, 0, 0);
    context.setTransform(this.#ratio, 0, 0, this.#ratio, 0, 0);
    if (frame.scene.ghost) this.#drawGhost(context, frame, frame.scene.ghost);
    drawFrontDetails(context, frame);
  }

  #drawPicture({ scene, ui, viewport: v }: Frame): void {
    const look = `${ui.brightness} ${ui.contrast} ${ui.gamma}`;
    const key = `${v.scale} ${v.left} ${v.top} ${look}`;
    if (key === this.#pictureKey && this.#picture === scene.picture) return;
    this.#pictureKey = key;
    if (this.#picture !== scene.picture) this.#adjustedKey = "";
    this.#picture = scene.picture;
    const context = this.back.getContext("2d")!;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.back.width, this.back.height);
    if (!scene.picture) return;
    context.setTransform(this.#ratio, 0, 0, this.#ratio, 0, 0);
    // Far in, single pixels are what the person wants to see.
    context.imageSmoothingEnabled = v.scale < 5;
    context.imageSmoothingQuality = "high";
    const source = isIdentity(ui) ? scene.picture : this.#adjust(scene.picture, ui, look);
    context.drawImage(source, v.left, v.top, v.imageWidth * v.scale, v.imageHeight * v.scale);
  }

  #adjust(picture: HTMLCanvasElement | ImageBitmap, ui: UiState, key: string): HTMLCanvasElement {
    if (this.#adjusted && this.#adjustedKey === key) return this.#adjusted;
    const canvas = makeCanvas(picture.width, picture.height);
    const context = canvas.getContext("2d", { willReadFrequently: true })!;
    context.drawImage(picture, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
    applyTable(pixels.data, adjustmentTable(ui));
    context.putImageData(pixels, 0, 0);
    this.#adjusted = canvas;
    this.#adjustedKey = key;
    return canvas;
  }

  #drawOverlay(frame: Frame): void {
    const { scene, shown, ui, viewport: v } = frame;
    const looks = shown.instances.map((i) => [i.id, i.colour, i.visible]);
    const key = JSON.stringify([
      [scene.generation, v.scale, v.left, v.top, shown.active, looks],
      [ui.opacity, ui.outlinesOnly, ui.hidden, ui.heat, ui.highlight],
    ]);
    if (key === this.#overlayKey) return;
    this.#overlayKey = key;
    const context = this.#overlay.getContext("2d")!;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.#overlay.width, this.#overlay.height);
    if (ui.hidden) return;
    context.setTransform(this.#ratio, 0, 0, this.#ratio, 0, 0);
    const heat = ui.heat ? scene.heat : null;
    if (heat) {
      context.imageSmoothingEnabled = true;
      context.drawImage(heat, v.left, v.top, v.imageWidth * v.scale, v.imageHeight * v.scale);
    }
    if (!scene.overlay) return;
    const styles = new Map(shown.instances.filter((i) => i.visible).map((i) => [i.id, i.colour]));
    const fill = heat || ui.outlinesOnly ? 0 : ui.opacity;
    if (scene.overlay.truncated) {
      this.#drawRaster(context, scene.overlay, styles, fill || 0.15, v);
    } else {
      this.#drawInstances(context, scene.overlay, styles, fill, frame);
    }
  }

  #drawInstances(
    context: CanvasRenderingContext2D,
    overlay: Overlay,
    styles: Map<number, string>,
    fill: number,
    { shown, ui, viewport }: Frame,
  ): void {
    context.save();
    const unit = 1 / toLabelSpace(context, overlay, viewport);
    const paths = new Map<number, Path2D>();
    for (const [id, colour] of styles) {
      const path = overlay.path(id, unit / this.#ratio);
      if (!path) continue;
      paths.set(id, path);
      const alpha = id === ui.highlight ? Math.min(1, fill + 0.2) : fill;
      if (alpha <= 0) continue;
      context.fillStyle = withAlpha(colour, alpha);
      context.fill(path, "evenodd");
    }
    context.miterLimit = 3; // mitres are drawn faster than round joins
    const outline = (path: Path2D, id: number) => {
      const colour = styles.get(id)!;
      strokeCased(context, colour, casingFor(colour), id === shown.active ? 2.5 : 2, unit, path);
    };
    // The active one last, so that its line is whole where two instances touch.
    paths.forEach((path, id) => {
      if (id !== shown.active) outline(path, id);
    });
    const last = paths.get(shown.active);
    if (last) outline(last, shown.active);
    context.restore();
  }

  /** For maps too ragged to have outlines: coloured pixels. */
  #drawRaster(
    context: CanvasRenderingContext2D,
    overlay: Overlay,
    styles: Map<number, string>,
    alpha: number,
    v: Viewport,
  ): void {
    const table = new Uint32Array(65536);
    for (const [id, colour] of styles) {
      const [r, g, b] = parseColour(colour);
      table[id] = ((Math.round(alpha * 255) << 24) | (b << 16) | (g << 8) | r) >>> 0;
    }
    const { width, height, labels } = overlay.map;
    const raster = rasterise(labels, width, height, table);
    context.imageSmoothingEnabled = false;
    context.drawImage(raster, v.left, v.top, v.imageWidth * v.scale, v.imageHeight * v.scale);
  }

  #drawGhost(context: CanvasRenderingContext2D, { viewport: v }: Frame, ghost: Overlay): void {
    context.save();
    const unit = 1 / toLabelSpace(context, ghost, v);
    const path = ghost.path(1, unit / this.#ratio) ?? new Path2D();
    context.fillStyle = "rgba(255, 255, 255, 0.14)";
    context.fill(path, "evenodd");
    context.lineWidth = 3 * unit;
    context.strokeStyle = "rgba(10, 12, 16, 0.45)";
    context.stroke(path);
    context.setLineDash([5 * unit, 4 * unit]);
    context.lineWidth = 1.5 * unit;
    context.strokeStyle = "#ffffff";
    context.stroke(path);
    context.restore();
  }
}

/** Let the context draw in label-map pixels; returns CSS pixels per label-map pixel. */
function toLabelSpace(context: CanvasRenderingContext2D, overlay: Overlay, v: Viewport): number {
  const scaleX = (v.imageWidth * v.scale) / overlay.map.width;
  const scaleY = (v.imageHeight * v.scale) / overlay.map.height;
  context.translate(v.left, v.top);
  context.scale(scaleX, scaleY);
  return (scaleX + scaleY) / 2;
}
