"use strict";
// Ties the timeline, the console and the tables together by time. Everything that it shows is in the page already: what is
// under the pointer is read from the table of the timeline's figures. No ampersand and no less-than sign may be in here, so
// that the page is XML too.
(() => {
  const all = (selector) => Array.from(document.querySelectorAll(selector));
  document.documentElement.classList.add("js");
  const charts = all("svg.timeline");
  const rows = all("#figures tbody tr");
  const from = rows.map((row) => Number(row.dataset.from));
  const heads = all("#figures th").map((head) => head.textContent);
  const readout = document.querySelector(".readout");
  const list = document.querySelector(".lines");
  const lines = all(".lines li[data-at]");
  const said = lines.map((line) => Number(line.dataset.at));
  const phases = all("#phases tr.jump");
  const begins = phases.map((row) => Number(row.dataset.at));
  if (rows.length === 0) return;

  // The last place whose time is not after a moment.
  const last = (times, moment) => {
    let low = 0, high = times.length;
    while (high > low) {
      const middle = (low + high) >> 1;
      if (times[middle] > moment) high = middle; else low = middle + 1;
    }
    return low - 1;
  };
  let here = [];
  let place = -1;

  const show = (moment, scrolls) => {
    place = Math.max(0, last(from, moment));
    for (const chart of charts) {
      const { left, right, start, end } = chart.dataset;
      const part = (moment - start) / Math.max(end - start, 1e-9);
      const x = Number(left) + (right - left) * Math.min(1, Math.max(0, part));
      const cross = chart.querySelector(".cross");
      cross.setAttribute("x1", x);
      cross.setAttribute("x2", x);
      cross.classList.add("on");
    }
    const cells = Array.from(rows[place].cells, (cell) => cell.textContent);
    const phase = phases[last(begins, moment)];
    const figures = heads.slice(2)
      .map((head, at) => [head, cells[at + 2]])
      .filter(([, value]) => value !== "0")
      .map(([head, value]) => head + " " + value);
    readout.textContent = cells[0] + " to " + cells[1] + " s" +
      (phase ? ", " + phase.cells[0].textContent : "") + ": " + figures.join(", ");
    here.forEach((line) => line.classList.remove("here"));
    here = [rows[place]];
    const line = lines[last(said, moment)];
    if (line) {
      here.push(line);
      if (scrolls) list.scrollTop = line.offsetTop - list.clientHeight / 2;
    }
    here.forEach((line) => line.classList.add("here"));
  };

  for (const chart of charts) {
    const moment = (event) => {
      const box = chart.getBoundingClientRect();
      const { left, right, start, end } = chart.dataset;
      const x = (event.clientX - box.left) * chart.viewBox.baseVal.width / box.width;
      const part = Math.min(1, Math.max(0, (x - left) / (right - left)));
      return Number(start) + (end - start) * part;
    };
    chart.addEventListener("pointermove", (event) => show(moment(event), true));
    chart.addEventListener("pointerdown", (event) => show(moment(event), true));
    chart.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20 }[event.key];
      if (!by) return;
      event.preventDefault();
      const next = rows[Math.min(rows.length - 1, Math.max(0, place + by))];
      show((Number(next.dataset.from) + Number(next.dataset.to)) / 2, true);
    });
  }
  if (list) {
    const listen = (event) => {
      const line = event.target.closest("li[data-at]");
      if (line) show(Number(line.dataset.at), false);
    };
    list.addEventListener("pointerover", listen);
    list.addEventListener("click", listen);
  }
  for (const row of all("tr.jump")) {
    row.addEventListener("click", () => {
      show(Number(row.dataset.at), true);
      document.getElementById("timeline").scrollIntoView({ behavior: "smooth", block: "start" });
    });
  }
  // A card that a link leads to is open.
  const open = () => {
    const card = location.hash ? document.getElementById(location.hash.slice(1)) : null;
    if (card) card.open = true;
  };
  addEventListener("hashchange", open);
  open();
  readout.textContent = "Point at the timeline or at a line of the console.";
  if (!list) readout.textContent = "Point at the timeline.";
})();
