// What a page can do without: the shortcut for search, menus that close, times in the viewer's zone, one tick for all, what is live.
"use strict";

const localTimes = (root) => {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.title = time.dateTime;
    time.textContent = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  }
};

// Moments along the bottom of a chart: hours of a day, days of a month.
const localMoments = (root) => {
  for (const moment of root.querySelectorAll("text[data-time]")) {
    const at = new Date(moment.dataset.time);
    if (Number.isNaN(at.getTime())) continue;
    const form = moment.dataset.form === "day" ? { day: "numeric", month: "short" } : { hour: "2-digit", minute: "2-digit" };
    moment.textContent = at.toLocaleString(undefined, form);
  }
};

document.addEventListener("DOMContentLoaded", () => { localTimes(document); localMoments(document); });
document.addEventListener("htmx:load", (event) => { localTimes(event.target); localMoments(event.target); });

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const search = document.getElementById("search");
  if (!search) return;
  event.preventDefault();
  search.focus();
});

const closeMenus = (but) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (menu !== but) menu.open = false;
  }
};

document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && event.target.closest("details.menu[open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});
document.addEventListener("click", (event) => closeMenus(event.target.closest("details.menu")));

document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-pick-all]")) return;
  for (const box of event.target.form.querySelectorAll('input[name="device"]')) {
    box.checked = event.target.checked;
  }
});

// Pages that show something live are told by one stream that it is different now, and ask anew for their parts. A browser has six
// connections to a host, so a page that nobody looks at gives its own back.
let stream = null;
const liveParts = () => document.querySelectorAll("[hx-trigger='sse:changed']");
const refresh = () => {
  for (const part of liveParts()) htmx.trigger(part, "sse:changed");
};
const watch = () => {
  const url = document.body.dataset.events;
  if (!url || stream || document.hidden || liveParts().length === 0) return;
  let wasOpen = false;
  stream = new EventSource(url);
  stream.addEventListener("changed", refresh);
  stream.addEventListener("open", () => {
    if (wasOpen) refresh();
    wasOpen = true;
  });
  stream.addEventListener("error", () => {
    if (stream?.readyState !== EventSource.CLOSED) return;
    stream = null;
    refresh();
    setTimeout(watch, 10000);
  });
};
const unwatch = () => {
  stream?.close();
  stream = null;
};
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return unwatch();
  watch();
  refresh();
});
window.addEventListener("pagehide", unwatch);
window.addEventListener("pageshow", (event) => {
  watch();
  if (event.persisted) refresh();
});

// A part that is about to be replaced while somebody ticks or types in it stays as it is.
document.addEventListener("htmx:beforeRequest", (event) => {
  const live = event.target.matches("[hx-trigger='sse:changed']");
  const busy = live && (event.target.contains(document.activeElement) && document.activeElement.matches("input, select, textarea"));
  if (busy) event.preventDefault();
});
