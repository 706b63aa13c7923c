/**
 * What lies on the canvas besides the published state: the picture, the last label map with its
 * outlines, heat map, ghost, strokes. Filled by `link.ts`, drawn by the painters.
 */
import { type Contours, thin, traceContours } from "./contour";
import type { LabelMap } from "./rle";
import type { Point } from "./viewport";

/** Outlines stay this close to the borders of the label map, in pixels of it or of the screen. */
const TOLERANCE_PX = 0.45;

/** A label map made ready for drawing. */
export class Overlay {
  readonly contours: Contours;
  readonly truncated: boolean;
  #paths = new Map<number, Path2D>();
  #pixel = 0;

  constructor(readonly map: LabelMap) {
    this.contours = traceContours(map);
    this.truncated = this.contours.truncated;
  }

  /** Outline of one instance in label-map pixels; `pixel` is the size of a screen pixel in them. */
  path(id: number, pixel: number): Path2D | undefined {
    if (pixel !== this.#pixel) this.#paths.clear();
    this.#pixel = pixel;
    let path = this.#paths.get(id);
    const loops = this.contours.loops.get(id);
    if (!path && loops) {
      path = new Path2D();
      for (const loop of loops) addLoop(path, thin(loop, TOLERANCE_PX * Math.max(1, pixel)), pixel);
      this.#paths.set(id, path);
    }
    return path;
  }
}

/** Corners of enlarged pictures are rounded by at most this many label-map pixels. */
const ROUNDING_PX = 1.5;

function addLoop(path: Path2D, loop: readonly number[], pixel: number): void {
  const size = loop.length;
  for (let i = 0; i < size; i += 2) {
    const x = loop[i]!;
    const y = loop[i + 1]!;
    if (pixel > 1) {
      // Rounding would be smaller than the screen shows, and curves cost time.
      if (i) path.lineTo(x, y);
      else path.moveTo(x, y);
      continue;
    }
    const towards = (other: number): [number, number] => {
      const dx = loop[other]! - x;
      const dy = loop[other + 1]! - y;
      const part = Math.min(0.5, ROUNDING_PX / Math.hypot(dx, dy));
      return [x + dx * part, y + dy * part];
    };
    const start = towards((i + size - 2) % size);
    if (i) path.lineTo(...start);
    else path.moveTo(...start);
    path.quadraticCurveTo(x, y, ...towards((i + 2) % size));
  }
  path.closePath();
}

export interface Stroke {
  points: Point[];
  radius: number;
  erase: boolean;
  colour: string;
  /** Revision that contains it, once the kernel has answered. */
  revision?: number;
}

export interface Scene {
  picture: HTMLCanvasElement | ImageBitmap | null;
  overlay: Overlay | null;
  heat: HTMLCanvasElement | null;
  ghost: Overlay | null;
  /** The stroke being drawn and those that the kernel has not answered yet. */
  strokes: Set<Stroke>;
  /** Marker being dragged and where it is. */
  dragged: { key: string; at: Point } | null;
  /** The doubtful region that Tab jumped to. */
  doubtful: { x: number; y: number; radius: number } | null;
  /** Counts changes that need the overlay drawn again. */
  generation: number;
}

export function emptyScene(): Scene {
  return {
    picture: null,
    overlay: null,
    heat: null,
    ghost: null,
    strokes: new Set(),
    dragged: null,
    doubtful: null,
    generation: 0,
  };
}

/** Canvas of a size in device pixels. */
export function makeCanvas(width: number, height: number): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

/** One-byte-per-pixel map to a canvas, through a table of packed RGBA colours. */
export function rasterise(
  values: Uint8Array | Uint16Array,
  width: number,
  height: number,
  table: Uint32Array,
): HTMLCanvasElement {
  const canvas = makeCanvas(width, height);
  const context = canvas.getContext("2d")!;
  const image = context.createImageData(width, height);
  const packed = new Uint32Array(image.data.buffer);
  for (let at = 0; at < packed.length; at++) packed[at] = table[values[at]!] ?? 0;
  context.putImageData(image, 0, 0);
  return canvas;
}
