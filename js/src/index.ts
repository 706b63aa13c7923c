/** Entry point for anywidget: one `View` per rendered view, gone when its signal aborts. */
import type { RenderProps } from "@anywidget/types";
import type { WidgetModel } from "./protocol";
import { View } from "./view";

function render({ model, el, signal }: RenderProps): () => void {
  // Older hosts pass no signal and call the returned function instead: either ends the view.
  const controller = new AbortController();
  const ends = signal ? AbortSignal.any([signal, controller.signal]) : controller.signal;
  const view = new View(model as unknown as WidgetModel, ends);
  el.append(view.root);
  view.start();
  return () => {
    controller.abort();
    view.root.remove();
  };
}

export default { render };
