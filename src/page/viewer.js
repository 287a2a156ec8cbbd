// Draws one film on a canvas: zoom, brightness and contrast, heat map, outlines. It asks nothing of the server.
// Places are in the film's own pixels; a view is the film's place in the middle of a pane, and screen pixels for each of its.

const LARGEST_ZOOM = 16; // screen pixels for each pixel of the film
const STRIP = 1024; // rows that are taken from a picture at a time, to need less memory
const EIGHT_BITS = { low: 0, step: 1, centre: 128, width: 256, photometric: "MONOCHROME2" };
const between = (low, value, high) => Math.max(low, Math.min(high, value));

// The grey values or colours of a picture, with halves, quarters … of it for small zooms.
export class Pixels {
  // levels: as the header X-Grey-Levels has them; null: 8 bits
  constructor(source, levels) {
    const { width, height } = source;
    this.levels = levels ?? EIGHT_BITS;
    const canvas = new OffscreenCanvas(width, Math.min(STRIP, height));
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const size = width * height;
    const [blue, red, green] = [size, levels ? 0 : size, levels ? 0 : size].map((length) => new Uint8Array(length));
    const numbers = new Uint16Array(levels ? size : 0);
    let colours = false;
    for (let top = 0; top < height; top += STRIP) {
      const rows = Math.min(STRIP, height - top);
      context.drawImage(source, 0, top, width, rows, 0, 0, width, rows);
      const { data } = context.getImageData(0, 0, width, rows);
      const end = data.length;
      for (let from = 0, to = top * width; from < end; from += 4, to += 1) {
        blue[to] = data[from + 2];
        if (levels) numbers[to] = (data[from] << 8) | data[from + 1];
        else {
          red[to] = data[from];
          green[to] = data[from + 1];
          colours ||= red[to] !== blue[to] || green[to] !== blue[to];
        }
      }
    }
    // With levels, blue is what the file says is shown, worked out by the program.
    const shown = colours ? [red, green, blue] : [blue];
    const values = levels ? [numbers] : shown;
    this.sizes = [{ width, height, values, shown }];
  }

  // The smallest size that still has a pixel for each of the screen's.
  at(zoom) {
    const wanted = between(0, Math.floor(Math.log2(1 / zoom)), 12);
    while (this.sizes.length <= wanted) {
      const last = this.sizes.at(-1);
      if (Math.min(last.width, last.height) < 64) break;
      this.sizes.push(halved(last));
    }
    return this.sizes[Math.min(wanted, this.sizes.length - 1)];
  }
}

function halved({ width, height, values, shown }) {
  const across = width >> 1;
  const down = height >> 1;
  const half = (plane) => {
    const smaller = new plane.constructor(across * down);
    for (let row = 0, to = 0; row < down; row += 1) {
      for (let column = 0, from = 2 * row * width; column < across; column += 1, from += 2, to += 1) {
        smaller[to] = (plane[from] + plane[from + 1] + plane[from + width] + plane[from + width + 1] + 2) >> 2;
      }
    }
    return smaller;
  };
  const halves = values.map(half);
  return { width: across, height: down, values: halves, shown: shown === values ? halves : shown.map(half) };
}

// Whether a canvas gives back what was put on it: some browsers add noise, so that nobody can recognise them by it.
export function isExact() {
  const context = new OffscreenCanvas(64, 64).getContext("2d", { willReadFrequently: true });
  const put = context.createImageData(64, 64);
  put.data.forEach((_, at) => (put.data[at] = at % 4 === 3 ? 255 : at >> 4));
  context.putImageData(put, 0, 0);
  const got = context.getImageData(0, 0, 64, 64).data;
  return put.data.every((value, at) => value === got[at]);
}

// A film as the program describes it: its picture, maps, outline and frames; null where it has no picture.
export async function filmOf(described) {
  if (!described) return null;
  const load = async (source) => {
    const image = new Image();
    image.src = source;
    await image.decode();
    return image;
  };
  const { source, maps, lungs } = described;
  const preview = new Pixels(await load(source), null);
  return {
    ...described,
    maps: await Promise.all(maps.map(async (map) => ({ ...map, image: await load(map.source) }))),
    lungs: lungs && new Path2D(lungs),
    pixels: preview, // at most 1,024 of them along a side, until the others are there
    preview,
    window: null, // centre and width; null: as the file says
    inverted: false,
    view: null, // null: the whole film
  };
}

// For each value an opaque grey: red, green and blue alike, in the order of bytes that ImageData has.
function greys({ window: chosen, inverted, pixels }) {
  const { low, step, photometric } = pixels.levels;
  const sixteen = Boolean(chosen && pixels.sizes[0].values[0] instanceof Uint16Array);
  const flipped = inverted !== (sixteen && photometric === "MONOCHROME1");
  const unit = Math.min(1, step);
  return Uint32Array.from({ length: sixteen ? 65536 : 256 }, (_, value) => {
    // The linear function of DICOM, PS3.3 C.11.2.1.2: half a unit off the centre, a whole one off the width.
    const share = chosen
      ? (low + value * step - chosen.centre + unit / 2) / Math.max(chosen.width - unit, 1e-9) + 0.5
      : value / 255;
    const grey = Math.round(255 * between(0, flipped ? 1 - share : share, 1));
    return 0xff000000 | (grey << 16) | (grey << 8) | grey;
  });
}

export class Viewer {
  map = "over";
  strength = 0.5;
  whose = null; // the model whose map is shown; null: the first that has one
  lungs = true;
  windowing = false; // whether dragging changes the window
  film = null;
  #canvas;
  #context;
  #told;
  #tile = new OffscreenCanvas(1, 1);
  #tiled = ""; // what is on the tile
  #pending = 0;
  #pointers = new Map();

  // told: called after every drawing
  constructor(canvas, told) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d", { alpha: false });
    this.#told = told;
    new ResizeObserver(() => this.#resize()).observe(canvas);
    for (const [kind, does] of Object.entries(this.#heard)) canvas.addEventListener(kind, does, { passive: false });
  }

  show(film) {
    this.film = film;
    this.#tiled = "";
    this.redraw();
  }

  redraw() {
    this.#pending ||= requestAnimationFrame(() => {
      this.#pending = 0;
      if (this.film) this.#draw();
      this.#told();
    });
  }

  // ---------------------------------------------------------------------------------------------------------- state

  get heat() {
    return this.film?.maps.find((each) => each.model === this.whose) ?? this.film?.maps[0];
  }

  get window() {
    return this.film.window ?? this.film.pixels.levels;
  }

  get view() {
    const { width, height, view } = this.film;
    return view ?? { x: width / 2, y: height / 2, zoom: this.#fitting };
  }

  get #fitting() {
    const [pane] = this.#panes();
    return Math.min(pane.width / this.film.width, pane.height / this.film.height, LARGEST_ZOOM);
  }

  fit() {
    this.film.view = null;
    this.redraw();
  }

  // Zooms so that what lies under a place of the canvas (screen pixels; by default the middle of a pane) stays there.
  zoom(factor, x = this.#panes()[0].width / 2, y = this.#panes()[0].height / 2) {
    const { view } = this;
    const pane = this.#panes().findLast((each) => x >= each.x && y >= each.y);
    const zoom = between(Math.min(this.#fitting, 1) / 2, view.zoom * factor, LARGEST_ZOOM);
    const [dx, dy] = [x - pane.x - pane.width / 2, y - pane.y - pane.height / 2];
    this.#look(view.x + dx / view.zoom - dx / zoom, view.y + dy / view.zoom - dy / zoom, zoom);
  }

  pan(dx, dy) {
    const { x, y, zoom } = this.view;
    this.#look(x - dx / zoom, y - dy / zoom, zoom);
  }

  // centre and width in the file's own values; null: as the file says
  setWindow(centre, width) {
    const valid = Number.isFinite(centre) && Number.isFinite(width);
    this.film.window = valid ? { centre, width: Math.max(width, this.film.pixels.levels.step) } : null;
    this.redraw();
  }

  // Shares of the width by which centre and width change.
  adjust(centre, width) {
    const now = this.window;
    this.setWindow(now.centre + centre * now.width, now.width * Math.exp(width));
  }

  #look(x, y, zoom) {
    const { width, height } = this.film;
    this.film.view = { x: between(0, x, width), y: between(0, y, height), zoom };
    this.redraw();
  }

  // -------------------------------------------------------------------------------------------------------- pointers

  #resize() {
    const { clientWidth, clientHeight } = this.#canvas;
    const scale = window.devicePixelRatio || 1;
    this.#canvas.width = Math.max(1, Math.round(clientWidth * scale));
    this.#canvas.height = Math.max(1, Math.round(clientHeight * scale));
    if (this.film) this.#draw(); // at once: a canvas is black after its size was set
    this.#told();
  }

  #place({ offsetX, offsetY }) {
    const scale = this.#canvas.width / this.#canvas.clientWidth;
    return [offsetX * scale, offsetY * scale];
  }

  #heard = {
    wheel: (event) => {
      if (!this.film) return;
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? 1 : 33;
      this.zoom(Math.exp(-0.0015 * lines * event.deltaY), ...this.#place(event));
    },
    contextmenu: (event) => event.preventDefault(),
    pointerdown: (event) => {
      this.#canvas.setPointerCapture(event.pointerId);
      this.#pointers.set(event.pointerId, { place: this.#place(event), right: event.button === 2 });
    },
    pointerup: ({ pointerId }) => this.#pointers.delete(pointerId),
    pointercancel: ({ pointerId }) => this.#pointers.delete(pointerId),
    pointermove: (event) => {
      const pointer = this.#pointers.get(event.pointerId);
      if (!pointer || !this.film) return;
      const [[x, y], [oldX, oldY]] = [this.#place(event), pointer.place];
      const other = [...this.#pointers.values()].find((each) => each !== pointer);
      pointer.place = [x, y];
      if (other) {
        const [fixedX, fixedY] = other.place;
        const distance = (a, b) => Math.max(1, Math.hypot(a - fixedX, b - fixedY));
        this.zoom(distance(x, y) / distance(oldX, oldY), fixedX, fixedY);
      } else if (pointer.right || this.windowing) {
        this.adjust((y - oldY) / 600, (x - oldX) / 300);
      } else if (this.film.view || event.pointerType !== "touch") {
        this.pan(x - oldX, y - oldY); // a finger on a whole film scrolls the page
      }
    },
  };

  // --------------------------------------------------------------------------------------------------------- drawing

  // One pane, or two along the longer side: the film alone, and with its map.
  #panes() {
    const { width, height } = this.#canvas;
    if (this.map !== "beside" || !this.heat) return [{ x: 0, y: 0, width, height }];
    const half = width >= height ? { width: width / 2, height } : { width, height: height / 2 };
    return [{ x: 0, y: 0, ...half }, { x: width - half.width, y: height - half.height, ...half }];
  }

  #draw() {
    const { film, heat, view } = this;
    const [context, panes] = [this.#context, this.#panes()];
    const line = (2 * (window.devicePixelRatio || 1)) / view.zoom;
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.#canvas.width, this.#canvas.height);
    for (const pane of panes) {
      context.save();
      context.beginPath();
      context.rect(pane.x, pane.y, pane.width, pane.height);
      context.clip();
      // From here on in pixels of the film.
      context.translate(pane.x + pane.width / 2, pane.y + pane.height / 2);
      context.scale(view.zoom, view.zoom);
      context.translate(-view.x, -view.y);
      this.#drawPixels(pane, view);
      if (pane === panes.at(-1)) {
        if (heat && this.map !== "off") {
          context.globalAlpha = this.strength;
          context.imageSmoothingEnabled = true;
          context.drawImage(heat.image, ...heat.place);
          context.globalAlpha = 1;
        }
        context.lineWidth = line;
        context.strokeStyle = "#56b4e9";
        if (this.lungs && film.lungs) context.stroke(film.lungs);
        context.strokeStyle = "#9ad1ff";
        context.setLineDash([4 * line, 3 * line]);
        for (const frame of film.frames) context.strokeRect(...frame);
      }
      context.restore();
    }
    this.#canvas.classList.toggle("whole", !film.view);
  }

  // Only what is seen goes through the table, in the smallest size that is sharp.
  #drawPixels(pane, { x, y, zoom }) {
    const { film } = this;
    const size = film.pixels.at((zoom * film.width) / film.pixels.sizes[0].width);
    const [across, down] = [size.width / film.width, size.height / film.height];
    const seen = (middle, half, scale, most) => {
      const first = between(0, Math.floor((middle - half) * scale), most);
      return [first, between(0, Math.ceil((middle + half) * scale), most) - first];
    };
    const [left, width] = seen(x, pane.width / 2 / zoom, across, size.width);
    const [top, height] = seen(y, pane.height / 2 / zoom, down, size.height);
    if (width <= 0 || height <= 0) return;
    this.#fill(size, left, top, width, height);
    this.#context.imageSmoothingEnabled = zoom < 4; // larger: every pixel is a square
    const target = [left / across, top / down, width / across, height / down];
    this.#context.drawImage(this.#tile, 0, 0, width, height, ...target);
  }

  #fill(size, left, top, width, height) {
    const { window: chosen, inverted } = this.film;
    const key = [chosen?.centre, chosen?.width, inverted, size.width, left, top, width, height].join();
    if (key === this.#tiled) return; // the other pane, or only the map has changed
    this.#tiled = key;
    const table = greys(this.film);
    const image = new ImageData(width, height);
    const to = new Uint32Array(image.data.buffer);
    const planes = chosen ? size.values : size.shown;
    for (let row = 0, at = 0; row < height; row += 1) {
      let from = (top + row) * size.width + left;
      for (const end = at + width; at < end; at += 1, from += 1) {
        if (planes.length === 1) to[at] = table[planes[0][from]];
        else {
          const [red, green, blue] = [table[planes[0][from]], table[planes[1][from]], table[planes[2][from]]];
          to[at] = (blue & 0xffff0000) | (green & 0xff00) | (red & 0xff);
        }
      }
    }
    if (this.#tile.width < width || this.#tile.height < height) {
      this.#tile.width = width;
      this.#tile.height = height;
    }
    this.#tile.getContext("2d").putImageData(image, 0, 0);
  }
}
