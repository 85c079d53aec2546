"use strict";
// Everything is shown by textContent: names from disks are text and never markup.
const data = JSON.parse(document.getElementById("data").textContent);
const names = data.registers;
const hex = (value, digits = 8) => "0x" + value.toString(16).padStart(digits, "0");
const still = window.matchMedia("(prefers-reduced-motion: reduce)");
let request = 0;
let step = 0;

function make(tag, text, attributes = {}, ...children) {
  const element = document.createElement(tag);
  if (text !== null) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function fill(id, ...children) {
  document.querySelector(id).replaceChildren(...children);
}

// A scene holds what differs from the one before; all that is not listed stays.
function sceneAt(one, index) {
  return Object.assign({}, ...one.steps.slice(0, index + 1).map((each) => each.s));
}

function thread(number) {
  const found = data.threads[number];
  return found ? `${found[0]} (thread ${number})` : "none";
}

function table(rows) {
  const body = make("tbody", null);
  for (const [name, value, changed, key] of rows) {
    const cell = make("td", value, changed ? { class: "changed" } : {});
    if (key) cell.dataset.key = key;
    body.append(make("tr", null, {}, make("th", name, { scope: "row" }), cell));
  }
  return make("table", null, {}, body);
}

function registers(values, before, owner) {
  return table(names.map((name, index) => {
    const changed = before !== null && before !== undefined && before[index] !== values[index];
    return [name, hex(values[index]), changed, owner + name];
  }));
}

function bits(name, is, marks, slot, words) {
  const row = make("div", null, { class: "bits", role: "img", "aria-label": `${name}: ${words}` });
  for (let index = 0; index < 32; index += 1) {
    const classes = [is(index) ? "set" : "", index === slot ? "this" : "", ...marks(index)].filter(Boolean).join(" ");
    row.append(make("span", String(index), { class: classes, "aria-hidden": "true" }));
  }
  return [make("h3", `${name}: ${words}`), row];
}

function mask(name, value, slot) {
  const set = [...Array(32).keys()].filter((index) => (value >>> index) & 1);
  const words = set.length === 32 ? "all 32" : set.length > 16 ? `${hex(value)}, ${set.length} bits` : set.length ? set.join(" ") : "none";
  return bits(name, (index) => (value >>> index) & 1, () => [], slot, words);
}

// A cell holds slot + 32 * (lap mod 8); those between head and tail are waiting to be fetched.
function ring(scene) {
  const waiting = (scene.tail - scene.head) >>> 0;
  const inside = (index) => ((index - scene.head) >>> 0) % 32 < waiting;
  const slots = [...Array(Math.min(waiting, 32)).keys()].map((ahead) => scene.ring[(scene.head + ahead) % 32] & 31);
  const words = `head ${scene.head}, tail ${scene.tail}, ${waiting ? "slots " + slots.join(" ") : "empty"}`;
  const marks = (index) => [index === scene.head % 32 ? "head" : "", index === scene.tail % 32 ? "tail" : ""];
  return bits("Ring", inside, marks, -1, words);
}

function sides(one, now, before) {
  const held = (side) => {
    const value = now[side];
    if (!value) return [make("p", "not read at this step")];
    const old = before && before[side] && before[side][0] === value[0] ? before[side][1] : null;
    return [make("p", value[0]), registers(value[1], old, side)];
  };
  fill("#client > div", make("p", thread(one.client)), ...held("client"));
  const served = one.steps.slice(0, step + 1).some((each) => each.k === "fetch");
  fill(
    "#server > div",
    make("p", served ? thread(one.server) : "no thread has fetched the request"),
    ...(served ? held("server") : []),
    make("h3", "Message page in the server"),
    table([
      ["address", hex(now.linear), false],
      ["entry", now.pte[0], before && before.pte[0] !== now.pte[0]],
      ["says", now.pte[1], before && before.pte[1] !== now.pte[1]],
      ["TLB entry", now.tlb, before && before.tlb !== now.tlb],
      ["CR3", hex(now.server_cr3), false],
    ]),
  );
}

function kernel(one, now, before) {
  const differs = (key) => Boolean(before) && JSON.stringify(before[key]) !== JSON.stringify(now[key]);
  const named = (pair) => (pair[1] ? `${pair[0]} ${pair[1]}` : String(pair[0]));
  const [physical, linear, selector] = now.record;
  const page = table([
    ["operation", `${now.operation} ${data.operations[now.operation] ?? ""}`, differs("operation")],
    ["flags", named(now.flags), differs("flags")],
    ["reply", named(now.reply), differs("reply")],
    ["count", String(now.count), differs("count")],
    ["error", named(now.error), differs("error")],
    ["eflags", hex(now.eflags), differs("eflags")],
    ["handle", hex(now.handle), differs("handle")],
    ["data", now.data || "-", differs("data")],
  ]);
  const slot = table([
    ["state", now.state, differs("state")],
    ["client", named(now.waiting), differs("waiting")],
    ["server", named(now.server_of), differs("server_of")],
    ["valid handle", hex(now.live), differs("live")],
    ["page at", hex(physical), false],
    ["in the server", hex(linear), differs("record")],
    ["selector", hex(selector, 4), false],
  ]);
  const cpu = table([
    ["ring", now.ring3 ? "3" : "0", differs("ring3")],
    ["EIP", `${hex(now.eip)} ${now.place}`, false],
    ["CR3", hex(now.cr3), differs("cr3")],
  ]);
  const [unused, free, idle] = now.masks;
  fill(
    "#kernel > div",
    make("div", null, { class: "split" },
      make("div", null, {}, make("h3", "Message page: registers"), registers(now.message, before && before.message, "message"),
        make("h3", "CPU"), cpu),
      make("div", null, {}, make("h3", "Message page: header"), page)),
    make("h3", `Slot ${one.slot} of ${one.endpoint}`), slot,
    ...mask("Slots free", free, one.slot), ...mask("Slots never used", unused, one.slot), ...ring(now),
    ...mask("Server threads asleep", idle, -1),
  );
}

function flat(cost, prefix = "") {
  return Object.entries(cost).flatMap(([key, value]) =>
    typeof value === "object" ? flat(value, `${prefix}${key} `) : [[prefix + key, value]]);
}

function ledger(one) {
  const here = new Map(flat(one.steps[step].cost));
  const whole = flat(one.cost);
  const total = new Map(flat(data.total));
  const head = make("tr", null, {}, make("th", "counted", { scope: "col" }), make("th", "this step", { scope: "col" }),
    make("th", "request", { scope: "col" }), make("th", "whole run", { scope: "col" }));
  const rows = whole.map(([key, value]) => make("tr", null, {},
    make("th", key.replaceAll("_", " "), { scope: "row" }), make("td", String(here.get(key) ?? 0)),
    make("td", String(value)), make("td", String(total.get(key) ?? 0))));
  fill("#ledger > div", make("table", null, {}, make("thead", null, {}, head), make("tbody", null, {}, ...rows)));
}

function costWords(cost) {
  const found = flat(cost).filter(([key]) => !key.startsWith("guest_instructions ") || key.endsWith("total"));
  return found.map(([key, value]) => `${key.replaceAll("_", " ").replace("guest instructions total", "instructions")} ${value}`).join(", ") || "nothing counted";
}

// What a step is called, what it means, and where registers move.
function words(one, each) {
  return (one.direct && data.direct[each.k]) || data.texts[each.k];
}

function sentence(one, index) {
  const each = one.steps[index];
  const [name, meaning] = words(one, each);
  return `${name}${each.d ? ` (${each.d})` : ""}, by ${thread(each.by)} at ${each.t} ns. ${meaning} Cost of this step: ${costWords(each.cost)}.`;
}

// Registers fly from where they were to where they are now.
const WAYS = { in: ["client", "message"], load: ["message", "server"], save: ["server", "message"], out: ["message", "client"] };

function fly(way) {
  if (!way || still.matches) return;
  names.forEach((name, index) => {
    const [from, to] = WAYS[way].map((owner) => document.querySelector(`[data-key="${owner}${name}"]`));
    if (!from || !to) return;
    const [start, end] = [from, to].map((cell) => cell.getBoundingClientRect());
    const chip = make("span", `${name} ${to.textContent}`, { class: "flying", "aria-hidden": "true" });
    chip.style.left = `${start.left}px`;
    chip.style.top = `${start.top}px`;
    document.body.append(chip);
    const move = `translate(${end.left - start.left}px, ${end.top - start.top}px)`;
    chip.animate([{ transform: "none" }, { transform: move }], { duration: 450, delay: index * 40, easing: "ease-in-out" })
      .finished.then(() => chip.remove(), () => chip.remove());
  });
}

function show(forwards) {
  document.querySelectorAll(".flying").forEach((chip) => chip.remove());
  const one = data.requests[request];
  const each = one.steps[step];
  const now = sceneAt(one, step);
  const before = step ? sceneAt(one, step - 1) : null;
  document.getElementById("where").textContent = `Request ${one.n} of ${data.requests.length}, step ${step + 1} of ${one.steps.length}`;
  document.getElementById("back").disabled = request === 0 && step === 0;
  document.getElementById("on").disabled = request === data.requests.length - 1 && step === one.steps.length - 1;
  fill("#pipeline", ...one.steps.map((other, index) => {
    const button = make("button", words(one, other)[0], { type: "button", class: index < step ? "done" : "" });
    if (index === step) button.setAttribute("aria-current", "step");
    button.addEventListener("click", () => go(request, index));
    return make("li", null, {}, button);
  }));
  sides(one, now, before);
  kernel(one, now, before);
  ledger(one);
  const role = each.by === one.client && !["reply", "unmap", "convert", "replied"].includes(each.k) ? "client" : "server";
  for (const side of ["client", "kernel", "server"]) {
    document.getElementById(side).classList.toggle("active", side === (now.ring3 ? role : "kernel"));
  }
  document.getElementById("said").textContent =
    `Request ${one.n}, ${one.operation}${one.posted ? " (posted)" : ""} to ${one.endpoint}: ${sentence(one, step)}`;
  [...document.querySelectorAll("#requests button")].forEach((button, index) => {
    if (index === request) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  });
  document.querySelectorAll("#requests button")[request].scrollIntoView({ block: "nearest" });
  if (forwards) fly(words(one, each)[2]);
}

function go(toRequest, toStep) {
  const forwards = toRequest === request && toStep === step + 1;
  request = toRequest;
  step = toStep;
  show(forwards);
}

function forward() {
  if (step + 1 < data.requests[request].steps.length) go(request, step + 1);
  else if (request + 1 < data.requests.length) go(request + 1, 0);
}

function backward() {
  if (step > 0) go(request, step - 1);
  else if (request > 0) go(request - 1, data.requests[request - 1].steps.length - 1);
}

const KEYS = {
  ArrowRight: forward,
  ArrowLeft: backward,
  ArrowDown: () => go(Math.min(request + 1, data.requests.length - 1), 0),
  ArrowUp: () => go(Math.max(request - 1, 0), 0),
  Home: () => go(0, 0),
  End: () => go(data.requests.length - 1, data.requests.at(-1).steps.length - 1),
};

function printed(one) {
  const columns = ["step", "ns", "thread", "client", "page", "server", "slot", "free, ring", "page-table entry", "cost"];
  const six = (values) => (values ? values.map((value) => value.toString(16)).join(" ") : "-");
  const rows = one.steps.map((each, index) => {
    const now = sceneAt(one, index);
    const cells = [words(one, each)[0], each.t, thread(each.by), six(now.client && now.client[1]), six(now.message) + (now.data ? ` ${now.data}` : ""),
      six(now.server && now.server[1]), now.state, `${hex(now.masks[1])}, ${now.head} to ${now.tail}`, now.pte[1], costWords(each.cost)];
    return make("tr", null, {}, ...cells.map((cell) => make("td", String(cell))));
  });
  const head = make("tr", null, {}, ...columns.map((name) => make("th", name, { scope: "col" })));
  return [
    make("h2", `Request ${one.n}: ${one.operation} to ${one.endpoint}, slot ${one.slot}, by ${thread(one.client)}${one.error ? `: ${one.error}` : ""}`),
    make("table", null, {}, make("thead", null, {}, head), make("tbody", null, {}, ...rows)),
  ];
}

document.getElementById("about").textContent =
  `callgate trace ${data.images.join(" ")} -c ${data.command}: ${data.requests.length} requests in ${data.end} ns of virtual time; ${costWords({ guest_instructions: data.total.guest_instructions ?? {} })}`;
if (data.requests.length) {
  fill("#requests", ...data.requests.map((one, index) => {
    const button = make("button", `${one.n} ${one.operation}`, { type: "button" }, make("small", `${one.endpoint}, ${thread(one.client)}${one.error ? `, ${one.error}` : ""}`));
    button.addEventListener("click", () => go(index, 0));
    return make("li", null, {}, button);
  }));
  fill("#all", ...data.requests.flatMap(printed));
  document.getElementById("on").addEventListener("click", forward);
  document.getElementById("back").addEventListener("click", backward);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || !(event.key in KEYS)) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  show(false);
} else {
  document.getElementById("said").textContent = "No server was asked for anything in this run.";
  document.getElementById("on").disabled = true;
  document.getElementById("back").disabled = true;
}
