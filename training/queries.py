"""Queries as developers type them, made from descriptions, headings, names and messages.

The rows carry first docstring sentences and headings; nobody searches in those. Each maker below
turns a passage into one plausible query of a kind, or None where the passage has no material.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import PurePosixPath

from training.data import Passage

_STOP_WORDS = """
a an the of to in for on with and or is are be been by from as at that this these those it its into
if given which will can may should has have was were any all each when not no such using used use
via per than then so their there also only both whether one two
"""
_STOP = frozenset(_STOP_WORDS.split())
# Developers' other words for the same act; swapped now and then so that the model cannot lean on
# shared words alone.
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "get": ("fetch", "read", "obtain", "look up"),
    "return": ("get", "give", "find"),
    "create": ("make", "build", "set up", "new"),
    "build": ("create", "construct", "assemble"),
    "remove": ("delete", "drop", "get rid of"),
    "delete": ("remove", "erase", "purge"),
    "check": ("verify", "test", "see"),
    "validate": ("check", "verify"),
    "convert": ("turn", "transform", "change"),
    "compute": ("calculate", "work out"),
    "calculate": ("compute", "work out"),
    "retrieve": ("get", "fetch", "load"),
    "fetch": ("get", "download", "load"),
    "load": ("read", "open", "import"),
    "parse": ("read", "interpret", "decode"),
    "generate": ("produce", "create", "make"),
    "initialize": ("set up", "start", "init"),
    "update": ("change", "modify", "refresh"),
    "set": ("change", "configure", "assign"),
    "add": ("append", "insert", "put"),
    "send": ("post", "transmit", "push"),
    "write": ("save", "store", "dump"),
    "save": ("store", "persist", "write"),
    "find": ("search", "locate", "look for"),
    "search": ("find", "look for", "query"),
    "run": ("execute", "start", "launch"),
    "execute": ("run", "perform"),
    "list": ("show all", "enumerate"),
    "show": ("display", "print"),
    "display": ("show", "print"),
    "format": ("pretty print", "render"),
    "split": ("break up", "cut", "divide"),
    "merge": ("combine", "join"),
    "start": ("launch", "begin", "run"),
    "stop": ("end", "shut down", "cancel"),
    "close": ("shut down", "release"),
    "wait": ("block", "pause"),
    "raise": ("throw", "fail with"),
    "config": ("settings", "configuration", "options"),
    "configuration": ("config", "settings"),
    "settings": ("config", "options"),
    "directory": ("folder", "dir"),
    "folder": ("directory",),
    "dictionary": ("dict", "map", "mapping"),
    "dict": ("dictionary", "map"),
    "string": ("str", "text"),
    "list_": ("array",),
    "function": ("method", "func", "callback"),
    "parameters": ("arguments", "args", "params"),
    "arguments": ("args", "parameters", "options"),
    "documents": ("docs", "records"),
    "document": ("doc", "record"),
    "database": ("db",),
    "message": ("msg", "text"),
    "messages": ("msgs",),
    "error": ("failure", "exception"),
    "default": ("fallback",),
    "existing": ("present", "already there"),
    "number": ("count", "amount"),
    "specified": ("given", "chosen"),
    "asynchronously": ("async", "in the background"),
    "authentication": ("auth", "login"),
    "environment": ("env",),
    "maximum": ("max", "highest"),
    "minimum": ("min", "lowest"),
}
_ASK_VERB = (
    "how to {v}", "how do i {v}", "how can i {v}", "{v}", "{v}", "where do we {v}", "code that {s}",
    "function to {v}", "which function {s}", "what {s}", "way to {v}", "i want to {v}",
    "{lang} {v}", "how to {v} in {lang}", "need to {v}", "where in the code does it {v}",
    "how does it {v}", "is there a helper to {v}",
)  # fmt: skip
_ASK_NOUN = (
    "{n}", "where is {n}", "what is {n}", "how is {n} handled", "{n} implementation",
    "{n} in {lang}", "where does {n} come from", "how do i get {n}", "code for {n}",
)  # fmt: skip
_ASK_HEADING = (
    "how does {h} work", "{h} example", "what is {h}", "how to use {h}", "{h}", "docs for {h}",
    "explain {h}", "{h} options", "how do i set up {h}", "when should i use {h}", "{h} explained",
)  # fmt: skip
_ASK_WEB = (
    "{lang} {t}", "{lang} {t}", "{lang} {t}", "{t} {lang}", "{t} in {lang}", "{t} in {lang}",
    "how to {t} in {lang}", "how to {t} in {lang}", "how to {t} {lang}", "{lang} how to {t}",
    "{lang} code to {t}", "{lang} function to {t}", "how do you {t} in {lang}", "{t}",
    "{lang} function that {t}", "best way to {t} {lang}", "{lang} method to {t}",
    "{lang} script {t}",
)  # fmt: skip
_LANG_NAMES = {"typescript": ("typescript", "javascript", "js", "ts"), "go": ("go", "golang")}
_ARTICLES = frozenset(("a", "an", "the", "this", "that", "given", "specified"))
_TASK = re.compile(r"^write (?:a |an )?(?:\w+ )?function (?:to|that|which) ")
_RAISED = re.compile(
    r"(?:raise|throw(?:\s+new)?)\s+(?P<kind>[A-Za-z_][\w.]*)\s*\(\s*[rfbuRFBU]{0,2}"
    r"(?P<quote>[\"'`])(?P<text>(?:(?!(?P=quote)).){12,220})(?P=quote)"
    r"|(?:logger|logging|log|console|warnings)\.(?:error|warn|warning|exception)\(\s*f?"
    r"(?P<quote2>[\"'`])(?P<text2>(?:(?!(?P=quote2)).){12,220})(?P=quote2)"
    r"|(?:fmt\.Errorf|errors\.New|bail!|anyhow!)\(\s*\"(?P<text3>[^\"]{12,220})\""
)
_HOLE = re.compile(r"\$?\{[^{}]*\}|%[-+0-9.]*[sdrfvqw]|\{\}")
_FILLERS = ("384", "None", "'docs'", "3", "foo", "/tmp/data", "my_index", "42", "'name'", "utf-8")
_WORD = re.compile(r"[A-Za-z_][\w.'-]*|\d+")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

Maker = Callable[[Passage, random.Random], str | None]


def split_name(name: str) -> list[str]:
    """camelCase and snake_case parts, lower-cased."""
    return [part.lower() for part in _PARTS.findall(name)]


def base_form(verb: str) -> str | None:
    """ "Returns" -> "return"; None when the word does not look like a verb in the third person."""
    word = verb.lower()
    if not word.isalpha() or len(word) < 4 or not word.endswith("s") or word.endswith("ss"):
        return None
    if word in {"this", "class", "always", "whether", "series", "args", "params", "news"}:
        return None
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zzes")):
        return word[:-2]
    return word[:-1]


def _third_person(verb: str) -> str:
    if verb.endswith(("ss", "sh", "ch", "x", "z")):
        return verb + "es"
    return verb[:-1] + "ies" if re.search(r"[^aeiou]y$", verb) else verb + "s"


def _swap_words(text: str, draw: random.Random, rate: float) -> str:
    words = text.split(" ")
    for place, word in enumerate(words):
        options = _SYNONYMS.get(word.lower())
        if options and draw.random() < rate:
            words[place] = draw.choice(options)
    return " ".join(words)


def _typo(text: str, draw: random.Random) -> str:
    words = text.split(" ")
    long = [place for place, word in enumerate(words) if len(word) > 5 and word.isalpha()]
    if long:
        place = draw.choice(long)
        word, cut = words[place], draw.randrange(1, len(words[place]) - 1)
        if draw.random() < 0.5:
            words[place] = word[:cut] + word[cut + 1 :]
        else:
            words[place] = word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :]
    return " ".join(words)


def shorten(text: str, draw: random.Random, *, most: int = 8) -> str:
    """Keep the content words, at most `most`, in order; names with inner marks are kept first."""
    words = [w for w in _WORD.findall(text) if w.lower() not in _STOP]
    if len(words) > most:
        strong = [i for i, w in enumerate(words) if re.search(r"[_.A-Z0-9]", w[1:])]
        keep = set(strong[: most // 2])
        rest = [i for i in range(len(words)) if i not in keep]
        head = rest[: most // 2]
        keep.update(head)
        keep.update(draw.sample(rest[len(head) :], min(most - len(keep), len(rest) - len(head))))
        words = [w for i, w in enumerate(words) if i in keep]
    return " ".join(words)


def _first_clause(text: str) -> str:
    text = re.sub(r"[`*]", "", text).strip().rstrip(".")
    return re.split(r"(?:, (?:which|and|so|e\.g)|; |: | \(| - )", text)[0]


def describe(passage: Passage, draw: random.Random) -> str | None:
    """The description itself."""
    return passage.about if len(passage.about.split()) >= 3 else None


def keywords(passage: Passage, draw: random.Random) -> str | None:
    """Content words of the description."""
    text = shorten(passage.about, draw, most=draw.choice((4, 5, 6, 8, 10)))
    text = _swap_words(text, draw, 0.35)
    return text if len(text.split()) >= 2 else None


def question(passage: Passage, draw: random.Random) -> str | None:
    """A question or request built on the description's verb or noun."""
    clause = _first_clause(passage.about)
    words = clause.split()
    if len(words) < 3:
        return None
    lang = passage.lang if passage.lang != "en" else ""
    first, rest = words[0], " ".join(words[1:])
    if first.lower() in {"the", "a", "an", "whether", "this", "list", "number"}:
        return draw.choice(_ASK_NOUN).format(n=clause[0].lower() + clause[1:], lang=lang).strip()
    verb = base_form(first) or (first.lower() if first.isalpha() else None)
    if verb is None:
        return draw.choice(_ASK_NOUN).format(n=clause, lang=lang).strip()
    other = _SYNONYMS.get(verb)
    if other and draw.random() < 0.4:
        verb = draw.choice(other)
    head, *tail = verb.split(" ")
    inflected = " ".join([_third_person(head), *tail])
    text = draw.choice(_ASK_VERB).format(v=f"{verb} {rest}", s=f"{inflected} {rest}", lang=lang)
    return _swap_words(text, draw, 0.2).strip()


def web(passage: Passage, draw: random.Random) -> str | None:
    """What is typed into a web search box: a few words, the language before or behind them."""
    words = _WORD.findall(_TASK.sub("", _first_clause(passage.about).lower()))
    if len(words) < 2:
        return None
    verb = base_form(words[0])
    if verb:
        words[0] = (
            draw.choice(_SYNONYMS[verb]) if verb in _SYNONYMS and draw.random() < 0.3 else verb
        )
    droppable = _STOP if draw.random() < 0.4 else _ARTICLES if draw.random() < 0.8 else frozenset()
    words = [words[0], *(w for w in words[1:] if w not in droppable)][
        : draw.choice((4, 5, 6, 7, 9))
    ]
    while len(words) > 2 and words[-1] in _STOP:
        words.pop()
    text = _swap_words(" ".join(words), draw, 0.3)
    names = _LANG_NAMES.get(passage.lang, (passage.lang,) if passage.lang != "en" else ("",))
    form = draw.choice(_ASK_WEB)
    return re.sub(r"\s+", " ", form.format(t=text, lang=draw.choice(names))).strip()


def path(passage: Passage, draw: random.Random) -> str | None:
    """The end of the file's path, alone or with the defined name."""
    parts = PurePosixPath(passage.path).parts
    if not parts:
        return None
    tail = "/".join(parts[-draw.choice((1, 2, 2, 3)) :])
    if draw.random() < 0.3:
        tail = tail.rpartition(".")[0] or tail
    name = passage.symbol.rpartition(".")[2] if passage.is_code else ""
    return f"{tail} {name}".strip() if draw.random() < 0.6 else tail


def identifier(passage: Passage, draw: random.Random) -> str | None:
    """The defined name, bare, qualified, in words, or with a word of the description."""
    name = passage.symbol.rpartition(".")[2]
    if len(name) < 5 or not passage.is_code:
        return None
    parts = split_name(name)
    stem = PurePosixPath(passage.path).stem
    about = [w for w in _WORD.findall(passage.about) if w.lower() not in _STOP] or [name]
    return draw.choice(
        [
            name,
            name,
            passage.symbol,
            f"{stem}.{name}" if stem else name,
            f"{name} {draw.choice(about)}",
            f"where is {name} defined",
            f"{name} signature",
            f"what does {name} do",
            " ".join(parts) if len(parts) > 1 else name,
            f"{stem} {' '.join(parts)}".strip(),
        ]
    )


def error_line(passage: Passage, draw: random.Random) -> str | None:
    """A message that the code raises or logs, as a terminal would show it."""
    found = list(_RAISED.finditer(passage.text))
    if not found:
        return None
    match = draw.choice(found)
    text = match["text"] or match["text2"] or match["text3"]
    text = _HOLE.sub(lambda _: draw.choice(_FILLERS), text).replace("\\n", " ").strip()
    if len(text.split()) < 3:
        return None
    kind = match["kind"]
    return f"{kind.rpartition('.')[2]}: {text}" if kind and draw.random() < 0.6 else text


def body_words(passage: Passage, draw: random.Random) -> str | None:
    """Two or three longer names from the body, as when one greps from memory."""
    names = list(dict.fromkeys(re.findall(r"[A-Za-z_][A-Za-z_0-9]{6,}", passage.text)))
    names = [n for n in names if "_" in n.strip("_") or re.search(r"[a-z][A-Z]", n)]
    if len(names) < 2:
        return None
    chosen = draw.sample(names, min(len(names), draw.choice((1, 2, 2, 3))))
    if draw.random() < 0.5:
        chosen.append(shorten(passage.about, draw, most=3))
    return " ".join(chosen)


def heading(passage: Passage, draw: random.Random) -> str | None:
    """The section's heading."""
    return passage.about


def heading_question(passage: Passage, draw: random.Random) -> str | None:
    """A question around the heading."""
    text = _first_clause(passage.about)
    if not 1 <= len(text.split()) <= 12:
        return None
    return _swap_words(draw.choice(_ASK_HEADING).format(h=text.lower()), draw, 0.3)


def sentences(passage: Passage) -> list[str]:
    """Prose sentences of 6 to 40 words, code fences and tables left out."""
    prose = re.sub(r"(?s)```.*?(?:```|$)", " ", passage.text)
    prose = "\n".join(
        x for x in prose.split("\n") if not x.lstrip().startswith(("|", "<", "import"))
    )
    prose = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", prose)
    parts = re.split(r"(?<=[.!?])\s+|\n+", prose)
    return [
        s
        for s in (re.sub(r"[*`>#]", "", p).strip(" -") for p in parts)
        if 6 <= len(s.split()) <= 40
    ]


def sentence_query(passage: Passage, draw: random.Random) -> str | None:
    """Words of one sentence of the section: what a reader would ask to be led there."""
    found = sentences(passage)
    if not found:
        return None
    text = draw.choice(found)
    style = draw.random()
    if style < 0.55:
        text = shorten(text, draw, most=draw.choice((4, 5, 6, 7, 9)))
    elif style < 0.75:
        text = "how to " + shorten(text, draw, most=6).lower()
    elif style < 0.9:
        text = draw.choice(("why ", "what happens: ", "does it ", "can i ", "when ")) + shorten(
            text, draw, most=7
        )
    return _swap_words(text, draw, 0.4)


CODE_MAKERS: dict[str, tuple[Maker, float]] = {
    "description": (describe, 0.08),
    "keywords": (keywords, 0.14),
    "question": (question, 0.22),
    "web": (web, 0.26),
    "identifier": (identifier, 0.11),
    "path": (path, 0.03),
    "error": (error_line, 0.10),
    "body": (body_words, 0.06),
}
PROSE_MAKERS: dict[str, tuple[Maker, float]] = {
    "heading": (heading, 0.18),
    "heading_question": (heading_question, 0.25),
    "sentence": (sentence_query, 0.53),
    "path": (path, 0.04),
}
TASK_MAKERS: dict[str, tuple[Maker, float]] = {
    "description": (describe, 0.15),
    "keywords": (keywords, 0.2),
    "question": (question, 0.25),
    "web": (web, 0.4),
}


def make_query(passage: Passage, draw: random.Random) -> tuple[str, str]:
    """One query for a passage.

    Args:
        passage: What the query should find.
        draw: Source of chance.

    Returns:
        The query and its kind; the plain description where no maker has material.
    """
    makers = TASK_MAKERS
    if passage.dataset == "oss_docstring_code":
        makers = CODE_MAKERS
    elif passage.dataset == "oss_docs_sections":
        makers = PROSE_MAKERS
    kinds, weights = list(makers), [weight for _, weight in makers.values()]
    for kind in draw.choices(kinds, weights, k=4):
        text = makers[kind][0](passage, draw)
        if text and text.strip():
            text = re.sub(r"\s+", " ", text).strip()
            if kind not in {"identifier", "path", "error", "body"}:
                if draw.random() < 0.05:
                    text = _typo(text, draw)
                if draw.random() < 0.6:
                    text = text.rstrip(".?!")
            return text, kind
    return passage.about, "description"
