/** What is drawn in front of the overlays: markers, strokes, crosshair, brush, doubtful region. */
import { inkOn, withAlpha } from "./colour";
import { markerAt } from "./hit";
import type { Frame } from "./painter";
import { PROVISIONAL_COLOUR, type ShownClick } from "./reducer";
import type { Stroke } from "./scene";
import { type Point, toStage, type Viewport } from "./viewport";

const RADIUS = 8.5;
const DARK = "rgba(10, 12, 16, 0.6)";
const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";

export function drawFrontDetails(context: CanvasRenderingContext2D, frame: Frame): void {
  for (const stroke of frame.scene.strokes) drawStroke(context, stroke, frame.viewport);
  if (frame.scene.doubtful) drawDoubtful(context, frame, frame.scene.doubtful);
  drawMarkers(context, frame);
  if (frame.ui.cursor && frame.focused) drawCrosshair(context, frame.viewport, frame.ui.cursor);
  drawBrush(context, frame);
}

function drawMarkers(context: CanvasRenderingContext2D, frame: Frame): void {
  const { shown, scene, viewport, ui, now } = frame;
  const instances = new Map(shown.instances.map((i) => [i.id, i]));
  const free = !scene.dragged && ui.tool !== "brush" && ui.tool !== "eraser";
  const hovered = ui.hover && free ? markerAt(shown.clicks, viewport, ui.hover)?.key : undefined;
  for (const click of shown.clicks) {
    const owner = instances.get(click.instance);
    if (owner && !owner.visible) continue;
    const dragged = scene.dragged?.key === click.key ? scene.dragged.at : null;
    const at = toStage(viewport, dragged?.x ?? click.x, dragged?.y ?? click.y);
    const emphasised = click.key === hovered || dragged !== null;
    drawMarker(context, click, at, owner?.colour || PROVISIONAL_COLOUR, emphasised, now);
  }
}

function drawMarker(
  context: CanvasRenderingContext2D,
  click: ShownClick,
  at: Point,
  colour: string,
  emphasised: boolean,
  now: number,
): void {
  const background = click.instance === 0;
  const radius = RADIUS + (emphasised ? 2 : 0);
  const pulse = click.pending ? 0.5 + 0.5 * Math.sin(now / 160) : 1;
  context.save();
  if (click.pending) {
    outline(context, at, radius + 3 + 3 * pulse, background);
    context.strokeStyle = `rgba(255, 255, 255, ${0.75 * (1 - pulse)})`;
    context.lineWidth = 1.5;
    context.stroke();
  }
  outline(context, at, radius + 2, background);
  context.fillStyle = DARK;
  context.fill();
  outline(context, at, radius + 1, background);
  context.fillStyle = "#ffffff";
  context.fill();
  outline(context, at, radius - 1, background);
  // Hollow until the kernel has answered: the rim alone carries the colour.
  const body = background ? "#23272e" : colour;
  if (click.pending) {
    context.strokeStyle = body;
    context.lineWidth = 2;
    context.stroke();
  } else {
    context.fillStyle = body;
    context.fill();
  }
  const ink = click.pending ? "#14161a" : background ? "#ffffff" : inkOn(colour);
  drawSign(context, click, at, ink);
  context.restore();
}

/** Circle for an instance, rounded square for the background. */
function outline(context: CanvasRenderingContext2D, at: Point, radius: number, square: boolean) {
  context.beginPath();
  if (square) {
    const r = radius * 0.88;
    context.roundRect(at.x - r, at.y - r, 2 * r, 2 * r, 3);
  } else {
    context.arc(at.x, at.y, radius, 0, 2 * Math.PI);
  }
}

/** Number of the instance; a minus on background clicks, a plus while the number is unknown. */
function drawSign(context: CanvasRenderingContext2D, click: ShownClick, at: Point, ink: string) {
  if (click.instance > 0) {
    const text = String(click.instance);
    const size = text.length > 2 ? 8 : 10.5;
    context.font = `600 ${size}px ${FONT}`;
    context.textAlign = "center";
    context.textBaseline = "alphabetic";
    context.fillStyle = ink;
    context.fillText(text, at.x, at.y + size * 0.36);
    return;
  }
  context.strokeStyle = ink;
  context.lineWidth = 2;
  context.lineCap = "round";
  context.beginPath();
  context.moveTo(at.x - 3, at.y);
  context.lineTo(at.x + 3, at.y);
  if (click.instance < 0) {
    context.moveTo(at.x, at.y - 3);
    context.lineTo(at.x, at.y + 3);
  }
  context.stroke();
}

function drawStroke(context: CanvasRenderingContext2D, stroke: Stroke, v: Viewport): void {
  const first = stroke.points[0];
  if (!first) return;
  context.save();
  context.lineCap = "round";
  context.lineJoin = "round";
  context.lineWidth = Math.max(1, (2 * stroke.radius + 1) * v.scale);
  context.strokeStyle = stroke.erase ? "rgba(255, 255, 255, 0.5)" : withAlpha(stroke.colour, 0.6);
  context.beginPath();
  const start = toStage(v, first.x, first.y);
  context.moveTo(start.x, start.y);
  if (stroke.points.length === 1) context.lineTo(start.x + 0.01, start.y);
  for (const point of stroke.points) {
    const at = toStage(v, point.x, point.y);
    context.lineTo(at.x, at.y);
  }
  context.stroke();
  context.restore();
}

/** Stroke a line with a wider one under it, which separates it from any background. */
export function strokeCased(
  context: CanvasRenderingContext2D,
  colour: string,
  casing: string,
  width: number,
  unit = 1,
  path?: Path2D,
): void {
  for (const [style, wide] of [
    [casing, width + 1.5],
    [colour, width],
  ] as const) {
    context.strokeStyle = style;
    context.lineWidth = wide * unit;
    if (path) context.stroke(path);
    else context.stroke();
  }
}

function drawCrosshair(context: CanvasRenderingContext2D, v: Viewport, cursor: Point): void {
  const at = toStage(v, cursor.x, cursor.y);
  context.save();
  context.lineCap = "round";
  context.beginPath();
  for (const [dx, dy] of [
    [1, 0],
    [-1, 0],
    [0, 1],
    [0, -1],
  ] as const) {
    context.moveTo(at.x + dx * 5, at.y + dy * 5);
    context.lineTo(at.x + dx * 17, at.y + dy * 17);
  }
  strokeCased(context, "#ffffff", DARK, 1.5);
  context.fillStyle = "#ffffff";
  context.fillRect(at.x - 1, at.y - 1, 2, 2);
  context.restore();
}

function drawBrush(context: CanvasRenderingContext2D, { ui, viewport, shown }: Frame): void {
  if ((ui.tool !== "brush" && ui.tool !== "eraser") || !ui.hover || ui.panning) return;
  const colour = shown.instances.find((i) => i.id === shown.active)?.colour ?? "#ffffff";
  const radius = Math.max(2, (ui.brushRadius + 0.5) * viewport.scale);
  const { x, y } = ui.hover;
  context.save();
  if (ui.tool === "eraser") context.setLineDash([4, 4]);
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  strokeCased(context, ui.tool === "eraser" ? "#ffffff" : colour, DARK, 1.5);
  context.restore();
}

function drawDoubtful(
  context: CanvasRenderingContext2D,
  { viewport, now }: Frame,
  region: { x: number; y: number; radius: number },
): void {
  const at = toStage(viewport, region.x, region.y);
  const radius = Math.max(16, region.radius * viewport.scale) + 2 * Math.sin(now / 250);
  context.save();
  context.setLineDash([7, 5]);
  context.lineCap = "round";
  context.beginPath();
  context.arc(at.x, at.y, radius, 0, 2 * Math.PI);
  strokeCased(context, "#ffd866", DARK, 2);
  context.restore();
}
