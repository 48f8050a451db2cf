"""Does with the keyboard alone, in Chromium without scripts, what can be done on the pages of `serve`.

Read from standard input: {"base", "token", "steps": [step]}. A step is one of
  {"open": path}                    opens a page
  {"choose": name}                  gives the focus to the link, button or summary of that name, with Tab, and presses Enter
  {"fill": label, "text": text}     gives the focus to that field, with Tab, and types
  {"pick": label, "text": option}   the same for a choice
  {"see": text}                     the page must show that text
  {"wait": text}                    the page is loaded again until it shows that text
Prints where it ended and what is shown there as JSON.
"""

import json
import sys
import time

from playwright.sync_api import sync_playwright

TABS_MOST = 300


def focus(page, locator, what):
    """Tab, until the element has the focus."""
    locator.wait_for(timeout=20_000)
    handle = locator.element_handle()
    for _ in range(TABS_MOST):
        if handle.evaluate("(one) => one === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise SystemExit(f"Tab does not reach {what}; it stands on {page.url}")


def named(page, name):
    shown = page.get_by_role("button", name=name, exact=True).or_(page.get_by_role("link", name=name, exact=True))
    # What is folded is not shown, and its summary leads there.
    return shown.first if shown.count() else page.locator("summary", has_text=name).first


def act(page, base, step):
    match step:
        case {"open": path}:
            page.goto(base + path.lstrip("/"))
        case {"choose": name}:
            chosen = named(page, name)
            focus(page, chosen, name)
            if chosen.evaluate("(one) => one.tagName") == "SUMMARY":
                page.keyboard.press("Enter")
            else:
                with page.expect_navigation():
                    page.keyboard.press("Enter")
        case {"fill": label, "text": text}:
            focus(page, page.get_by_label(label, exact=True).first, label)
            page.keyboard.type(text)
        case {"pick": label, "text": option}:
            field = page.get_by_label(label, exact=True).first
            focus(page, field, label)
            page.keyboard.type(option)
            if field.input_value() != option:
                raise SystemExit(f"{label} is {field.input_value()}")
        case {"see": text}:
            if text not in page.locator("main").inner_text():
                raise SystemExit(f"{page.url} does not show `{text}`:\n{page.locator('main').inner_text()}")
        case {"wait": text}:
            limit = time.monotonic() + 60
            while text not in page.locator("main").inner_text():
                if time.monotonic() > limit:
                    raise SystemExit(f"{page.url} never shows `{text}`:\n{page.locator('main').inner_text()}")
                time.sleep(0.3)
                page.reload()
        case _:
            raise SystemExit(f"unknown step {step}")


def main():
    task = json.load(sys.stdin)
    base = task["base"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_context(java_script_enabled=False, viewport={"width": 1280, "height": 900}).new_page()
        page.goto(base + "login")
        page.wait_for_function("document.activeElement.id === 'token'")
        page.keyboard.type(task["token"])
        page.keyboard.press("Enter")
        page.wait_for_url(base)
        for step in task["steps"]:
            act(page, base, step)
        json.dump({"url": page.url, "text": page.locator("main").inner_text()}, sys.stdout)
        browser.close()


main()
