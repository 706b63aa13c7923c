/** What lies under a point: the marker of a click, or the instance that owns the pixel. No DOM. */
import type { ShownClick } from "./reducer";
import type { LabelMap } from "./rle";
import { type Point, toStage, type Viewport } from "./viewport";

/** The click whose marker is nearest to a stage point, if within `reach` CSS pixels. */
export function markerAt(
  clicks: readonly ShownClick[],
  viewport: Viewport,
  stage: Point,
  reach = 11,
): ShownClick | null {
  let best: ShownClick | null = null;
  let bestDistance = reach;
  for (const click of clicks) {
    const at = toStage(viewport, click.x, click.y);
    const distance = Math.hypot(at.x - stage.x, at.y - stage.y);
    // `<=`: of two markers on one spot the later one lies on top
    if (distance <= bestDistance) {
      best = click;
      bestDistance = distance;
    }
  }
  return best;
}

/** Instance id at a full-resolution pixel, 0 for none; the label map may be a reduced copy. */
export function instanceAt(
  map: LabelMap | null,
  pixel: Point,
  imageWidth: number,
  imageHeight: number,
): number {
  if (!map) return 0;
  const column = Math.min(Math.floor(((pixel.x + 0.5) * map.width) / imageWidth), map.width - 1);
  const row = Math.min(Math.floor(((pixel.y + 0.5) * map.height) / imageHeight), map.height - 1);
  if (column < 0 || row < 0) return 0;
  return map.labels[row * map.width + column] ?? 0;
}
