// What a page can do without: the shortcut for search, times in the viewer's zone, one tick for all.
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

document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-pick-all]")) return;
  for (const box of event.target.form.querySelectorAll('input[name="device"]')) {
    box.checked = event.target.checked;
  }
});

// A part that is about to be replaced while somebody ticks or types in it stays as it is.
document.addEventListener("htmx:beforeRequest", (event) => {
  const live = event.target.matches("[hx-trigger='sse:changed']");
  const busy = live && (event.target.contains(document.activeElement) && document.activeElement.matches("input, select, textarea"));
  if (busy) event.preventDefault();
});
