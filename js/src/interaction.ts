/** What gestures on the picture mean. */
import type { Actions } from "./actions";
import type { Clock } from "./channel";
import type { Gesture, Surface } from "./gesture";
import { markerAt } from "./hit";
import type { Link } from "./link";
import type { PointerHooks } from "./pointer";
import type { Store } from "./store";
import { type Point, panBy, toPixel, wholePicture, zoomAt } from "./viewport";

const DOUBLE_CLICK_ZOOM = 2.5;
const HOVER_REST_MS = 60;

/** What the gesture recogniser may ask about the picture. */
export function surfaceOf(store: Store): Surface {
  return {
    tool: () => store.ui.tool,
    panning: () => store.ui.panning || !store.live,
    zoomed: () => !store.viewport.fitted,
    marker: (at, reach) => markerAt(store.shown.clicks, store.viewport, at, reach)?.key ?? null,
  };
}

export function pointerHooks(
  store: Store,
  actions: Actions,
  link: Link,
  clock: Clock,
  pressed: () => void,
): PointerHooks {
  let stopHover = () => {};
  const preview = (at: Point | null) => {
    stopHover();
    const wanted = at && store.live && store.previewing && store.ui.tool === "click";
    const pixel = wanted ? toPixel(store.viewport, at.x, at.y) : null;
    if (!at || !pixel || markerAt(store.shown.clicks, store.viewport, at)) {
      link.clearPreview();
      return;
    }
    stopHover = clock.later(HOVER_REST_MS, () => link.preview(pixel));
  };
  return {
    pressed,
    gesture: (gesture) => {
      if (gesture.type !== "pan" && gesture.type !== "pinch") {
        stopHover();
        link.clearPreview();
      }
      onGesture(gesture, store, actions);
    },
    hover: (at) => {
      store.set({ hover: at });
      preview(at);
    },
    wheelZoom: (factor, at) => {
      link.clearPreview();
      store.setViewport(zoomAt(store.viewport, factor, at.x, at.y));
    },
  };
}

function onGesture(g: Gesture, store: Store, actions: Actions): void {
  const v = store.viewport;
  switch (g.type) {
    case "click":
      return actions.clickAt(g.at, g.as);
    case "remove":
      return actions.removeMarker(g.marker);
    case "tap-marker": {
      const click = store.shown.clicks.find((c) => c.key === g.marker);
      if (click) actions.select(click.instance);
      return;
    }
    case "double":
      if (g.revoke) void actions.revokeClick();
      return store.setViewport(
        v.fitted ? zoomAt(v, DOUBLE_CLICK_ZOOM, g.at.x, g.at.y) : wholePicture(v),
      );
    case "drag":
      return actions.dragMarker(g.marker, g.at, g.phase);
    case "pan":
      return store.setViewport(panBy(v, g.dx, g.dy));
    case "pinch":
      return store.setViewport(panBy(zoomAt(v, g.factor, g.at.x, g.at.y), g.dx, g.dy));
    case "stroke":
      return actions.strokeTo(g.at, g.erase, g.phase);
  }
}
