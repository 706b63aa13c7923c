/** Commands of keys and toolbar, carried out. */
import type { Actions } from "./actions";
import type { Command } from "./keys";
import type { Link } from "./link";
import type { Store } from "./store";
import type { ToolbarState } from "./toolbar";
import { stepBack, stepBrush, stepOpacity, type Tool, type UiState } from "./ui";
import { type Point, reveal, toStage, wholePicture, zoomAt } from "./viewport";

export interface CommandContext {
  store: Store;
  actions: Actions;
  link: Link;
  say(text: string): void;
  /** Stop a drag or stroke that is under way; true when there was one. */
  cancelGesture(): boolean;
}

/** Commands that make sense without a kernel. */
const PASSIVE = /^(fit|zoom-|opacity-|outlines|hide|keys|look|escape)/;

const FAR_STEP_PX = 40;
const STEP_PX = 6;

export function runCommand(command: Command, context: CommandContext): void {
  const { store } = context;
  if (!store.live && !PASSIVE.test(command)) return;
  if (command.startsWith("move-")) return moveCursor(command, context);
  if (command.startsWith("class-")) {
    return context.actions.setClassByNumber(Number(command.slice(6)));
  }
  if (command.startsWith("tool-")) return setTool(command.slice(5) as Tool, context);
  runPlain(command, context);
}

function runPlain(command: Command, context: CommandContext): void {
  const { store, actions, link, say } = context;
  const { ui, viewport: v } = store;
  switch (command) {
    case "new":
      store.set({ armed: !ui.armed, armedClass: null, tool: paints(ui) ? ui.tool : "click" });
      return say(ui.armed ? "No new instance" : "The next click makes a new instance");
    case "undo":
    case "redo":
    case "reset":
      if (toolbarState(store).disabled.has(command)) return say(`Nothing to ${command}`);
      return actions.send({ type: command });
    case "fit":
      return store.setViewport(wholePicture(v));
    case "zoom-in":
    case "zoom-out": {
      const at = ui.cursor ? toStage(v, ui.cursor.x, ui.cursor.y) : middle(context);
      return store.setViewport(zoomAt(v, command === "zoom-in" ? 1.5 : 1 / 1.5, at.x, at.y));
    }
    case "size-down":
    case "size-up": {
      const longSide = Math.max(v.imageWidth, v.imageHeight);
      store.set(stepBrush(ui, command === "size-up" ? 1 : -1, longSide));
      return say(`Brush radius ${store.ui.brushRadius} pixels`);
    }
    case "opacity-down":
    case "opacity-up":
      store.set(stepOpacity(ui, command === "opacity-up" ? 1 : -1));
      return say(`Opacity ${Math.round(store.ui.opacity * 100)} percent`);
    case "outlines":
      return store.set({ outlinesOnly: !ui.outlinesOnly, hidden: false });
    case "hide":
      return store.set({ hidden: !ui.hidden });
    case "lock":
      return lockActive(context);
    case "heat":
      if (!ui.heat && !store.scene.overlay) return say("There is nothing to doubt yet");
      store.scene.heat = null;
      store.set({ heat: !ui.heat, hidden: false });
      if (store.ui.heat) void link.refreshHeat();
      return;
    case "doubtful":
      return void link.nextDoubtful();
    case "preview":
      store.set({ preview: !store.previewing });
      if (!store.previewing) link.clearPreview();
      return say(store.previewing ? "Preview on" : "Preview off");
    case "keys":
    case "look":
      return store.set({ panel: ui.panel === command ? "none" : command });
    case "escape":
      if (context.cancelGesture()) return;
      store.scene.doubtful = null;
      return store.set(stepBack(ui));
    case "delete": {
      const marker = actions.markerInReach();
      if (marker) actions.removeMarker(marker.key);
      else say("No click here to remove");
      return;
    }
    case "enter":
    case "enter-background":
    case "enter-select":
      return enter(command, context);
  }
}

function paints(ui: UiState): boolean {
  return ui.tool === "brush" || ui.tool === "eraser";
}

function middle({ store }: CommandContext): Point {
  const { stageWidth, stageHeight } = store.viewport;
  return { x: stageWidth / 2, y: stageHeight / 2 };
}

function setTool(tool: Tool, { store, link }: CommandContext): void {
  // The key of the tool in hand puts it away again.
  store.set({ tool: store.ui.tool === tool ? "click" : tool });
  link.clearPreview();
}

function lockActive({ store, actions, say }: CommandContext): void {
  const active = store.shown.instances.find((i) => i.id === store.shown.active);
  if (!active || active.id < 0) return say("No active instance");
  actions.send({ type: "lock", instance: active.id, locked: !active.locked });
  say(`Instance ${active.id} ${active.locked ? "unlocked" : "locked"}`);
}

function moveCursor(command: string, { store, actions, say }: CommandContext): void {
  const [, direction, far] = command.split("-");
  // Steps are screen distances, but never less than one pixel of the picture.
  const size = Math.max(1, Math.round((far ? FAR_STEP_PX : STEP_PX) / store.viewport.scale));
  const dx = direction === "left" ? -size : direction === "right" ? size : 0;
  const dy = direction === "up" ? -size : direction === "down" ? size : 0;
  const cursor = actions.moveCursor(dx, dy);
  store.viewport = reveal(store.viewport, cursor.x, cursor.y);
  store.set({ cursor, hover: null });
  const id = actions.instanceAt(cursor);
  say(`${cursor.x}, ${cursor.y}${id ? `, instance ${id}` : ""}`);
}

function enter(command: Command, { store, actions, say }: CommandContext): void {
  const { cursor, tool } = store.ui;
  if (!cursor) {
    say("Move the crosshair with the arrow keys first");
    store.set({ cursor: actions.moveCursor(0, 0) });
    return;
  }
  if (command === "enter-select") return actions.clickPixel(cursor, "select");
  if (command === "enter-background" || tool === "background") {
    return actions.clickPixel(cursor, "background");
  }
  if (paints(store.ui)) return actions.dab(cursor, tool === "eraser");
  actions.clickPixel(cursor, "object");
}

/** Which toolbar buttons are pressed or greyed out. */
export function toolbarState(store: Store): ToolbarState {
  const { ui, shown } = store;
  const pressed = new Set<Command>([`tool-${ui.tool}`]);
  const flags: [boolean, Command][] = [
    [ui.armed, "new"],
    [ui.hidden, "hide"],
    [ui.outlinesOnly, "outlines"],
    [ui.heat, "heat"],
    [store.previewing, "preview"],
    [ui.panel === "look", "look"],
    [ui.panel === "keys", "keys"],
  ];
  for (const [on, command] of flags) if (on) pressed.add(command);
  const disabled = new Set<Command>();
  const history = store.trait("history", {});
  // With intents on their way the published history is behind: let the kernel decide.
  const idle = store.channel.unanswered === 0;
  if (idle && history.can_undo === false) disabled.add("undo");
  if (idle && history.can_redo === false) disabled.add("redo");
  if (!shown.clicks.length && !shown.instances.length) disabled.add("reset");
  if (!store.scene.overlay) disabled.add("heat").add("doubtful");
  return { pressed, disabled, readOnly: !store.live };
}

/** What the tool in hand expects, for the status line. */
export function toolHint(store: Store): string {
  const { ui, shown } = store;
  if (ui.tabReleased) return "Tab now leaves the picture";
  if (ui.armed) {
    const what = ui.armedClass ? `new instance (${ui.armedClass})` : "new instance";
    return `Click the ${what}`;
  }
  if (ui.tool === "brush") return `Brush, radius ${ui.brushRadius} px`;
  if (ui.tool === "eraser") return `Eraser, radius ${ui.brushRadius} px`;
  if (ui.tool === "background") return "Click what belongs to no instance";
  if (!shown.instances.length) return "Ready: click an object";
  return "";
}
