/**
 * Where the picture lies on the stage: scale and offset, zooming, panning, coordinates.
 * Pure functions on frozen values. Stage units are CSS pixels, picture units full-resolution
 * pixels; pixel (x, y) covers the square from (x, y) to (x + 1, y + 1).
 */

export interface Viewport {
  readonly stageWidth: number;
  readonly stageHeight: number;
  readonly imageWidth: number;
  readonly imageHeight: number;
  /** CSS pixels per picture pixel. */
  readonly scale: number;
  /** Stage position of the picture's upper left corner. */
  readonly left: number;
  readonly top: number;
  /** True while the picture is shown whole and follows the size of the stage. */
  readonly fitted: boolean;
}

export interface Point {
  x: number;
  y: number;
}

const MAX_SCALE = 40;

export const EMPTY_VIEWPORT: Viewport = {
  stageWidth: 1,
  stageHeight: 1,
  imageWidth: 1,
  imageHeight: 1,
  scale: 1,
  left: 0,
  top: 0,
  fitted: true,
};

/** Scale at which the whole picture is just visible. */
export function fitScale(v: Viewport): number {
  return Math.min(v.stageWidth / v.imageWidth, v.stageHeight / v.imageHeight);
}

/** The whole picture, centred. */
export function wholePicture(v: Viewport): Viewport {
  const scale = fitScale(v);
  return {
    ...v,
    scale,
    left: (v.stageWidth - v.imageWidth * scale) / 2,
    top: (v.stageHeight - v.imageHeight * scale) / 2,
    fitted: true,
  };
}

/** Keep the picture on the stage: centred where it is smaller, without gaps where it is larger. */
export function clamp(v: Viewport): Viewport {
  const width = v.imageWidth * v.scale;
  const height = v.imageHeight * v.scale;
  return {
    ...v,
    left: clampAxis(v.left, width, v.stageWidth),
    top: clampAxis(v.top, height, v.stageHeight),
  };
}

function clampAxis(offset: number, size: number, stage: number): number {
  if (size <= stage) return (stage - size) / 2;
  return Math.min(0, Math.max(stage - size, offset));
}

/** Zoom by `factor` with the stage point (x, y) staying where it is. */
export function zoomAt(v: Viewport, factor: number, x: number, y: number): Viewport {
  const smallest = fitScale(v);
  const scale = Math.min(Math.max(v.scale * factor, smallest), Math.max(MAX_SCALE, smallest));
  if (scale <= smallest * 1.0001) return wholePicture(v);
  const ratio = scale / v.scale;
  return clamp({
    ...v,
    scale,
    left: x - (x - v.left) * ratio,
    top: y - (y - v.top) * ratio,
    fitted: false,
  });
}

export function panBy(v: Viewport, dx: number, dy: number): Viewport {
  return v.fitted ? v : clamp({ ...v, left: v.left + dx, top: v.top + dy });
}

/** New stage size: a fitted picture stays fitted, otherwise the centre stays in the centre. */
export function resizeStage(v: Viewport, width: number, height: number): Viewport {
  const stageWidth = Math.max(1, width);
  const stageHeight = Math.max(1, height);
  const moved = {
    ...v,
    stageWidth,
    stageHeight,
    left: v.left + (stageWidth - v.stageWidth) / 2,
    top: v.top + (stageHeight - v.stageHeight) / 2,
  };
  return v.fitted || v.scale <= fitScale(moved) ? wholePicture(moved) : clamp(moved);
}

/** New picture size; starts fitted. */
export function resizeImage(v: Viewport, width: number, height: number): Viewport {
  return wholePicture({ ...v, imageWidth: Math.max(1, width), imageHeight: Math.max(1, height) });
}

/** Stage point to picture coordinates (not rounded, may lie outside). */
export function toImage(v: Viewport, x: number, y: number): Point {
  return { x: (x - v.left) / v.scale, y: (y - v.top) / v.scale };
}

/** Stage point to the picture pixel under it, or null beside the picture. */
export function toPixel(v: Viewport, x: number, y: number): Point | null {
  const p = toImage(v, x, y);
  const pixel = { x: Math.floor(p.x), y: Math.floor(p.y) };
  const inside = pixel.x >= 0 && pixel.y >= 0 && pixel.x < v.imageWidth && pixel.y < v.imageHeight;
  return inside ? pixel : null;
}

/** Stage point to the nearest picture pixel. */
export function toNearestPixel(v: Viewport, x: number, y: number): Point {
  const p = toImage(v, x, y);
  return clampPixel(v, { x: Math.floor(p.x), y: Math.floor(p.y) });
}

export function clampPixel(v: Viewport, p: Point): Point {
  return {
    x: Math.min(Math.max(p.x, 0), v.imageWidth - 1),
    y: Math.min(Math.max(p.y, 0), v.imageHeight - 1),
  };
}

/** Stage position of the middle of picture pixel (x, y). */
export function toStage(v: Viewport, x: number, y: number): Point {
  return { x: v.left + (x + 0.5) * v.scale, y: v.top + (y + 0.5) * v.scale };
}

/** Bring pixel (x, y) into view with a margin, moving as little as possible. */
export function reveal(v: Viewport, x: number, y: number, margin = 32): Viewport {
  const p = toStage(v, x, y);
  const dx = shiftInto(p.x, margin, v.stageWidth - margin);
  const dy = shiftInto(p.y, margin, v.stageHeight - margin);
  return panBy(v, dx, dy);
}

function shiftInto(at: number, low: number, high: number): number {
  if (high < low) return 0;
  if (at < low) return low - at;
  return at > high ? high - at : 0;
}

/** Centre a circle of the picture so that it fills about half of the stage. */
export function focusOn(v: Viewport, x: number, y: number, radius: number): Viewport {
  const wanted = Math.min(v.stageWidth, v.stageHeight) / Math.max(8 * radius, 32);
  const scale = Math.min(Math.max(wanted, fitScale(v)), 8);
  if (scale <= fitScale(v) * 1.0001) return wholePicture(v);
  return clamp({
    ...v,
    scale,
    left: v.stageWidth / 2 - (x + 0.5) * scale,
    top: v.stageHeight / 2 - (y + 0.5) * scale,
    fitted: false,
  });
}
