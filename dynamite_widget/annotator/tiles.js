/**
 * Thumbnails in a strip or a grid. The kernel says which (`tiles`); pictures are asked for when they
 * are not known yet and come as bytes. A click tells the kernel which picture was meant.
 */

const SIGNS = { done: "✓", skipped: "–", unreadable: "!", todo: "" };

function render({ model, el }) {
  const ended = new AbortController();
  const urls = new Map(); // place -> {version, url}
  const root = document.createElement("div");
  root.className = `dmw-tiles dmw-tiles-${model.get("kind")}`;
  root.setAttribute("role", "list");
  root.setAttribute("aria-label", model.get("label"));
  el.append(root);

  const draw = () => {
    const tiles = model.get("tiles");
    const wanted = [];
    const old = new Map([...root.children].map((node) => [node.dataset.place, node]));
    const nodes = tiles.map((tile) => {
      const node = old.get(String(tile.place)) ?? make(tile);
      fill(node, tile);
      const known = urls.get(tile.place);
      if (known) node.querySelector("img").src = known.url;
      if (known?.version !== tile.version) wanted.push(tile.place);
      return node;
    });
    root.replaceChildren(...nodes);
    const shown = new Set(tiles.map((tile) => tile.place));
    for (const [place, { url }] of urls) {
      if (shown.has(place)) continue;
      URL.revokeObjectURL(url);
      urls.delete(place);
    }
    if (wanted.length) model.send({ type: "want", places: wanted });
    if (model.get("kind") === "strip") {
      root.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  };

  const make = (tile) => {
    const node = document.createElement("button");
    node.type = "button";
    node.className = "dmw-tile";
    node.dataset.place = String(tile.place);
    const image = document.createElement("img");
    image.alt = "";
    const sign = document.createElement("span");
    sign.className = "dmw-tile-sign";
    sign.setAttribute("aria-hidden", "true");
    const name = document.createElement("span");
    name.className = "dmw-tile-name";
    node.append(image, sign, name);
    node.addEventListener("click", () => model.send({ type: "open", place: tile.place }), {
      signal: ended.signal,
    });
    return node;
  };

  const fill = (node, tile) => {
    node.dataset.status = tile.status;
    node.dataset.flagged = tile.flagged ? "1" : "0";
    if (tile.current) node.setAttribute("aria-current", "true");
    else node.removeAttribute("aria-current");
    node.querySelector(".dmw-tile-sign").textContent =
      (tile.flagged ? "⚑" : "") + (SIGNS[tile.status] ?? "");
    // Text, never markup: file names come from anywhere.
    node.querySelector(".dmw-tile-name").textContent = tile.name;
    const state = tile.status + (tile.flagged ? ", flagged" : "");
    node.title = tile.note ? `${tile.name}\n${state}: ${tile.note}` : `${tile.name}\n${state}`;
    node.setAttribute("aria-label", `${tile.name}, ${state}`);
  };

  const receive = (content, buffers) => {
    if (content.type !== "thumbnail") return;
    const known = urls.get(content.place);
    if (known) URL.revokeObjectURL(known.url);
    const url = URL.createObjectURL(new Blob([buffers[0]], { type: "image/jpeg" }));
    urls.set(content.place, { version: content.version, url });
    const image = root.querySelector(`[data-place="${content.place}"] img`);
    if (image) image.src = url;
  };

  model.on("change:tiles", draw);
  model.on("msg:custom", receive);
  draw();
  return () => {
    ended.abort();
    model.off("change:tiles", draw);
    model.off("msg:custom", receive);
    for (const { url } of urls.values()) URL.revokeObjectURL(url);
    root.remove();
  };
}

export default { render };
