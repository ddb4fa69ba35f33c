// See report_page.h.
#include "train/report_page.h"

#include <fmt/core.h>

#include "train/shown_numbers.h"

namespace lathe {
namespace {

constexpr const char* kStyle = R"css(
:root { color-scheme: light dark; --page: #fff; --ink: #1c2024; --soft: #5f6b76; --grid: #e6e9ec; --panel: #f6f7f9; --bad: #c92a2a;
 }
.c0 { --c: #1f6feb; } .c1 { --c: #d9480f; } .c2 { --c: #2b8a3e; } .c3 { --c: #7b3fb5; } .c4 { --c: #0b7285; } .c5 { --c: #c2255c; } .c6 { --c: #8a6d00; } .c7 { --c: #495057; }
@media screen and (prefers-color-scheme: dark) {
  :root { --page: #15181c; --ink: #e4e7ea; --soft: #98a3ad; --grid: #2b3138; --panel: #1d2126; --bad: #ff8787; }
  .c0 { --c: #6cb0ff; } .c1 { --c: #ff9a4d; } .c2 { --c: #5fd07a; } .c3 { --c: #c596ff; } .c4 { --c: #45cfe0; } .c5 { --c: #ff86b0; } .c6 { --c: #e3c33a; } .c7 { --c: #b4bcc4; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 72rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; font-variant-numeric: tabular-nums; }
h1 { margin: 0; font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { margin: 2.2rem 0 .6rem; font-size: 1.1rem; }
p, small, footer { color: var(--soft); }
p { margin: .2rem 0 1rem; overflow-wrap: anywhere; }
footer { margin-top: 2.5rem; font-size: .85rem; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .6rem; margin: 0; }
dl div { padding: .55rem .75rem; background: var(--panel); border-radius: 6px; }
dt, dl small { display: block; font-size: .8rem; color: var(--soft); line-height: 1.35; }
dd { margin: 0; font-size: 1.3rem; font-weight: 600; line-height: 1.35; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1.2rem 1.5rem; }
figure { margin: 1.2rem 0 0; min-width: 0; break-inside: avoid; }
figcaption { display: flex; flex-wrap: wrap; gap: 0 .6rem; align-items: baseline; }
figcaption .at { color: var(--soft); font-size: .85rem; }
.legend { display: flex; flex-wrap: wrap; gap: 0 1rem; margin: 0; padding: 0; list-style: none; font-size: .85rem; color: var(--soft); }
.legend i, td i { display: inline-block; width: 1.1em; height: 0; margin-right: .35em; border-top: 3px solid var(--c); vertical-align: .25em; }
.legend .thin { border-top-width: 1px; }
.legend .mark { border-top: 2px dashed var(--bad); }
.legend output { color: var(--ink); font-weight: 600; }
svg { overflow: hidden; }
.chart { display: block; width: calc(100% - 4.6rem); height: 12rem; margin: .8rem 1.3rem 2.6rem 3.3rem; overflow: visible; touch-action: pan-y; }
.chart.tall { height: 21rem; }
.chart > svg { width: 100%; height: 100%; }
text { fill: var(--soft); stroke: var(--page); stroke-width: 3px; paint-order: stroke; font-size: 12px; text-anchor: middle; }
.end { text-anchor: end; }
path { fill: none; stroke: var(--c); vector-effect: non-scaling-stroke; stroke-linejoin: round; stroke-linecap: round; }
path.line { stroke-width: 2; } path.thin { stroke-width: 1; opacity: .4; }
circle { fill: var(--c); stroke: var(--page); }
.grid { stroke: var(--grid); } .axis { stroke: var(--soft); }
.mark { stroke: var(--bad); stroke-dasharray: 4 3; } .level { stroke: var(--soft); stroke-dasharray: 6 4; }
.pointer { pointer-events: none; } .pointer line { stroke: var(--soft); }
.choice { padding-top: 1.4rem; }
.choice > div { float: right; font-size: .85rem; color: var(--soft); }
.choice label { margin-left: .9rem; cursor: pointer; border-bottom: 2px solid transparent; }
.choice label:has(:checked) { color: var(--ink); border-color: var(--ink); } .choice label:has(:focus-visible) { outline: 2px solid var(--soft); }
.choice input { position: absolute; opacity: 0; }
.choice > figure { display: none; margin: 0; }
.choice:has(label:nth-child(1) > :checked) > figure:nth-of-type(1), .choice:has(label:nth-child(2) > :checked) > figure:nth-of-type(2),
.choice:has(label:nth-child(3) > :checked) > figure:nth-of-type(3), .choice:has(label:nth-child(4) > :checked) > figure:nth-of-type(4) { display: block; }
@supports not selector(:has(a)) { .choice > figure { display: block; } }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .3rem .9rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--grid); }
thead th { color: var(--soft); font-weight: 500; } .figures td { white-space: nowrap; } .figures td + td, .figures th + th { text-align: right; }
pre { margin: 0; padding: .7rem .9rem; background: var(--panel); border-radius: 6px; overflow: auto; white-space: pre-wrap;
  overflow-wrap: anywhere; font: 13px/1.45 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; max-height: 16rem; }
pre b { font-weight: 400; color: var(--soft); } pre.recipe { max-height: 32rem; }
.sample { display: grid; grid-template-columns: 7rem 1fr; gap: .3rem 1rem; margin-top: .8rem; break-inside: avoid; }
.sample > div > pre + pre { margin-top: .4rem; }
@media (max-width: 40rem) { .choice > div { float: none; margin: 0 0 .3rem -.9rem; } .sample { grid-template-columns: 1fr; } .chart { height: 10.5rem; } .chart.tall { height: 16rem; } }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } pre, pre.recipe { max-height: none; } .choice > div { display: none; }
  * { print-color-adjust: exact; } h2 { break-after: avoid; } .charts { grid-template-columns: 1fr 1fr; } .chart.tall { height: 14rem; } .chart { height: 9rem; } }
)css";

// Under the pointer: the values of all charts with this x axis, in their legends, and dots on the curves.
constexpr const char* kScript = R"js(
const axisOf = text => {
  const [low, high, log] = text.split(" ").map(Number), f = log ? Math.log : v => v, a = f(low), b = f(high);
  return { place: v => (f(v) - a) / (b - a), value: share => log ? Math.exp(a + share * (b - a)) : a + share * (b - a) };
};
const shown = v => v && Math.abs(v) < 1e-2 ? v.toExponential(2) : v.toLocaleString("en", { maximumSignificantDigits: 5 });
const charts = [...document.querySelectorAll(".chart")].map(svg => {
  const figure = svg.parentNode, outputs = [...figure.querySelectorAll(".legend output")];
  const curves = [...svg.querySelectorAll("path[data-x]")].map((path, i) => ({
    colour: path.classList[1], output: outputs[i], last: outputs[i].textContent,
    x: path.dataset.x.split(" ").map(Number), y: path.dataset.y.split(" ").map(Number) }));
  return { svg, curves, name: svg.dataset.name, x: axisOf(svg.dataset.x), y: axisOf(svg.dataset.y),
           at: figure.querySelector(".at"), pointer: svg.querySelector(".pointer") };
});
const nearest = (xs, x) => {
  let low = 0, high = xs.length - 1;
  while (high - low > 1) { const middle = (low + high) >> 1; if (xs[middle] < x) low = middle; else high = middle; }
  return Math.abs(xs[high] - x) < Math.abs(xs[low] - x) ? high : low;
};
const show = (name, value) => {
  for (const chart of charts) {
    if (chart.name !== name || !chart.curves.length) continue;
    let drawing = "";
    for (const curve of chart.curves) {
      const i = nearest(curve.x, value), y = 1 - chart.y.place(curve.y[i]);
      curve.output.textContent = shown(curve.y[i]);
      if (y >= 0 && y <= 1)
        drawing += `<circle class="${curve.colour}" r="4" cx="${100 * chart.x.place(curve.x[i])}%" cy="${100 * y}%"/>`;
    }
    const at = chart.curves[0].x[nearest(chart.curves[0].x, value)], x = 100 * chart.x.place(at);
    chart.at.textContent = `${name} ${shown(at)}`;
    chart.pointer.innerHTML = `<line x1="${x}%" x2="${x}%" y2="100%"/>` + drawing;
  }
};
const clear = name => {
  for (const chart of charts) if (chart.name === name) {
    chart.at.textContent = chart.pointer.innerHTML = "";
    for (const curve of chart.curves) curve.output.textContent = curve.last;
  }
};
for (const chart of charts) {
  chart.svg.addEventListener("pointermove", event => {
    const box = chart.svg.getBoundingClientRect();
    show(chart.name, chart.x.value(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width))));
  });
  chart.svg.addEventListener("pointerleave", () => clear(chart.name));
}
)js";

}  // namespace

std::string html_page(const std::string& title, const std::string& body) {
  return fmt::format(R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{}</title><style>{}</style></head><body>
{}<script>{}</script></body></html>
)",
                     escape_html(title), kStyle, body, kScript);
}

std::string html_choice(const std::string& name, const std::vector<ChartChoice>& choices) {
  std::string buttons, charts;
  for (const auto& [button, chart] : choices) {
    if (chart.empty()) continue;
    buttons += fmt::format("<label><input type='radio' name='{}'{}>{}</label> ", escape_html(name),
                           charts.empty() ? " checked" : "", button);
    charts += chart;
  }
  return charts.empty() ? "" : "<div class='choice'><div>" + buttons + "</div>" + charts + "</div>\n";
}

std::string html_table(const std::string& kind, const std::vector<std::string>& head,
                       const std::vector<std::vector<std::string>>& rows) {
  std::string html = "<div class='scroll'><table class='" + kind + "'><thead><tr>";
  for (const std::string& cell : head) html += "<th>" + cell + "</th>";
  html += "</tr></thead>\n";
  for (const std::vector<std::string>& row : rows) {
    html += "<tr>";
    for (const std::string& cell : row) html += "<td>" + cell + "</td>";
    html += "</tr>\n";
  }
  return html + "</table></div>\n";
}

}  // namespace lathe
