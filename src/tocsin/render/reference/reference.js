// Copy buttons, the filter, and this server's own address in the commands. The page works without.
"use strict";

function copyButtons() {
  for (const figure of document.querySelectorAll("figure.code")) {
    const button = document.createElement("button");
    const what = figure.querySelector("figcaption").textContent;
    const say = (text) => {
      button.textContent = text;
      button.setAttribute("aria-label", `${text}: ${what}`);
    };
    button.type = "button";
    say("Copy");
    button.addEventListener("click", async () => {
      say(await copy(figure.querySelector("code")) ? "Copied" : "Selected");
      setTimeout(say, 1500, "Copy");
    });
    figure.querySelector("figcaption").append(button);
  }
}

// The clipboard is there on https and on localhost only; elsewhere the text is selected.
async function copy(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(code);
    return false;
  }
}

function filterBox() {
  const box = document.createElement("input");
  box.type = "search";
  box.placeholder = "Find a call   /";
  box.setAttribute("aria-label", "Find a call");
  box.addEventListener("input", () => show(box.value));
  document.getElementById("filter").append(box);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && event.target.tagName !== "INPUT") {
      event.preventDefault();
      box.focus();
    }
    if (event.key === "Escape" && event.target === box) {
      box.value = "";
      show("");
      box.blur();
    }
  });
}

function show(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const one of document.querySelectorAll("[data-find]")) {
    one.hidden = !words.every((word) => one.dataset.find.includes(word));
    found += one.hidden ? 0 : 1;
  }
  for (const group of document.querySelectorAll(".resource, .side details, .dialect, .side section")) {
    group.hidden = words.length > 0 && !group.querySelector("[data-find]:not([hidden])");
  }
  document.body.classList.toggle("filtered", words.length > 0);
  document.getElementById("none").hidden = found > 0;
}

function ownAddress() {
  const code = document.querySelector("#start figure code");
  code.textContent = code.textContent.replace(/^export BASE=.*$/m, "export BASE=" + location.origin);
}

// The entry of the call that is being read is marked in the list.
function follow() {
  const links = new Map();
  for (const link of document.querySelectorAll(".side li a")) {
    links.set(link.getAttribute("href").slice(1), link);
  }
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const link = links.get(entry.target.id);
      if (link && entry.isIntersecting) {
        document.querySelector(".side a[aria-current]")?.removeAttribute("aria-current");
        link.setAttribute("aria-current", "true");
        link.scrollIntoView({ block: "nearest" });
      }
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  for (const call of document.querySelectorAll("article.call")) {
    watch.observe(call);
  }
}

ownAddress();
copyButtons();
filterBox();
follow();
