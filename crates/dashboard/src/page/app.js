"use strict";

// Figures arrive written out; this only places them. Labels come from clients and are set as text.

const REFRESH_MS = 2000;
const byId = (id) => document.getElementById(id);

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined && text !== null) made.textContent = text;
  return made;
}

// A column: header, key of the row, and whether it is a number.
const number = (header, key) => ({ header, key, number: true });
const label = (header, key) => ({ header, key, number: false });

function cell(column, row, first) {
  const made = element(first ? "th" : "td", column.number ? "number" : "label");
  if (first) made.scope = "row";
  if (column.make) {
    made.append(column.make(row));
    made.className = column.className || made.className;
  } else {
    const given = row[column.key];
    const text = given === null || given === undefined ? "-" : given;
    if (column.number && text.endsWith("*")) {
      // The mark hangs outside the column, so that digits stay below digits.
      made.append(text.slice(0, -1), element("span", "mark", "*"));
    } else {
      made.textContent = text;
    }
    if (!column.number) made.title = text;
    if (text === "unpriced" || text === "unknown") made.classList.add("unpriced");
  }
  return made;
}

function fill(table, columns, rows, className) {
  const head = element("thead");
  const heads = element("tr");
  for (const column of columns) {
    const made = element("th", column.className || (column.number ? "number" : "label"), column.header);
    made.scope = "col";
    heads.append(made);
  }
  head.append(heads);
  const body = element("tbody");
  for (const row of rows) {
    const line = element("tr", className ? className(row) : "");
    columns.forEach((column, index) => line.append(cell(column, row, index === 0)));
    body.append(line);
  }
  table.replaceChildren(head, body);
}

// Parts are [class, thousandths] of the bar's whole width.
function bar(parts, description) {
  const made = element("div", "bar");
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", description);
  made.title = description;
  for (const [name, length] of parts) {
    if (!length) continue;
    const part = element("span", name);
    part.style.width = length / 10 + "%";
    made.append(part);
  }
  return made;
}

const spendBar = {
  header: "spend",
  className: "bars",
  make: (row) =>
    bar(
      [["useful", row.useful_length], ["wasted", row.wasted_length]],
      row.useful_share === undefined ? "idle, paid by the hour"
        : row.useful_share === "-" ? "cost not known"
        : row.useful_share + " useful, " + row.wasted_share + " wasted",
    ),
};

function groupColumns(name) {
  return [
    label(name, "label"),
    spendBar,
    number("cost, USD", "cost"),
    number("share", "share"),
    number("exchanges", "exchanges"),
    number("input tokens", "input"),
    number("cached", "cached"),
    number("output tokens", "output"),
    number("USD per 1k exch.", "per_1k"),
    number("USD per Mtok", "per_mtok"),
  ];
}

function groups(id, name, data) {
  const columns = groupColumns(name);
  fill(byId(id), columns, data.rows);
  const foot = element("tfoot");
  const total = element("tr");
  columns.forEach((column, index) => {
    total.append(column === spendBar ? element("td") : cell(column, data.total, index === 0));
  });
  foot.append(total);
  byId(id).append(foot);
}

function tiles(data) {
  byId("tiles").replaceChildren(
    ...data.map((tile) => {
      const made = element("div", "tile");
      made.append(element("dt", "", tile.name));
      const value = element("dd", "value", tile.value);
      made.append(value);
      made.append(element("dd", "unit", tile.unit));
      made.append(element("dd", "note", tile.note));
      return made;
    }),
  );
}

function classes(rows) {
  const key = {
    header: "token class",
    className: "label",
    make: (row) => {
      const made = element("span", "class-name");
      made.append(element("span", "key class-" + row.class), row.label);
      return made;
    },
  };
  fill(byId("classes"), [
    key,
    number("tokens", "tokens"),
    number("cost, USD", "cost"),
    number("share", "share"),
    number("USD per Mtok", "per_mtok"),
  ], rows);
  const whole = byId("classes-bar");
  whole.setAttribute("aria-label", rows.map((row) => row.label + " " + row.share).join("; "));
  whole.replaceChildren(
    ...rows.filter((row) => row.length > 0).map((row) => {
      const part = element("span", "class-" + row.class);
      part.style.width = row.length / 10 + "%";
      part.title = row.label + " " + row.share;
      return part;
    }),
  );
}

function waste(rows) {
  byId("no-waste").hidden = rows.length > 0;
  byId("waste").hidden = rows.length === 0;
  fill(byId("waste"), [
    label("cause", "label"),
    { header: "", className: "bars", make: (row) => bar([["wasted", row.length]], row.share + " of cost") },
    number("cost, USD", "cost"),
    number("of cost", "share"),
  ], rows);
}

function uncertain(rows) {
  byId("uncertain-section").hidden = rows.length === 0;
  fill(byId("uncertain"), [
    label("what", "label"),
    number("attempts", "attempts"),
    number("cost, USD", "cost"),
    number("of cost", "share"),
    { header: "", className: "meaning", make: (row) => element("span", "", row.note) },
  ], rows);
}

function hosting(rows) {
  byId("hosting-section").hidden = rows.length === 0;
  fill(byId("hosting"), [
    label("upstream", "label"),
    {
      header: "utilisation",
      className: "bars",
      make: (row) =>
        bar([["useful", row.busy_length], ["idle", 1000 - row.busy_length]], row.utilisation + " busy"),
    },
    number("busy", "utilisation"),
    number("of paid", "paid"),
    number("busy, USD", "busy"),
    number("idle, USD", "idle"),
    number("useful tokens", "useful_tokens"),
    number("USD per useful Mtok", "per_useful_mtok"),
  ], rows);
}

const recentColumns = [
  label("time", "time"),
  label("route", "route"),
  label("model", "model"),
  label("status", "status"),
  number("took", "duration"),
  number("TTFT", "ttft"),
  number("input", "input"),
  number("cached", "cached"),
  number("output", "output"),
  {
    header: "cost",
    number: true,
    make: (row) => {
      const made = element("span", row.cost === "unpriced" ? "unpriced" : "", row.cost);
      if (row.reason) made.title = row.reason;
      return made;
    },
  },
  label("notes", "notes"),
];

function recent(data) {
  byId("no-recent").hidden = data.exchanges.length > 0;
  byId("recent").hidden = data.exchanges.length === 0;
  fill(byId("recent"), recentColumns, data.exchanges, (row) => (row.completed ? "" : "not-completed"));
}

async function get(path) {
  const response = await fetch(path, { cache: "no-store" });
  if (!response.ok) throw new Error(path + ": " + response.status);
  return response.json();
}

function state(text, lost) {
  byId("state").textContent = text;
  byId("state").classList.toggle("lost", lost);
}

async function refresh() {
  if (!document.hidden) {
    try {
      const [bill, list] = await Promise.all([get("/farthing/api/bill"), get("/farthing/api/recent")]);
      byId("period").textContent = bill.period;
      byId("book").textContent = "Prices: " + bill.price_book + ". Contracted cost in US dollars.";
      tiles(bill.tiles);
      groups("routes", "route", bill.routes);
      groups("models", "model", bill.models);
      classes(bill.classes);
      waste(bill.waste);
      hosting(bill.hosting);
      uncertain(bill.uncertain);
      byId("adjusted").hidden = bill.adjusted === null;
      byId("adjusted").textContent = bill.adjusted ?? "";
      byId("gaps").hidden = bill.gaps.length === 0;
      byId("gaps").textContent = bill.gaps.join(" ");
      const coming = bill.price_changes;
      byId("coming").hidden = coming.length === 0;
      byId("coming").textContent = "Prices to come: " + coming.join("; ") + ".";
      recent(list);
      state("live", false);
    } catch (error) {
      state("no connection, figures are old", true);
    }
  }
  setTimeout(refresh, REFRESH_MS);
}

refresh();
