"use strict";

// A column's title sorts its table: numbers from the highest down first, then the other way round.
for (const head of document.querySelectorAll("th[aria-sort]")) {
  head.querySelector("button").addEventListener("click", () => {
    const table = head.closest("table");
    const first = head.classList.contains("number") ? "descending" : "ascending";
    const second = first === "descending" ? "ascending" : "descending";
    const order = head.getAttribute("aria-sort") === first ? second : first;
    const heads = [...table.querySelectorAll("th[aria-sort]")];
    for (const other of heads) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", order);

    const sign = order === "ascending" ? 1 : -1;
    const column = heads.indexOf(head);
    const value = (row) => Number(row.cells[column].dataset.value);
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort((one, other) => sign * (value(one) - value(other))));
  });
}

// Pointing at a matrix's cell, or going there with the arrow keys, writes its numbers below.
for (const figure of document.querySelectorAll(".matrix")) {
  const drawing = figure.querySelector("svg");
  const readout = figure.querySelector("output");
  const cells = [...drawing.querySelectorAll(".cell")];
  let current = null;

  const show = (cell) => {
    current?.classList.remove("current");
    current = cell;
    // the last drawn is on top: its frame is not cut by its neighbours
    cell.parentNode.append(cell);
    cell.classList.add("current");
    readout.textContent = cell.querySelector("title").textContent;
  };
  // A large matrix fits the page, too small to be read, until it is enlarged; its box scrolls then.
  const zoom = figure.querySelector(".zoom");
  const centre = () => current?.scrollIntoView({ block: "center", inline: "center", behavior: "instant" });
  zoom?.addEventListener("click", () => {
    const zoomed = figure.classList.toggle("zoomed");
    zoom.setAttribute("aria-pressed", zoomed);
    if (zoomed) centre();
  });
  drawing.addEventListener("pointerover", (event) => {
    const cell = event.target.closest(".cell");
    if (cell && cell !== current) show(cell);
  });
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = current ? neighbour(cells, current, step) : cells[0];
    if (!next) return;
    show(next);
    if (figure.classList.contains("zoomed")) centre();
  });
}

// The nearest cell in a direction: rows of classes without pixels have none.
function neighbour(cells, cell, [down, right]) {
  const row = Number(cell.dataset.row);
  const column = Number(cell.dataset.column);
  const distance = (other) => (other.dataset.row - row) * down + (other.dataset.column - column) * right;
  const inLine = (other) => (down ? other.dataset.column - column : other.dataset.row - row) === 0;
  const ahead = cells.filter((other) => inLine(other) && distance(other) > 0);
  return ahead.sort((one, other) => distance(one) - distance(other))[0];
}

// A link to a class that is folded unfolds it.
function unfold() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target && "open" in target) target.open = true;
}
addEventListener("hashchange", unfold);
// the same link again changes no hash
addEventListener("click", (event) => {
  if (event.target.closest?.('a[href^="#"]')) setTimeout(unfold);
});
unfold();
