// Lets the table of the runs sort and filter, and offers the other colours. It asks for nothing
// that is not on the page, and writes text only as text.
"use strict";

const { words: WORDS } = JSON.parse(document.getElementById("data").textContent);

function value(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = Number(text.replaceAll(",", ""));
  return text === "" ? null : Number.isNaN(number) ? text : number;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), document.documentElement.lang, { numeric: true });
}

function sort(table, column, descending) {
  const rows = [...table.tBodies[0].rows];
  rows.sort((first, second) => {
    const [a, b] = [value(first, column), value(second, column)];
    if (a === null || b === null) return (a === null) - (b === null); // not measured: last, always
    return descending ? compare(b, a) : compare(a, b);
  });
  table.tBodies[0].append(...rows);
}

function enliven(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    button.title = `${WORDS.sort} ${button.textContent}`;
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sort(table, column, descending);
    });
  });
  const section = table.closest("section");
  const field = section.querySelector(".filter input");
  const count = section.querySelector(".count");
  const rows = [...table.tBodies[0].rows];
  const filter = () => {
    const wanted = field.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !wanted.every((word) => text.includes(word));
    }
    count.textContent = `${rows.filter((row) => !row.hidden).length} / ${rows.length} ${WORDS.rows}`;
  };
  field.addEventListener("input", filter);
  filter();
}

function offerTheme(button) {
  let dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const name = () => { button.textContent = dark ? WORDS.light : WORDS.dark; };
  button.addEventListener("click", () => {
    dark = !dark;
    document.documentElement.style.colorScheme = dark ? "dark" : "light";
    name();
  });
  name();
  button.hidden = false;
}

offerTheme(document.getElementById("theme"));
document.querySelectorAll("table.sortable").forEach(enliven);
