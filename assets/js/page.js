// The page's own behaviour: keys, chips, copying, folding, the address. Events are delegated from
// the document, for panels are rendered anew with every answer.
(() => {
  const $ = (selector) => document.querySelector(selector);
  const box = () => $("#q input, #q textarea");
  // The names of the search's inputs in the address, in the order the server lists them.
  const FIELDS = ["q", "collection", "package", "language", "kind", "path", "k", "rerank", "candidates", "budget", "floor"];

  // A slider whose box is left tells of it before it puts an empty or wide number into its range.
  function inRange(value, i) {
    const range = $(`#${FIELDS[i]} input[type=range]`);
    return range ? Math.min(Math.max(value ?? range.min, range.min), range.max) : value;
  }

  function remember(given) {
    const defaults = JSON.parse($("#examples [data-defaults]")?.dataset.defaults ?? "{}");
    const url = new URL(location.href);
    FIELDS.forEach((name, i) => {
      let value = given[i];
      if (Array.isArray(value)) value = value.join(",");
      if (name === "rerank") value = value ? "on" : "off";
      const text = String(value ?? "").slice(0, 1000);
      if (text === "" || (name !== "q" && text === defaults[name])) url.searchParams.delete(name);
      else url.searchParams.set(name, text);
    });
    if (url.href === location.href) return;
    const another = url.searchParams.get("q") !== new URL(location.href).searchParams.get("q");
    history[another ? "pushState" : "replaceState"](history.state, "", url);
  }

  function ask(text) {
    const input = box();
    const proto = input.tagName === "INPUT" ? HTMLInputElement : HTMLTextAreaElement;
    Object.getOwnPropertyDescriptor(proto.prototype, "value").set.call(input, text);
    input.dispatchEvent(new Event("input", { bubbles: true }));
    setTimeout(() => $("#go").click(), 30);
  }

  window.rankscope = {
    asked(given) {
      given = given.map(inRange);
      remember(given);
      return given;
    },
    opened() {
      const input = box();
      if (input && new URL(location.href).searchParams.get("q")) setTimeout(() => $("#go").click(), 30);
      else input?.focus();
    },
    // A query that came too early is asked again as soon as it can be answered.
    ticked() {
      if ($("#verdict [data-waiting]") && $('#status [data-ready="yes"]')) $("#go").click();
    },
  };

  async function copy(button) {
    const text = button.dataset.copy;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea"); // Plain http has no clipboard.
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    const label = button.textContent;
    if (button.classList.contains("done")) return;
    button.classList.add("done");
    button.textContent = "Copied";
    setTimeout(() => {
      button.textContent = label;
      button.classList.remove("done");
    }, 1400);
  }

  function unfold(button) {
    const open = button.closest(".hit").classList.toggle("open");
    button.setAttribute("aria-expanded", open);
    button.textContent = open ? button.dataset.less : button.dataset.more;
  }

  function goTo(row) {
    const hit = document.getElementById(`hit-${row.dataset.hit}`);
    if (!hit) return;
    if (hit.tagName === "DETAILS") hit.open = true; // Folded under the file's best hit.
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    hit.scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
    hit.focus({ preventScroll: true });
    hit.classList.remove("flash");
    void hit.offsetWidth;
    hit.classList.add("flash");
  }

  function trace(target) {
    const id = target?.closest?.(".rs-order [data-hit]")?.dataset.hit;
    document.querySelectorAll(".rs-order [data-hit]").forEach((part) => {
      part.classList.toggle("lit", part.dataset.hit === id);
    });
    $(".rs-order")?.classList.toggle("tracing", id !== undefined);
  }

  document.addEventListener("click", (event) => {
    const at = (selector) => event.target.closest?.(selector);
    const row = at(".rs-order a.row");
    if (row) {
      event.preventDefault();
      goTo(row);
    } else if (at("[data-query]")) ask(at("[data-query]").dataset.query);
    else if (at("[data-copy]")) copy(at("[data-copy]"));
    else if (at(".unfold")) unfold(at(".unfold"));
    else if (at(".rs-header .theme")) {
      const dark = document.body.classList.toggle("dark");
      localStorage.setItem("rankscope-theme", dark ? "dark" : "light");
    }
  });
  document.addEventListener("mouseover", (event) => trace(event.target));
  document.addEventListener("focusin", (event) => trace(event.target));
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select, [contenteditable=true]");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      box()?.focus();
      box()?.select();
    }
  });
  // Back and forward go from query to query; the address holds all that one was asked with.
  window.addEventListener("popstate", () => location.reload());
  document.addEventListener("DOMContentLoaded", () => {
    const chosen = localStorage.getItem("rankscope-theme");
    if (chosen && !new URL(location.href).searchParams.has("__theme")) {
      const settle = () => document.body.classList.toggle("dark", chosen === "dark");
      settle();
      setTimeout(settle, 400); // Gradio sets its own choice while it mounts.
    }
  });
})();
