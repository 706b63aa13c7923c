/**
 * The demo page: the widget's canvas against a kernel inside the page. Options in the address:
 * `theme=dark|light`, `scenario=empty|two|eight|snapshot`, `answer=MS`, `predict=MS`,
 * `width=PX`, `views=2`, `classes=a,b`, `preview=1`, `dead=1` (nobody ever answers).
 */
import widget from "../src/index";
import type { LabelsMessage, SnapshotLabels } from "../src/protocol";
import { FakeKernel } from "./kernel";
import { drawPicture, HEIGHT, PEBBLES, WIDTH } from "./scene";

const query = new URLSearchParams(location.search);
const number = (name: string, fallback: number) => Number(query.get(name) ?? fallback);

async function start() {
  const theme = query.get("theme");
  if (theme) document.documentElement.dataset.theme = theme;
  const kernel = new FakeKernel(await drawPicture(), {
    answerMs: number("answer", 8),
    predictMs: number("predict", 40),
    classes: (query.get("classes") ?? "pebble,shell,driftwood").split(",").filter(Boolean),
    hoverPreview: query.get("preview") === "1",
  });
  const scenario = query.get("scenario") ?? "empty";
  prepare(kernel, scenario);
  if (scenario === "snapshot") await keepSnapshot(kernel);
  if (query.get("dead") === "1") kernel.pause();
  const box = document.getElementById("widgets")!;
  if (query.has("width")) box.style.width = `${number("width", 900)}px`;
  const controllers: AbortController[] = [];
  for (let view = 0; view < number("views", 1); view++) {
    const el = document.createElement("div");
    box.append(el);
    const controller = new AbortController();
    controllers.push(controller);
    // The typed render of anywidget wants more than a stand-in model has.
    widget.render({ model: kernel, el, signal: controller.signal } as never);
  }
  Object.assign(window, {
    demo: { kernel, close: () => controllers.forEach((c) => void c.abort()), PEBBLES },
  });
}

/** Clicks that are there before anyone clicks. */
function prepare(kernel: FakeKernel, scenario: string): void {
  const count = { two: 2, eight: 8, snapshot: 3 }[scenario] ?? 0;
  let seq = 0;
  const send = (fields: object) =>
    kernel.send({ id: `p${++seq}`, view: "prepare", seq, ...fields });
  PEBBLES.slice(0, count).forEach((p, i) => {
    const class_name = i % 3 === 2 ? kernel.traits.classes[1] : kernel.traits.classes[0];
    send({ type: "click", x: p.x - 18, y: p.y + 8, instance: "new", class_name });
  });
  if (count === 8) {
    send({ type: "click", x: 300, y: 190, instance: 1 });
    send({ type: "click", x: 860, y: 390, instance: 0 });
    send({ type: "click", x: 60, y: 90, instance: 0 });
    send({ type: "lock", instance: 4, locked: true });
    send({ type: "set_visible", instance: 6, visible: false });
    send({ type: "select", instance: 5 });
  }
}

/** Keep the state as a saved notebook does, then fall silent. */
async function keepSnapshot(kernel: FakeKernel): Promise<void> {
  const labels = await new Promise<SnapshotLabels>((done) => {
    kernel.on("msg:custom", (message, buffers) => {
      const head = message as LabelsMessage;
      const [lengths, ids] = (buffers as DataView[]).map(toBase64);
      if (head.type === "labels") done({ ...head, lengths: lengths!, ids: ids! });
    });
  });
  const picture = await createImageBitmap(new Blob([kernel.picture]));
  const canvas = document.createElement("canvas");
  canvas.width = 480;
  canvas.height = 320;
  canvas.getContext("2d")!.drawImage(picture, 0, 0, 480, 320);
  kernel.set("snapshot", {
    width: WIDTH,
    height: HEIGHT,
    mime: "image/jpeg",
    thumbnail: canvas.toDataURL("image/jpeg", 0.8).split(",")[1],
    labels,
    clicks: kernel.traits.clicks,
    instances: kernel.traits.instances,
  });
  kernel.pause();
}

function toBase64(view: DataView): string {
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

void start();
