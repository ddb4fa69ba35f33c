#!/usr/bin/env python3
"""The server's page in headless Chromium, driven by playwright: the chat, the microscope beside the API, keys, hostile text.

  usage: check_page.py LATHE [--model M] [--pictures DIR] [--only NAME...]        Closing line "N passed, N failed, N skipped".
"""
import argparse
import json
import math
import pathlib
import shutil
import sys
import tempfile
import threading
import time
import traceback

from check_serve import ROOT, Server

CHECKS = []
PATIENCE = 60_000  # ms: for a machine that is busy with other things
HOSTILE = ["<img src=x onerror=\"document.title='owned'\">", "<script>document.title='owned'</script>", "a" * 3000,
           "\u202eright to left\u202c שלום עולם", "👩‍👩‍👧‍👦🏳️‍🌈 e\u0301", "[x](javascript:document.title='owned')", "```\n</code><b>bold</b>\n```",
           "**<i>x</i>** `<u>y</u>` | <a href=x>z</a>"]


def check(f):
    CHECKS.append(f)
    return f


def settled(page):
    page.wait_for_selector("#talk[data-busy=false]", timeout=PATIENCE)


def until(page, expression):
    """playwright's own wait_for_function needs eval, which the page's policy forbids."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.02)


def send(page, text):
    page.fill("#input", text)
    page.press("#input", "Enter")


def answer(page, at=-1):
    return page.locator("article.assistant .body").nth(at).inner_text()


def choose(page, **settings):
    """Settings by the names of the dialog's fields."""
    page.click("#settings-open")
    for name, value in settings.items():
        page.fill(f"#settings [name={name}]", str(value))
    page.click("#settings button.main")


@check
def conversation(page, server):
    """It streams, is the API's own answer, is stopped, regenerated, edited; and is there after a reload."""
    choose(page, max_tokens=24, temperature=0, system="You answer briefly.")
    send(page, "What is the capital of France?")
    settled(page)
    messages = [{"role": "system", "content": "You answer briefly."}, {"role": "user", "content": "What is the capital of France?"}]
    expected = server.post("/v1/chat/completions", {"messages": messages, "max_tokens": 24, "temperature": 0})
    assert answer(page) == expected["choices"][0]["message"]["content"], answer(page)

    choose(page, max_tokens=2000)
    send(page, "Count from one to five hundred in words.")
    until(page, "document.querySelectorAll('article.assistant')[1]?.innerText.length > 20")
    assert page.get_attribute("#send", "aria-label") == "Stop"
    page.keyboard.press("Escape")
    settled(page)
    assert "stopped" in page.locator("article.assistant").nth(1).inner_text()
    server.until("sequences_running", 0, 30)

    choose(page, max_tokens=12)
    page.locator("article.assistant").nth(1).get_by_label("Regenerate").click()
    settled(page)
    assert page.locator("article").count() == 4 and "stopped" not in page.locator("article").nth(3).inner_text()

    page.locator("article.user").nth(0).hover()
    page.locator("article.user").nth(0).get_by_label("Edit").click()
    page.get_by_label("Edited message").fill("Name a fruit.")
    page.keyboard.press("Enter")
    settled(page)
    assert page.locator("article").count() == 2
    page.locator("article.assistant").get_by_label("Copy").click()
    assert page.evaluate("navigator.clipboard.readText()").strip() == answer(page).strip()
    before = page.locator("#log").inner_text()
    page.reload()
    page.wait_for_selector("body[data-ready]", timeout=PATIENCE)
    assert page.locator("#log").inner_text().split("\n")[0] == "Name a fruit." and before.startswith("Name a fruit.")
    assert answer(page) in before


@check
def conversations(page, server):
    """Several: renamed, exported, deleted; each keeps its own settings."""
    choose(page, max_tokens=4)
    send(page, "First")
    settled(page)
    page.click("#new")
    choose(page, max_tokens=5)
    send(page, "Second")
    settled(page)
    titles = lambda: page.locator("#conversations .title").all_inner_texts()
    assert titles() == ["Second", "First"], titles()
    page.locator("#conversations li").nth(1).hover()
    page.get_by_label("Rename: First").click()
    page.fill("#question-input", "Renamed")
    page.keyboard.press("Enter")
    until(page, "[...document.querySelectorAll('#conversations .title')].some((t) => t.textContent === 'Renamed')")
    with page.expect_download() as saved:
        page.click("#export")
    exported = json.loads(pathlib.Path(saved.value.path()).read_text())
    assert {c["title"] or c["messages"][0]["content"] for c in exported} == {"Renamed", "Second"}
    assert {c["settings"]["max_tokens"] for c in exported} == {4, 5}
    page.locator("#conversations li", has_text="Second").hover()
    page.get_by_label("Delete: Second").click()
    page.click("#question button.main")
    until(page, "document.querySelectorAll('#conversations li').length === 1")
    assert page.locator("article.user").inner_text().startswith("First")


@check
def microscope(page, server):
    """Tokens, ids, probabilities and alternatives are the API's; an alternative is gone on from; lens and maps are the endpoint's."""
    page.evaluate("location.hash = '#microscope'")
    page.fill("#specimen-text", "The capital of France is")
    page.fill("#specimen-count", "6")
    page.click("#specimen button.main")
    page.wait_for_selector("#attention .map", timeout=PATIENCE)
    request = {"prompt": "The capital of France is", "max_tokens": 6, "echo": True, "logprobs": 8, "temperature": 0, "return_token_ids": True}
    lists = server.post("/v1/completions", request)["choices"][0]["logprobs"]
    until(page, f"document.querySelectorAll('#tokens .chip').length === {len(lists['tokens'])}")
    names = page.locator("#tokens .chip").evaluate_all("(chips) => chips.map((chip) => chip.getAttribute('aria-label'))")
    assert [name.rsplit(", ", 1)[0] for name in names] == lists["tokens"], names
    at = len(lists["tokens"]) - 6
    page.locator("#tokens .chip").nth(at).click()
    facts = page.locator("#token .facts").inner_text()
    assert f"id {lists['token_ids'][at]}" in facts and f"{lists['token_logprobs'][at]:.4f}" in facts, facts
    top = sorted(lists["top_logprobs"][at].items(), key=lambda entry: -entry[1])
    shown = page.locator("#token .alternatives button").evaluate_all("(all) => all.map((b) => b.getAttribute('aria-label'))")
    assert [f"Go on with {text}, " for text, _ in top] == [label.rsplit(", ", 1)[0] + ", " for label in shown], shown

    # The lens's last layer is the API's own number, to the bit; the page shows it.
    ids = lists["token_ids"]
    lens = server.post("/v1/inspect", {"what": "logit_lens", "tokens": ids[:at + 1], "positions": [at - 1, at + 1], "top": 8})
    last = lens["layers"][-1]["positions"][0]
    assert last["next"] == {"id": ids[at], "token": lists["tokens"][at], "logprob": lists["token_logprobs"][at]}, last
    assert {t["token"]: t["logprob"] for t in last["top"]} == dict(top[:8])
    until(page, "!document.querySelector('#lens').hasAttribute('aria-busy')")
    cell = page.locator(f"#lens tbody tr:first-child button[aria-label*='after {lists['tokens'][at - 1]}: {last['top'][0]['token']},']")
    cell.wait_for(timeout=PATIENCE)

    maps = server.post("/v1/inspect", {"what": "attention", "tokens": ids, "layer": 0, "head": 0})
    rows = maps["heads"][0]["rows"]
    assert all(math.isclose(sum(row), 1, abs_tol=0.5e-4 * len(row) + 1e-5) for row in rows)
    most = max(range(at + 1), key=lambda j: rows[at][j])
    until(page, "document.querySelector('#attention .map')")
    listed = page.locator("#attention .attention .alternatives li").nth(0).inner_text()
    assert f"{100 * rows[at][most]:.1f}%" in listed, (listed, rows[at])

    other = next(i for i, (text, _) in enumerate(top) if text != lists["tokens"][at])
    page.locator("#token .alternatives button").nth(other).click()
    until(page, f"document.querySelectorAll('#tokens .chip').length === {at + 7}")
    picked = lists["top_token_ids"][at][top[other][0]]
    going = server.post("/v1/completions", {"prompt": ids[:at] + [picked], "max_tokens": 6, "logprobs": 8, "temperature": 0})
    names = page.locator("#tokens .chip").evaluate_all("(chips) => chips.map((chip) => chip.getAttribute('aria-label'))")
    assert [name.rsplit(", ", 1)[0] for name in names][at + 1:] == going["choices"][0]["logprobs"]["tokens"], names


@check
def hostile_text(page, server):
    """What a user or a model writes is text, whatever it looks like; nothing makes the page wider than the window."""
    choose(page, max_tokens=1)
    for text in HOSTILE:
        send(page, text)
        settled(page)
    assert [t.rstrip("\n") for t in page.locator("article.user .plain").evaluate_all("(all) => all.map((p) => p.textContent)")] == HOSTILE
    # The same as answers, which are Markdown.
    page.evaluate("""(texts) => {
      const id = 'hostile', messages = texts.flatMap((content) => [{role: 'user', content: 'x'}, {role: 'assistant', content, reasoning: content}]);
      localStorage.setItem('lathe.conversation.' + id, JSON.stringify({id, title: texts[0], messages, text: '', settings: {}, updated: Date.now() + 1e6}));
      sessionStorage.setItem('lathe.current', id);
    }""", HOSTILE)
    page.reload()
    page.wait_for_selector("body[data-ready]", timeout=PATIENCE)
    assert page.locator("article.assistant").count() == len(HOSTILE)
    assert page.locator("#log").locator("img, script, b, i, u, iframe, a[href^='javascript']").count() == 0
    assert page.title() == "Lathe"
    for width in 360, 1280:
        page.set_viewport_size({"width": width, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.querySelector('#log').scrollWidth <= document.querySelector('#log').clientWidth")


@check
def keyboard(page, server):
    """Everything with Tab, Enter and arrows alone."""
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    tab_to(page, "document.activeElement.id === 'settings-open'")
    page.keyboard.press("Enter")
    tab_to(page, "document.activeElement.name === 'max_tokens'")
    page.keyboard.type("3")
    page.keyboard.press("Escape")
    tab_to(page, "document.activeElement.id === 'input'")
    page.keyboard.type("Hello")
    page.keyboard.press("Enter")
    settled(page)
    tab_to(page, "document.activeElement.getAttribute('aria-label') === 'Look inside'", backwards=True)
    page.keyboard.press("Enter")
    page.wait_for_selector("#attention .map", timeout=PATIENCE)
    page.wait_for_selector("#lens table", timeout=PATIENCE)
    tab_to(page, "document.activeElement.classList.contains('chip')")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('#tokens .chip')[1].getAttribute('aria-selected') === 'true'")
    assert page.evaluate("document.activeElement.dataset.at") == "1"
    tab_to(page, "document.activeElement.closest('.lens') !== null")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"


def tab_to(page, condition, backwards=False):
    for _ in range(80):
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
        if page.evaluate(condition):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", "the focus is not to be seen"
            return
    raise AssertionError(f"the Tab key does not lead to {condition}")


@check
def engine(page, server):
    """The live view counts what the server does."""
    server.post("/v1/completions", {"prompt": "one two three " * 20, "max_tokens": 1})
    page.evaluate("location.hash = '#engine'")
    page.wait_for_selector("#engine canvas", timeout=PATIENCE)
    view = server.get("/v1/engine")[1]
    pages = sum(n for runs in view["pages"] for _, n in runs)
    assert pages == server.metric("cache_pages")
    assert sum(n for runs in view["pages"] for kind, n in runs if kind == "cached") == server.metric("cache_pages_cached") > 0
    assert f"{pages:,}" in page.locator("#engine .cards").inner_text()


def no_template(browser, lathe, folder):
    """A model without a chat template continues a text, and says why; a key is asked for by the browser itself."""
    key = pathlib.Path(folder) / "keys"
    key.write_text("secret\n")
    server = Server(lathe, ROOT / "tests/goldens/llama_untied_gqa", "--api-key-file", str(key)).wait_until_ready()
    try:
        assert server.get("/")[0] == 401 and server.headers["WWW-Authenticate"].startswith("Basic")
        context = browser.new_context(http_credentials={"username": "any", "password": "secret"})
        page, problems = watched(context, server)
        assert "no chat template" in page.locator("#why").inner_text() and page.locator("#talk").is_hidden()
        page.evaluate("location.hash = '#microscope'")
        page.fill("#specimen-text", "[1, 2, 3]")  # it has no tokenizer either: ids
        page.click("#specimen button.main")
        page.wait_for_selector("#attention .map", timeout=PATIENCE)
        context.close()
        assert not problems, problems
    finally:
        server.close()


def watched(context, server):
    page, problems = context.new_page(), []
    page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.wait_for_selector("body[data-ready]", timeout=PATIENCE)
    return page, problems


def pictures(browser, server, folder):
    """The pictures of docs/serving.md."""
    for name, width, scheme, views in (("desktop", 1100, "light", {"chat": 640, "microscope": 2330}), ("desktop_dark", 1100, "dark", {"engine": 640}),
                                       ("phone", 360, "light", {"chat": 680}), ("phone_dark", 360, "dark", {"microscope": 1560})):
        context = browser.new_context(viewport={"width": width, "height": 700}, color_scheme=scheme, has_touch=width < 400)
        page, _ = watched(context, server)
        for view, height in views.items():
            page.evaluate(f"location.hash = '#{view}'")
            {"chat": show_chat, "microscope": show_microscope, "engine": show_engine}[view](page, server)
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_timeout(1000)
            page.screenshot(path=folder / f"page_{view}_{name}.png")
        context.close()


def show_chat(page, server):
    choose(page, max_tokens=200, temperature=0)
    send(page, "Write a short poem about the sea, then list three facts about it.")
    settled(page)
    page.locator("#input").blur()


def show_microscope(page, server):
    page.fill("#specimen-text", "The Eiffel Tower stands in the city of")
    page.click("#specimen button.main")
    page.wait_for_selector("#attention .map", timeout=PATIENCE)
    page.locator("#attention [data-name=layer]").fill("12")
    page.wait_for_selector("#lens table", timeout=PATIENCE)
    page.wait_for_timeout(1000)
    page.evaluate("document.querySelector('#microscope').scrollTop = 0")


def show_engine(page, server):
    for i in range(12):
        request = {"prompt": "The quick brown fox jumps over the lazy dog. " * (10 + 5 * (i % 3)) + str(i), "max_tokens": 400, "ignore_eos": True, "n": 1 + i % 3}
        threading.Thread(target=server.post, args=("/v1/completions", request), daemon=True).start()
    page.wait_for_timeout(6000)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lathe")
    parser.add_argument("--model", default=ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--pictures", type=pathlib.Path)
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if not chromium or not sync_playwright:
        print(f"check_page: skipped: {'playwright' if chromium else 'chromium'} is not installed\n0 passed, 0 failed, 1 skipped")
        return 0
    passed, failed = 0, 0
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        server = Server(options.lathe, options.model).wait_until_ready()
        if options.pictures:
            pictures(browser, server, options.pictures)
        for f in [] if options.pictures else [*CHECKS, no_template]:
            if options.only and f.__name__ not in options.only:
                continue
            try:
                if f is no_template:
                    f(browser, options.lathe, folder)
                else:
                    context = browser.new_context(viewport={"width": 1200, "height": 860}, permissions=["clipboard-read", "clipboard-write"])
                    page, problems = watched(context, server)
                    f(page, server)
                    context.close()
                    assert not problems, problems
                passed += 1
                print(f"check_page: {f.__name__}: ok", flush=True)
            except Exception:
                failed += 1
                print(f"check_page: {f.__name__} failed: {f.__doc__}\n{traceback.format_exc()}", flush=True)
        server.close()
        browser.close()
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
