"use strict";
// Tables are sorted by a click on a column's head: numbers by value, words by the alphabet, empty cells last.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sortBy(table, heads, column));
  });
}

function sortBy(table, heads, column) {
  const head = heads[column];
  const numbers = head.classList.contains("number");
  // The first click shows what one looks for: the largest number, the first word.
  const first = numbers ? "descending" : "ascending";
  const order = head.ariaSort !== first ? first : numbers ? "ascending" : "descending";
  const sign = order === "ascending" ? 1 : -1;
  const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = (a, b) => {
    const [left, right] = [value(a), value(b)];
    if (left === "" || right === "") return (left === "") - (right === "");
    return sign * (numbers ? Number(left) - Number(right) : left.localeCompare(right, undefined, { numeric: true }));
  };
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort(compare));
  for (const other of heads) other.ariaSort = null;
  head.ariaSort = order;
}
