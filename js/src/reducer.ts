/**
 * What the person should see: the published state with the unanswered intents applied on top.
 * Pure, so an intent that the kernel refuses simply disappears again. Masks are never guessed.
 */
import type { ClickRecord, InstanceRecord, InstanceRef, Intent } from "./protocol";

/** An intent on its way. `seq` is its number within this view. */
export interface Pending {
  readonly seq: number;
  readonly intent: Intent;
  /** Largest click time that was known when the intent was made. */
  readonly sinceT: number;
  /** True once the kernel said ok and only the traits are still on their way. */
  readonly settled: boolean;
}

export interface ShownClick extends ClickRecord {
  /** Stable name of the marker. */
  key: string;
  pending: boolean;
}

export interface ShownInstance extends InstanceRecord {
  pending: boolean;
}

export interface Published {
  clicks: readonly ClickRecord[];
  instances: readonly InstanceRecord[];
  active: number;
}

export interface Shown {
  clicks: ShownClick[];
  instances: ShownInstance[];
  active: number;
}

/** Colour of an instance whose real colour only the kernel knows yet. */
export const PROVISIONAL_COLOUR = "#9aa3af";

/** Fold the pending intents, in order, over the published state. */
export function project(published: Published, pending: readonly Pending[]): Shown {
  const shown: Shown = {
    clicks: published.clicks.map((c) => ({ ...c, key: `t${c.t}`, pending: false })),
    instances: published.instances.map((i) => ({ ...i, pending: false })),
    active: published.active,
  };
  for (const item of pending) applyPending(shown, item);
  return shown;
}

/** True when the published clicks already contain what a click intent asked for. */
export function clickArrived(item: Pending, clicks: readonly ClickRecord[]): boolean {
  const { intent } = item;
  if (intent.type !== "click") return true;
  return clicks.some((c) => sameClick(c, item, intent.x, intent.y, intent.instance));
}

function sameClick(c: ClickRecord, item: Pending, x: number, y: number, ref: InstanceRef) {
  return (
    c.t > item.sinceT &&
    c.x === x &&
    c.y === y &&
    (typeof ref === "number" ? c.instance === ref : c.instance !== 0)
  );
}

/** Number under which an instance is shown that has no id yet. */
function provisionalId(ref: InstanceRef, seq: number): number {
  if (typeof ref === "number") return ref;
  return ref === "new" ? -seq : -ref.after;
}

function addProvisional(shown: Shown, id: number, className: string | undefined) {
  if (!shown.instances.some((i) => i.id === id)) {
    shown.instances.push({
      id,
      class_name: className ?? null,
      colour: PROVISIONAL_COLOUR,
      area: null,
      score: null,
      visible: true,
      locked: false,
      clicks: 0,
      pending: true,
    });
  }
  shown.active = id;
}

function patchInstance(shown: Shown, id: number, change: Partial<ShownInstance>) {
  shown.instances = shown.instances.map((i) => (i.id === id ? { ...i, ...change } : i));
}

function applyPending(shown: Shown, item: Pending) {
  const { intent, seq } = item;
  switch (intent.type) {
    case "click": {
      const arrived = shown.clicks.find((c) =>
        sameClick(c, item, intent.x, intent.y, intent.instance),
      );
      if (arrived) {
        arrived.pending = !item.settled;
        break;
      }
      const id = provisionalId(intent.instance, seq);
      if (intent.instance === "new") addProvisional(shown, id, intent.class_name);
      const { x, y } = intent;
      shown.clicks.push({ t: -seq, x, y, instance: id, key: `s${seq}`, pending: true });
      break;
    }
    case "move_click":
      shown.clicks = shown.clicks.map((c) =>
        c.t === intent.t ? { ...c, x: intent.x, y: intent.y, pending: !item.settled } : c,
      );
      break;
    case "remove_click":
      shown.clicks = shown.clicks.filter((c) => c.t !== intent.t);
      break;
    case "new_instance":
      addProvisional(shown, -seq, intent.class_name);
      break;
    case "remove_instance":
      shown.instances = shown.instances.filter((i) => i.id !== intent.instance);
      shown.clicks = shown.clicks.filter((c) => c.instance !== intent.instance);
      if (shown.active === intent.instance) shown.active = 0;
      break;
    case "set_class":
      patchInstance(shown, provisionalId(intent.instance, seq), { class_name: intent.class_name });
      break;
    case "select":
      shown.active = intent.instance;
      break;
    case "lock":
      patchInstance(shown, intent.instance, { locked: intent.locked });
      break;
    case "set_visible":
      patchInstance(shown, intent.instance, { visible: intent.visible });
      break;
    case "reset":
      shown.clicks = [];
      shown.instances = [];
      shown.active = 0;
      break;
    case "paint": // masks are the kernel's; the stroke itself is drawn until it answers
    case "undo":
    case "redo":
      break;
  }
}
