// Orders and enlarges the pictures, and moves through the epochs. Without it the page shows everything.
(() => {
  const one = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const shown = (value) => (value === null || value === undefined ? "–" : String(Number(value.toPrecision(4))));
  for (const element of all(".scripted")) element.classList.remove("scripted");

  const sheets = all(".epoch"), slider = one("#epoch");
  const move = () => {
    one("#which").textContent = slider.value;
    sheets.forEach((sheet, k) => { sheet.hidden = k + 1 !== Number(slider.value); });
  };
  if (slider) { slider.addEventListener("input", move); move(); }

  const degree = one("#degree"), strip = one(".strip");
  if (degree) {
    const gammas = degree.dataset.gammas.split(" ").map(Number);
    const picture = one(".strip .row:last-child img");
    const turn = () => {
      strip.classList.toggle("whole", one("#all").checked);
      degree.disabled = one("#all").checked;
      one("#gamma").textContent = gammas[degree.value];
      picture.style.setProperty("--row", Number(degree.value) + 1);
    };
    degree.addEventListener("input", turn);
    one("#all").addEventListener("change", turn);
    strip.classList.add("sliding");
    turn();
  }

  const grid = one("#grid");
  if (!grid) return;
  const { faces, orders } = JSON.parse(one("#data").textContent);
  const table = faces.map((face) => Object.fromEntries(face.numbers));
  const tiles = all(".face"), order = one("#order"), turn = one("#turn"), large = one("#large");
  let sequence = tiles, worst = false, current = 0;

  const sort = () => {
    const { name, higher } = orders[order.value];
    const sign = (higher ? -1 : 1) * (worst ? -1 : 1);
    const value = (tile) => table[tile.dataset.face][name] ?? null;
    sequence = [...tiles].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * (x - y);
    });
    for (const tile of sequence) tile.querySelector(".value").textContent = shown(value(tile));
    grid.append(...sequence);
    const ends = higher === null ? ["smallest", "largest"] : ["best", "worst"];
    turn.textContent = ends[worst ? 1 : 0] + " first";
  };
  if (order && order.options.length) {
    order.addEventListener("change", sort);
    turn.addEventListener("click", () => { worst = !worst; sort(); });
    sort();
  }

  const element = (kind, text) => {
    const made = document.createElement(kind);
    made.textContent = text;
    return made;
  };
  const enlarge = (place) => {
    current = (place + sequence.length) % sequence.length;
    const face = faces[sequence[current].dataset.face];
    large.querySelector("h3").textContent = face.id;
    large.querySelector(".file").textContent = face.file;
    const there = [...sequence[current].querySelectorAll("img")];
    large.querySelector(".views").replaceChildren(...face.views.map(([label, address]) => {
      const figure = document.createElement("figure"), picture = document.createElement("img");
      picture.src = address ?? there.shift().src;
      picture.alt = label;
      figure.append(picture, element("figcaption", label));
      return figure;
    }));
    large.querySelector(".numbers").replaceChildren(...face.numbers.map(([name, value]) => {
      const line = document.createElement("div");
      line.append(element("span", name), element("span", shown(value)));
      return line;
    }));
    if (!large.open) large.showModal();
  };
  tiles.forEach((tile) => tile.addEventListener("click", () => enlarge(sequence.indexOf(tile))));
  large.addEventListener("click", (event) => {
    const go = event.target.dataset.go;
    if (event.target === large || go === "0") large.close();
    else if (go) enlarge(current + Number(go));
  });
  large.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") enlarge(current + 1);
    if (event.key === "ArrowLeft") enlarge(current - 1);
  });
})();
