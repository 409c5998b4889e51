"""The page in a real browser, over the real models. No request may leave this machine."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from conftest import TIMEOUT_MS, App, call, indexing
from playwright.sync_api import Page, expect
from provider import Answer, Asked, Provider, running, serve_models

from backend.build import UnavailableEmbedder
from backend.config import DEFAULT_COLLECTION
from backend.errors import ModelUnavailable
from backend.reranking.cross_encoder import CrossEncoder
from backend.types import IndexProgress, SearchResponse
from ui import search_tab
from ui.status import status

QUERY = "send a failed batch again"
pytestmark = pytest.mark.filterwarnings("ignore")  # Those of Gradio and uvicorn, in this process.


def ask(page: Page, text: str) -> None:
    page.locator("#q input").fill(text)
    page.locator("#q input").press("Enter")


def answered(page: Page) -> None:
    """Wait for the final order."""
    expect(page.locator(".rs-verdict:not(.pending)")).to_be_visible(timeout=TIMEOUT_MS)


def paths(page: Page) -> list[str]:
    return page.locator(".rs-hits .path").all_inner_texts()


def places(response: SearchResponse) -> list[str]:
    chunks = [folded.hit.chunk for folded in response.folded]
    return [f"{chunk.path}:{chunk.start_line}-{chunk.end_line}" for chunk in chunks]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Hold the reranker back until the event is set."""
    release, score = threading.Event(), CrossEncoder.score

    def hold(self: CrossEncoder, query: str, passages: Sequence[str], *, budget_ms: float) -> Any:
        release.wait(30)
        return score(self, query, passages, budget_ms=budget_ms)

    monkeypatch.setattr(CrossEncoder, "score", hold)
    yield release
    release.set()


def test_page_opens_ready_to_type(app: App, visit: Callable[..., Page]) -> None:
    page = visit(app.url)

    expect(page).to_have_title("Rankscope")
    expect(page.locator("#q input")).to_be_focused()
    expect(page.get_by_role("tab", name="Search")).to_be_visible()
    expect(page.locator(".rs-intro .size")).to_contain_text(f"{DEFAULT_COLLECTION}:")
    expect(page.get_by_role("progressbar")).to_have_count(0)


def test_first_stage_hits_appear_before_reranking_ends(
    app: App, visit: Callable[..., Page], held: threading.Event
) -> None:
    page = visit(app.url)
    ask(page, QUERY)

    expect(page.locator(".rs-verdict.pending")).to_contain_text("Reranking")
    first_stage = paths(page)
    expect(page.locator(".rs-order .skeleton")).to_be_visible()
    held.set()
    answered(page)

    response = app.workspace.search(QUERY)
    assert first_stage == places(app.workspace.search(QUERY, rerank=False))
    assert paths(page) == places(response)


def test_before_and_after_show_each_movement(app: App, visit: Callable[..., Page]) -> None:
    queries = [QUERY, "upload points", "count the vectors", "what does a snapshot hold"]
    response = next(
        found for found in map(app.workspace.search, queries) if any(h.moved for h in found.hits)
    )
    page = visit(f"{app.url}?q={response.query.text}")
    answered(page)

    marks = page.locator(".rs-order .after .move").all_inner_texts()
    assert len(marks) == len(response.hits) == page.locator(".rs-order svg path:not(.gone)").count()
    for mark, hit in zip(marks, response.hits, strict=True):
        if hit.first_rank > len(response.hits):
            assert mark == f"new · #{hit.first_rank}"
        else:
            assert mark == (
                f"▲{hit.moved}" if hit.moved > 0 else f"▼{-hit.moved}" if hit.moved else "="
            )
    moved = sum(hit.moved != 0 for hit in response.hits)
    expect(page.get_by_role("status").filter(has_text="moved")).to_contain_text(
        f"{moved} of the top {len(response.hits)} moved"
    )


def test_every_stage_shows_its_milliseconds(app: App, visit: Callable[..., Page]) -> None:
    page = visit(f"{app.url}?q={QUERY}")
    answered(page)

    assert page.locator(".rs-legend dt").all_inner_texts() == [
        "Read",
        "Embed query",
        "Retrieve",
        "Signals",
        "Assess",
        "Rerank",
        "Total",
    ]
    times = [float(t.removesuffix(" ms")) for t in page.locator(".rs-legend dd").all_inner_texts()]
    assert times[-1] == pytest.approx(sum(times[:-1]), abs=0.3)
    assert page.locator(".rs-bar .seg").count() == 6


def test_further_hits_of_a_file_are_folded_and_a_row_opens_them(
    app: App, visit: Callable[..., Page]
) -> None:
    query = "upload points"
    folded = next(f for f in app.workspace.search(query).folded if f.also)
    further = folded.also[0]
    page = visit(f"{app.url}?q={query}")
    answered(page)

    within = page.locator(f"#hit-{folded.hit.rank} #hit-{further.rank}")
    expect(within.locator("summary")).to_contain_text(
        f"also lines {further.chunk.start_line}-{further.chunk.end_line}"
    )
    expect(within.locator("pre")).to_be_hidden()
    page.locator(".rs-order .after .row").nth(further.rank - 1).press("Enter")
    expect(within.locator("pre")).to_be_visible()
    expect(within.locator("pre")).to_contain_text(further.chunk.text.split("\n")[0].strip())


def test_a_hit_leads_to_chunks_like_it(app: App, visit: Callable[..., Page]) -> None:
    page = visit(f"{app.url}?q=enumerate all the constants")
    answered(page)
    page.locator("#hit-1 .similar").first.click()

    expect(page.locator(".rs-verdict")).to_contain_text("Most similar to shop/long.py:1-")
    related = app.workspace.find_related("shop/long.py", 1)
    expect(page.locator(".rs-hits .scores").first).to_contain_text(
        f"similarity {related.hits[0].score:.3f}"
    )
    assert "similar" in page.url


def test_a_hit_says_what_every_signal_added(app: App, visit: Callable[..., Page]) -> None:
    page = visit(f"{app.url}?q=send_with_retries")
    answered(page)
    best = app.workspace.search("send_with_retries").hits[0]
    why = page.locator("#hit-1 .scores").first

    assert best.signals
    expect(why).to_contain_text(f"retrieved #{best.fused_rank}, fused {best.fused_score:.3f}")
    for name, worth in best.signals.items():
        expect(why).to_contain_text(f"{name} {worth:+.3f}")


def test_a_hit_says_that_it_was_held_back(app: App, visit: Callable[..., Page]) -> None:
    page = visit(f"{app.url}?q={QUERY}")
    answered(page)
    hit = next(hit for hit in app.workspace.search(QUERY).hits if hit.held_back)

    expect(page.locator(f"#hit-{hit.rank} .scores").first).to_contain_text(
        f"reranker {hit.rerank_score:+.2f} · held back {hit.held_back:+.2f}"
    )


def test_no_good_match_is_an_answer(app: App, visit: Callable[..., Page]) -> None:
    page = visit(f"{app.url}?q=weather in Paris tomorrow")
    answered(page)
    expect(page.locator(".rs-verdict")).to_contain_text("No good match.")

    page = visit(f"{app.url}?q=weather in Paris tomorrow&floor=low")
    expect(page.locator(".rs-note[role=status]")).to_contain_text("No good match in")
    expect(page.locator(".rs-hits")).to_have_count(0)


def test_a_misspelled_name_says_how_it_was_read(app: App, visit: Callable[..., Page]) -> None:
    page = visit(f"{app.url}?q=send_wiht_retries")
    answered(page)

    expect(page.locator(".rs-verdict")).to_contain_text("Read as send_with_retries")
    expect(page.locator("#q input")).to_have_value("send_wiht_retries")


def test_row_leads_to_its_hit(app: App, visit: Callable[..., Page]) -> None:
    page = visit(f"{app.url}?q={QUERY}")
    answered(page)
    page.locator(".rs-order .after .row").nth(4).press("Enter")

    expect(page.locator("#hit-5")).to_be_focused()
    expect(page.locator("#hit-5")).to_be_in_viewport()


def test_code_has_real_line_numbers_and_unfolds(app: App, visit: Callable[..., Page]) -> None:
    page = visit(f"{app.url}?q=enumerate all the constants")
    answered(page)
    hit = page.locator(".rs-hits .hit").filter(has_text="enumerate_constants").first
    last = hit.locator(".l").last

    expect(last).to_be_hidden()
    hit.get_by_role("button", name="Show all").click()
    expect(last).to_be_visible()
    expect(last).to_have_attribute("data-n", "32")
    expect(last).to_have_text("    value_29 = 29\n", use_inner_text=False)


@pytest.mark.parametrize("query", ["hostile attack payload", "attackPayload in code"])
def test_indexed_text_is_shown_and_never_run(
    app: App, visit: Callable[..., Page], query: str
) -> None:
    """Tags, `${…}`, backticks and mustaches arrive on the page as the letters they are."""
    page = visit(f"{app.url}?q={query}")
    answered(page)

    text = "".join(page.locator(".rs-hits pre").all_text_contents())
    assert "<script>window.pwned=2</script> ${window.pwned=3} `${window.pwned=4}`" in text
    assert (
        "{{constructor.constructor('window.pwned=5')()}} {{{value}}} \\u0024{window.pwned=6}"
        in text
    )
    assert '</code></pre><img src=x onerror="window.pwned=7">' in text
    assert "`${alert(1)} \\n ${window.pwned = 8}`" in text
    assert page.evaluate("window.pwned") is None
    assert page.locator("#hits img, #order img, #hits script").count() == 0


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("", "The query is empty. Describe the code or text to find."),
        ("x" * 10_001, "The query has 10,001 characters; 10,000 are allowed."),
    ],
)
def test_bad_query_shows_one_error_with_its_fix(
    app: App, visit: Callable[..., Page], typed: str, told: str
) -> None:
    page = visit(f"{app.url}?q={QUERY}")
    answered(page)
    ask(page, typed)

    expect(page.get_by_role("alert")).to_contain_text(told)
    expect(page.locator(".rs-hits")).to_have_count(0)
    expect(page.get_by_text("Error", exact=True)).to_have_count(0)


def test_unknown_collection_in_the_address_is_explained(
    app: App, visit: Callable[..., Page]
) -> None:
    page = visit(f"{app.url}?q=x&collection=nope")

    expect(page.get_by_role("alert")).to_contain_text("There is no collection 'nope'. Known")


def test_a_page_from_before_a_restart_keeps_its_collection(
    app: App, corpus: Path, visit: Callable[..., Page]
) -> None:
    """Gradio then knows nothing of what it offered that page."""
    app.workspace.index(corpus, collection="another")
    page = visit(f"{app.url}?q=count&collection=another")
    answered(page)
    app.page.app.state_holder.session_data.clear()
    ask(page, "similar:docs/guide.md:3")

    expect(page.locator("#verdict")).to_contain_text("Most similar to docs/guide.md")
    expect(page.get_by_text("Error", exact=True)).to_have_count(0)


def test_a_filter_that_the_chosen_collection_does_not_know_is_kept(
    app: App, visit: Callable[..., Page]
) -> None:
    page = visit(f"{app.url}?q=x&collection=nope&language=cobol")

    expect(page.get_by_role("alert")).to_contain_text("There is no collection 'nope'. Known")
    page.wait_for_timeout(500)  # What follows the change of the collection has been done by then.
    ask(page, QUERY)
    expect(page.get_by_role("alert")).to_contain_text("There is no collection 'nope'. Known")
    expect(page.get_by_text("Error", exact=True)).to_have_count(0)


def test_what_the_address_asks_for_is_not_lost_to_a_look_at_the_progress(
    app: App, visit: Callable[..., Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow answers: of the address after two seconds, of what was asked meanwhile after three."""
    waits = iter([2.0])

    def slow(*given: Any) -> str:
        time.sleep(next(waits, 3.0))
        return status(*given)

    monkeypatch.setattr(search_tab, "status", slow)
    page = visit(f"{app.url}?q=x&collection=nope")

    expect(page.get_by_role("alert")).to_contain_text("There is no collection 'nope'. Known")
    page.wait_for_timeout(3000)
    ask(page, QUERY)
    expect(page.get_by_role("alert")).to_contain_text("There is no collection 'nope'. Known")
    assert "collection=nope" in page.url


def test_back_and_forward_go_from_query_to_query(app: App, visit: Callable[..., Page]) -> None:
    page = visit(app.url)

    def go(where: str, query: str) -> None:
        page.evaluate(f"history.{where}()")
        expect(page.locator("#q input")).to_have_value(query, timeout=TIMEOUT_MS)
        if query:
            answered(page)

    for query in (QUERY, "Session"):
        ask(page, query)
        page.wait_for_url(f"**q={query.replace(' ', '+')}**")
    go("back", QUERY)
    go("forward", "Session")
    go("back", QUERY)
    go("back", "")
    expect(page.locator("#intro .rs-intro")).to_be_visible()


def test_filters_that_match_nothing_say_so(app: App, visit: Callable[..., Page]) -> None:
    page = visit(f"{app.url}?q={QUERY}&path=no/such/folder")

    expect(page.get_by_role("status").filter(has_text="Nothing in")).to_contain_text(
        "Clear a filter"
    )


def test_address_holds_the_search(app: App, visit: Callable[..., Page]) -> None:
    page = visit(f"{app.url}?rerank=off&language=markdown")
    expect(page.get_by_role("heading", name="1 · Retrieve")).to_be_visible()  # With the options.
    ask(page, QUERY)
    answered(page)

    assert "q=send+a+failed+batch+again" in page.url
    assert "rerank=off" in page.url
    expect(page.get_by_role("status").filter(has_text="hits")).to_contain_text("Reranking is off")
    page.reload()
    answered(page)
    expect(page.locator("#q input")).to_have_value(QUERY)
    assert {path.split(":")[0][-3:] for path in paths(page)} == {".md"}


def test_a_number_that_cannot_be_is_put_into_its_range_or_refused(
    app: App, visit: Callable[..., Page]
) -> None:
    page = visit(f"{app.url}?q={QUERY}")
    answered(page)
    page.get_by_role("button", name="Options").click()
    box = page.get_by_label("number input for Hits")
    for typed, taken in (("500", "100"), ("", "1")):
        box.fill(typed)
        box.press("Tab")
        expect(box).to_have_value(taken)
        page.wait_for_url(f"**k={taken}")
    expect(page.locator(".rs-hits > .hit")).to_have_count(1)
    page.get_by_label("Reranking budget (ms)").fill("-5")
    page.get_by_label("Reranking budget (ms)").press("Enter")

    expect(page.locator("#verdict")).to_contain_text("budget_ms is -5; it must lie between 0")


def test_newer_query_is_never_overwritten_by_an_older_one(
    app: App, visit: Callable[..., Page], held: threading.Event
) -> None:
    page = visit(app.url)
    ask(page, "enumerate all the constants")
    expect(page.locator(".rs-verdict.pending")).to_be_visible()
    ask(page, "upload points")
    ask(page, "what does a snapshot hold")
    held.set()

    expected = places(app.workspace.search("what does a snapshot hold"))
    expect(page.locator(".rs-hits .path").first).to_have_text(expected[0])
    answered(page)
    page.wait_for_timeout(500)
    assert paths(page) == expected


def test_slash_leads_to_the_query_and_examples_are_asked(
    app: App, visit: Callable[..., Page]
) -> None:
    page = visit(app.url)
    page.get_by_role("button", name="QdrantClient.upsert").click()
    answered(page)
    expect(page.locator("#q input")).to_have_value("QdrantClient.upsert")
    page.locator("#hit-1").focus()
    page.keyboard.press("/")

    expect(page.locator("#q input")).to_be_focused()


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_overflows_sideways(app: App, visit: Callable[..., Page], width: int) -> None:
    page = visit(f"{app.url}?q={QUERY}", viewport={"width": width, "height": 844})
    answered(page)
    shown = {
        "Search": ".rs-hits",
        "Collections": ".rs-collections",
        "Models": ".rs-models",
        "Evaluate": "#evaluate-go",
        "Agents": ".rs-agents",
    }
    for name, part in shown.items():
        page.get_by_role("tab", name=name).click()
        page.locator(part).wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name


def test_dark_mode_follows_the_system_and_can_be_switched(
    app: App, visit: Callable[..., Page]
) -> None:
    page = visit(f"{app.url}?q={QUERY}", color_scheme="dark")
    answered(page)
    brightness = "e => getComputedStyle(e).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"

    assert max(page.locator(".rs-hits .hit").first.evaluate(brightness)) < 60
    page.get_by_role("button", name="Switch between light and dark").click()
    assert min(page.locator(".rs-hits .hit").first.evaluate(brightness)) > 240


def test_models_tab_lists_what_is_ready_and_what_would_be_fetched(
    app: App, visit: Callable[..., Page]
) -> None:
    page = visit(app.url)
    page.get_by_role("tab", name="Models").click()
    rows = page.locator(".rs-models tbody tr")

    bundled = rows.filter(has_text="all-MiniLM-L6-v2")
    expect(bundled).to_contain_text("in use")
    expect(bundled).to_contain_text("ready")
    expect(rows.filter(has_text="nomic-embed-code")).to_contain_text("would fetch 28.3 GB")
    expect(rows.filter(has_text="CodeRankLLM")).to_contain_text("by endpoint")


def test_an_answer_without_the_embedding_model_says_so(
    app: App, visit: Callable[..., Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = app.workspace.load()
    gone = UnavailableEmbedder(
        models.embedder.card, ModelUnavailable("The <weights> are gone.", fix="Bring them back.")
    )
    stand_in = replace(models, embedder=gone)
    monkeypatch.setattr("backend.loading.LoadedModels.load_what_can_be", lambda self: stand_in)
    page = visit(f"{app.url}?q=failed+batch")

    note = page.locator(".rs-verdict .degraded")
    expect(note).to_contain_text("Found by words alone")
    expect(note).to_contain_text("The <weights> are gone. Bring them back.")
    assert page.locator(".rs-hits .hit").count() > 0


def test_agents_tab_names_the_address_that_was_opened(app: App, visit: Callable[..., Page]) -> None:
    page = visit(app.url)
    page.get_by_role("tab", name="Agents").click()

    expect(page.locator(".rs-agents .endpoint code")).to_have_text(f"{app.url}gradio_api/mcp/")


def test_agents_are_given_the_address_that_the_browser_names(app: App) -> None:
    """Between browser and app there may be proxies that end TLS, cut the path and name no host."""
    shown = call(app.url, "fill_in", ["https://[2001:db8::1]/tools/"], host="gradio_api.internal")

    assert "<code>https://[2001:db8::1]/tools/gradio_api/mcp/</code>" in shown
    assert "rankscope &#39;https://[2001:db8::1]/tools/gradio_api/mcp/&#39;" in shown
    assert "internal" not in shown


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="This machine has no IPv6.")
def test_the_page_can_be_served_at_an_ipv6_address(serve: Callable[..., App], corpus: Path) -> None:
    served = serve(
        indexing(corpus),
        host="::1",
    )

    assert served.url.startswith("http://[::1]:")
    assert "Rankscope" in httpx.get(served.url).text


def test_progress_shows_and_an_early_query_is_answered_when_ready(
    serve: Callable[..., App], corpus: Path, visit: Callable[..., Page]
) -> None:
    go_on = threading.Event()

    def make(workspace: Any) -> Callable[[Callable[[IndexProgress], None]], object]:
        def build(on_progress: Callable[[IndexProgress], None]) -> object:
            on_progress(
                IndexProgress(
                    phase="embed",
                    chunks=1280,
                    chunks_total=5120,
                    chunks_per_second=96.4,
                    seconds_left=39.8,
                    message="shop/retry.py",
                )
            )
            go_on.wait(60)
            return workspace.index(corpus, collection=DEFAULT_COLLECTION, on_progress=on_progress)

        return build

    building = serve(make)
    page = visit(building.url)
    try:
        bar = page.get_by_role("progressbar", name="Embedding chunks")
        expect(bar).to_have_attribute("aria-valuenow", "25")
        expect(page.locator(".rs-build")).to_contain_text(
            "1,280 of 5,120 chunks · 96 chunks/s · 40 s left"
        )
        ask(page, QUERY)
        expect(page.locator("#verdict")).to_contain_text("Your query is kept.")
    finally:
        go_on.set()

    answered(page)
    assert "docs/guide.md" in "".join(paths(page))
    expect(bar).to_have_count(0)


# Models at a provider

KEY = "sk-visitor-0123456789abcdef"


@pytest.fixture
def provider(app: App) -> Iterator[Provider]:
    """Serves the embedding model of the app, and a reranker, to whoever has the key."""
    model = app.workspace.load().embedder

    def behave(asked: Asked) -> Answer:
        if asked.headers.get("Authorization") != f"Bearer {KEY}":
            return Answer(status=401)
        if not asked.path.endswith("/embeddings"):
            return serve_models(asked)
        vectors = [model.embed_query(text).tolist() for text in asked.body["input"]]
        return Answer({"data": [{"index": i, "embedding": v} for i, v in enumerate(vectors)]})

    with running(behave) as served:
        yield served


@pytest.fixture
def provided(serve: Callable[..., App], corpus: Path) -> App:
    """An app whose operator allows providers on this machine."""
    made = serve(
        indexing(corpus),
        provider_hosts="127.0.0.1",
    )
    assert made.preparation.wait(timeout_s=300).step == "ready"
    return made


def choose_provider(page: Page, name: str, url: str, served_as: str, *, which: str) -> None:
    if not page.locator(f"#{which}-url input").is_visible():
        page.get_by_text("Where models run").click()
    page.locator(f"#{which}-at input").click()
    page.locator(f"#{which}-at").get_by_role("option", name=name).click()
    page.locator(f"#{which}-url input").fill(url)
    page.locator(f"#{which}-as input").fill(served_as)
    page.locator(f"#{which}-key input").fill(KEY)


def test_a_visitors_provider_answers_and_the_key_stays_out_of_the_page(
    provided: App, visit: Callable[..., Page], provider: Provider
) -> None:
    page = visit(provided.url)
    for which, model in (("embed", "minilm"), ("rerank", "acme/rank")):
        choose_provider(page, "Custom URL", provider.url, model, which=which)
    page.locator("#providers-use").click()
    expect(page.locator("#providers-status")).to_contain_text("Connected for this visit")
    ask(page, QUERY)
    answered(page)

    assert paths(page)
    asked = {(one.path, one.body["model"]) for one in provider.asked}
    assert asked == {("/v1/embeddings", "minilm"), ("/v1/rerank", "acme/rank")}
    assert page.locator("#embed-key input").input_value() == ""
    assert page.locator("#embed-key input").get_attribute("type") == "password"
    assert KEY not in page.content() + page.url
    assert KEY not in page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")

    provider.behave = lambda asked: Answer(status=401)
    ask(page, "failed batch")
    expect(page.locator(".degraded")).to_contain_text("refused the key")
    assert paths(page), "words alone still find something"


def test_a_visitor_who_chose_nothing_searches_with_the_configured_models(
    provided: App, visit: Callable[..., Page], provider: Provider
) -> None:
    """What one visitor connected is not another's."""
    one, other = visit(provided.url), visit(provided.url)
    choose_provider(one, "Custom URL", provider.url, "minilm", which="embed")
    one.locator("#providers-use").click()
    expect(one.locator("#providers-status")).to_contain_text("Connected")
    count = len(provider.asked)
    ask(other, QUERY)
    answered(other)

    assert len(provider.asked) == count


def test_an_address_that_is_not_public_is_refused_on_the_page(
    app: App, visit: Callable[..., Page], provider: Provider
) -> None:
    page = visit(app.url)
    choose_provider(page, "Custom URL", provider.url, "minilm", which="embed")
    page.locator("#providers-use").click()
    expect(page.locator("#providers-status")).to_contain_text("is not https")
    page.locator("#embed-url input").fill(provider.url.replace("http:", "https:"))
    page.locator("#embed-key input").fill(KEY)
    page.locator("#providers-use").click()
    expect(page.locator("#providers-status")).to_contain_text("is not a public address")

    assert provider.asked == []
    assert page.locator("#embed-at").inner_text().count("Ollama") == 0
    ask(page, QUERY)
    answered(page)


def labels_file(folder: Path, package: str, *, query: str = QUERY) -> Path:
    spans = {"retry.py": (1, 12, 2), "helpers.py": (1, 200, 1)}
    targets = [
        {"package": package, "path": f"shop/{name}", "start_line": a, "end_line": b, "grade": grade}
        for name, (a, b, grade) in spans.items()
    ]
    rows = [
        {"id": str(i), "query": text, "category": "howto", "targets": targets}
        for i, text in enumerate((query, "what does a snapshot hold", "count the vectors"))
    ]
    path = folder / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def open_evaluation(page: Page, labels: Path) -> None:
    page.get_by_role("tab", name="Evaluate").click()
    page.locator("#evaluate input[type=file]").set_input_files(labels)
    page.locator("#evaluate").get_by_text("labels.jsonl").wait_for()


def test_evaluate_tab_shows_what_each_stage_is_worth_and_whom_reranking_hurt(
    app: App, corpus: Path, tmp_path: Path, visit: Callable[..., Page]
) -> None:
    labels = labels_file(tmp_path, corpus.name, query=f"{QUERY} <img src=x onerror=pwned()>")
    expected = app.workspace.evaluate(labels=labels, quantization=False)
    assert expected.reranking is not None
    page = visit(app.url)
    open_evaluation(page, labels)
    page.get_by_role("button", name="Evaluate").click()

    result = page.locator(".rs-evaluation")
    expect(result).to_contain_text(
        f"Reranking helped {expected.reranking.helped}, hurt {expected.reranking.hurt}",
        timeout=60_000,
    )
    rows = result.get_by_role("region", name="Systems").locator("tbody tr")
    shown = [row.split("\t")[:2] for row in rows.all_inner_texts()]
    assert shown == [[s.name, f"{s.interval.mean:.3f}"] for s in expected.systems]
    assert "3 queries of labels" in result.locator("header").inner_text()
    expect(result.locator("svg[role=img]")).to_be_visible()
    expect(page.get_by_role("button", name="Evaluate")).to_be_enabled()
    expect(page.locator("#evaluate-progress .rs-build")).to_have_count(0)
    page.get_by_label("Compare quantization modes too").check()
    page.get_by_role("button", name="Evaluate").click()
    modes = result.get_by_role("region", name="Quantization modes")
    expect(modes.locator("tbody tr")).to_have_count(9, timeout=60_000)


def test_an_evaluation_tells_how_far_it_is_and_can_be_cancelled(
    app: App, corpus: Path, tmp_path: Path, visit: Callable[..., Page], held: threading.Event
) -> None:
    page = visit(app.url)
    open_evaluation(page, labels_file(tmp_path, corpus.name))
    page.get_by_role("button", name="Evaluate").click()

    bar = page.get_by_role("progressbar", name="Evaluating")
    expect(bar).to_have_attribute("aria-valuenow", "80", timeout=60_000)
    expect(page.locator("#evaluate-progress")).to_contain_text("12 of 15 searches")
    expect(page.locator("#evaluate-progress")).to_contain_text("+ reranker: query 1 of 3")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_disabled()
    held.set()

    expect(page.locator("#evaluate-result")).to_contain_text("Cancelled.")
    expect(page.get_by_role("button", name="Evaluate")).to_be_enabled()
    expect(bar).to_have_count(0)


def test_an_evaluation_that_gradio_refuses_can_be_begun_again(
    app: App, visit: Callable[..., Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise gr.Error("Too many wait.")

    page = visit(app.url)
    page.get_by_role("tab", name="Evaluate").click()
    monkeypatch.setattr(gr.File, "preprocess", refuse)
    page.get_by_role("button", name="Evaluate").click()

    expect(page.get_by_text("Too many wait.")).to_be_visible()
    expect(page.get_by_role("button", name="Evaluate")).to_be_enabled()
    expect(page.locator("#evaluate-progress .rs-build")).to_have_count(0)


def test_labels_that_cannot_be_used_are_refused_on_the_page(
    app: App, tmp_path: Path, visit: Callable[..., Page]
) -> None:
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"id": "<b>1", "query": "x", "targets": 3}')
    page = visit(app.url)
    open_evaluation(page, labels)
    page.get_by_role("button", name="Evaluate").click()

    expect(page.locator("#evaluate-result")).to_contain_text(
        "labels.jsonl, line 1: targets is not a list."
    )
    expect(page.get_by_role("button", name="Evaluate")).to_be_enabled()
