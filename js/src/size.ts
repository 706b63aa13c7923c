/** Sizes: the stage follows the width of the cell and the shape of the picture. */
import type { Painter } from "./painter";
import type { Store } from "./store";
import { resizeStage } from "./viewport";

/** Below this width (CSS pixels) the instance list drops under the picture. */
const NARROW_PX = 620;
const MIN_HEIGHT_PX = 200;

/** Height of the stage for a width and a picture. Pure. */
export function stageHeight(
  width: number,
  imageWidth: number,
  imageHeight: number,
  windowHeight: number,
): number {
  const largest = Math.max(320, Math.min(760, 0.72 * windowHeight));
  return Math.round(Math.min(Math.max((width * imageHeight) / imageWidth, MIN_HEIGHT_PX), largest));
}

/** Keeps stage, canvases and viewport in step with the cell; returns a function that measures now. */
export function observeSize(
  root: HTMLElement,
  stage: HTMLElement,
  painter: Painter,
  store: Store,
  signal: AbortSignal,
): () => void {
  const measure = () => {
    if (signal.aborted) return;
    root.classList.toggle("dmw-narrow", root.clientWidth > 0 && root.clientWidth < NARROW_PX);
    const width = stage.clientWidth;
    if (!width) return; // not in the page, or hidden
    const { imageWidth, imageHeight } = store.viewport;
    const known = store.scene.picture !== null;
    const shape = known ? [imageWidth, imageHeight] : infoShape(store);
    const height = stageHeight(width, shape[0]!, shape[1]!, window.innerHeight);
    stage.style.height = `${height}px`;
    root.style.setProperty("--dmw-stage-height", `${height}px`);
    painter.resize(width, height, window.devicePixelRatio || 1);
    store.setViewport(resizeStage(store.viewport, width, height));
  };
  const observer = new ResizeObserver(measure);
  observer.observe(root);
  observer.observe(stage);
  signal.addEventListener("abort", () => observer.disconnect(), { once: true });
  window.addEventListener("resize", measure, { signal });
  watchDensity(measure, signal);
  measure();
  return measure;
}

function infoShape({ imageInfo }: Store): [number, number] {
  return [imageInfo.width || 3, imageInfo.height || 2];
}

/** Moving to another screen changes the pixel density without any resize. */
function watchDensity(measure: () => void, signal: AbortSignal): void {
  const media = matchMedia(`(resolution: ${window.devicePixelRatio}dppx)`);
  const changed = () => {
    measure();
    watchDensity(measure, signal);
  };
  media.addEventListener("change", changed, { once: true, signal });
}
