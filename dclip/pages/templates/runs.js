// Sorts the runs of a group by a column; a second click turns the order.
(() => {
  const key = (row, place) => {
    const text = row.cells[place].dataset.value;
    return text === "" || text === undefined ? null : Number(text);
  };
  for (const table of document.querySelectorAll(".runs table")) {
    const body = table.querySelector("tbody.sorted");
    let last = null, sign = 1;
    for (const head of table.querySelectorAll("[data-sort]")) {
      head.tabIndex = 0;
      const sort = () => {
        sign = last === head ? -sign : 1;
        last = head;
        const place = head.cellIndex;
        body.append(...[...body.rows].sort((a, b) => {
          const [x, y] = [key(a, place), key(b, place)];
          if (x === null || y === null) return (x === null) - (y === null);
          return sign * (x - y);
        }));
      };
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
    }
  }
})();
