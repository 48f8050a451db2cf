"""Opens pages of `serve` in Chromium, and prints what is wrong with them as JSON.

Read from standard input: {"base", "token", "viewer", "pages": [path], "shots": folder or null}.

Each page is opened in both colour schemes, at 1280 and at 390 pixels. axe must find nothing, the page must not be wider
than the window, everything that can be done must be reached with Tab and show that it has the focus, style and script
must be small, and nothing may be fetched from elsewhere.
"""

import json
import re
import sys
from pathlib import Path

import axe_playwright_python
from playwright.sync_api import sync_playwright

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SIZE_MOST = 100_000
# What can be done on a page. Each gets a number, so that the one with the focus can be named.
ACTIONS = """() => {
  const all = document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary");
  return [...all].filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.disabled).map((one, at) => {
    one.dataset.action = at;
    return one.outerHTML.slice(0, 120);
  });
}"""
FOCUS = """() => {
  const one = document.activeElement;
  const style = getComputedStyle(one);
  return [one.dataset.action ?? null, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0];
}"""


def log_in(page, base, token):
    """By keyboard, as its form is."""
    page.goto(base + "login")
    page.wait_for_function("document.activeElement.id === 'token'")
    page.keyboard.type(token)
    page.keyboard.press("Enter")
    page.wait_for_url(base)


def settled(page):
    """Stacks are listed when AWS has answered; everything else is there with the page."""
    page.wait_for_function(
        """() => !document.querySelector("main").textContent.includes("Asking AWS")""", timeout=30_000
    )


def keyboard(page):
    """What Tab does not reach, or not visibly."""
    # Parts that are drawn again would lose their numbers. An expression that is a function would be called, and awaited.
    page.evaluate("() => { window.fetch = () => new Promise(() => {}); }")
    actions = page.evaluate(ACTIONS)
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    reached, hidden = set(), []
    for _ in range(len(actions) + 5):
        page.keyboard.press("Tab")
        at, shows = page.evaluate(FOCUS)
        if at is None:
            continue
        if at in reached:
            break
        reached.add(at)
        if not shows:
            hidden.append(f"the focus is not visible on {actions[int(at)]}")
    missed = [action for at, action in enumerate(actions) if str(at) not in reached]
    return hidden + [f"Tab does not reach {action}" for action in missed]


def problems_of(page, base, width, with_keyboard):
    found = []
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    page.evaluate(AXE)
    result = page.evaluate(
        # A call in the page has no timeout of its own.
        """(rules) => Promise.race([
          axe.run(document, { runOnly: rules, resultTypes: ['violations'], preload: false }),
          new Promise((_, fail) => setTimeout(() => fail(new Error("axe did not end within a minute")), 60_000)),
        ])""",
        RULES,
    )
    for violation in result["violations"]:
        for node in violation["nodes"][:3]:
            found.append(f"axe: {violation['id']}: {node['html'][:160]}: {node['failureSummary'][:300]}")
    wide = page.evaluate("document.documentElement.scrollWidth")
    if wide > width:
        widest = page.evaluate(
            """(most) => [...document.querySelectorAll("main *")].filter((one) =>
              one.getBoundingClientRect().right > most + 1).slice(0, 3).map((one) => one.outerHTML.slice(0, 160))""",
            width,
        )
        found.append(f"it is {wide} pixels wide: {widest}")
    if width < 600:
        inner = page.evaluate(
            """() => [...document.querySelectorAll(".wrap")].filter((one) => one.scrollWidth > one.clientWidth)
              .map((one) => one.innerHTML.slice(0, 160))"""
        )
        found += [f"a table is wider than the window: {one}" for one in inner]
    if with_keyboard:
        found += keyboard(page)
    return found


def main():
    task = json.load(sys.stdin)
    base, shots = task["base"], task.get("shots")
    found, opened, size = [], 0, 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for scheme in ["light", "dark"]:
            for width in [1280, 390]:
                context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
                page = context.new_page()
                at = {"page": "login"}
                elsewhere = lambda request: request.url.startswith((base, "data:")) or found.append(
                    f"{at['page']}: asks for {request.url}"
                )
                page.on("request", elsewhere)
                page.on("console", lambda message: message.type == "error" and found.append(
                    f"{at['page']}: the console: {message.text}"
                ))
                page.on("pageerror", lambda error: found.append(f"{at['page']}: the script: {error}"))
                page.goto(base + "login")
                for one in problems_of(page, base, width, True):
                    found.append(f"login, {scheme}, {width}: {one}")
                log_in(page, base, task["token"])
                for path in task["pages"]:
                    at["page"] = path
                    answer = page.goto(base + path.lstrip("/"))
                    if answer.status != 200:
                        found.append(f"{path}: {answer.status}")
                        continue
                    settled(page)
                    opened += 1
                    if shots:
                        name = re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-") or "home"
                        page.screenshot(path=f"{shots}/{name}-{scheme}-{width}.png", full_page=True)
                    html = answer.text()
                    parts = re.findall(r"<(style|script)>(.*?)</\1>", html, re.S)
                    size = max(size, sum(len(text.encode()) for _, text in parts))
                    for one in problems_of(page, base, width, scheme == "light"):
                        found.append(f"{path}, {scheme}, {width}: {one}")
                context.close()
        if size > SIZE_MOST:
            found.append(f"style and script have {size} bytes")
        browser.close()
    json.dump({"opened": opened, "size": size, "problems": found}, sys.stdout)


main()
