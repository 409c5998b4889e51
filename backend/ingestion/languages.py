"""What language a file is in, by its name and its first lines."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

_EXTENSIONS = {
    "python": "py pyi pyw pyx pxd",
    "javascript": "js mjs cjs jsx",
    "typescript": "ts mts cts",
    "tsx": "tsx",
    "go": "go",
    "rust": "rs",
    "java": "java",
    "c": "c h",
    "cpp": "cc cpp cxx c++ hpp hh hxx h++ ipp tpp inl ino cu cuh",
    "objc": "m mm",
    "csharp": "cs csx",
    "php": "php phtml",
    "ruby": "rb rake gemspec ru",
    "kotlin": "kt kts",
    "swift": "swift",
    "scala": "scala sc sbt",
    "bash": "sh bash zsh ksh bats",
    "lua": "lua luau",
    "zig": "zig zon",
    "haskell": "hs",
    "elixir": "ex exs",
    "erlang": "erl hrl",
    "clojure": "clj cljs cljc",
    "dart": "dart",
    "perl": "pl pm",
    "r": "r",
    "julia": "jl",
    "ocaml": "ml mli",
    "fsharp": "fs fsi fsx",
    "groovy": "groovy gradle",
    "powershell": "ps1 psm1",
    "nix": "nix",
    "elm": "elm",
    "nim": "nim",
    "vue": "vue",
    "svelte": "svelte",
    "solidity": "sol",
    "vim": "vim",
    "proto": "proto",
    "thrift": "thrift",
    "graphql": "graphql gql",
    "sql": "sql",
    "markdown": "md markdown mdx qmd rmd",
    "rst": "rst",
    "asciidoc": "adoc asciidoc asc",
    "notebook": "ipynb",
    "html": "html htm xhtml",
    "text": "txt text org tex",
    "template": "jinja jinja2 j2 erb ejs hbs mustache tmpl tpl gotmpl liquid haml slim",
    "css": "css",
    "scss": "scss sass less",
    "json": "json json5 jsonc",
    "toml": "toml",
    "yaml": "yaml yml",
    "xml": "xml xsd wsdl csproj props targets plist storyboard xib",
    "ini": "ini cfg conf properties editorconfig",
    "terraform": "tf hcl",
    "cmake": "cmake",
    "make": "mk mak",
    "dockerfile": "dockerfile",
    "bazel": "bzl bazel",
}
_NAMES = {
    "Dockerfile": "dockerfile",
    "Containerfile": "dockerfile",
    "Makefile": "make",
    "makefile": "make",
    "GNUmakefile": "make",
    "Makefile.am": "make",
    "Makefile.in": "make",
    "Justfile": "make",
    "justfile": "make",
    "CMakeLists.txt": "cmake",
    "Rakefile": "ruby",
    "Gemfile": "ruby",
    "Podfile": "ruby",
    "Vagrantfile": "ruby",
    "Fastfile": "ruby",
    "Jenkinsfile": "groovy",
    "BUILD": "bazel",
    "WORKSPACE": "bazel",
    "go.mod": "gomod",
    "go.work": "gomod",
    "Procfile": "text",
    "CODEOWNERS": "text",
    "README": "text",
    "CHANGELOG": "text",
    "CHANGES": "text",
    "HISTORY": "text",
    "NEWS": "text",
    "CONTRIBUTING": "text",
    "INSTALL": "text",
    "HACKING": "text",
    "TODO": "text",
}
_BY_EXTENSION = {ext: lang for lang, exts in _EXTENSIONS.items() for ext in exts.split()}
_INTERPRETERS = {
    "python": "python",
    "node": "javascript",
    "deno": "typescript",
    "bun": "typescript",
    "sh": "bash",
    "bash": "bash",
    "zsh": "bash",
    "ksh": "bash",
    "dash": "bash",
    "ruby": "ruby",
    "perl": "perl",
    "php": "php",
    "lua": "lua",
    "luajit": "lua",
    "elixir": "elixir",
    "escript": "erlang",
    "runhaskell": "haskell",
    "scala": "scala",
    "swift": "swift",
    "rscript": "r",
}
_OBJECTIVE_C = re.compile(r"^[ \t]*(?:@interface|@protocol|@class|@import|#import)\b", re.M)
_CPP = re.compile(
    r"^[ \t]*(?:namespace\b|class\s+\w|template\s*<|using\s+\w|(?:public|private|protected)\s*:)"
    r"|\bstd::|\bconstexpr\b",
    re.M,
)
_SNIFFED_CHARS = 20_000


def language_of(path: str) -> str | None:
    """The language of a file by its name.

    Returns:
        None when only its first line can tell, or when it is not text that is searched.
    """
    pure = PurePosixPath(path)
    name = pure.name
    if name in _NAMES:
        return _NAMES[name]
    if name.partition(".")[0] in ("Dockerfile", "Containerfile"):
        return "dockerfile"
    return _BY_EXTENSION.get(pure.suffix.lower().removeprefix("."))


def language_in(path: str, text: str) -> str | None:
    """The language of a file whose text is at hand: also of scripts and C++ headers.

    Returns:
        None when neither its name nor its first line tells.
    """
    named = language_of(path)
    if named is None:
        return _of_script(text) if not PurePosixPath(path).suffix else None
    if named == "c" and path.endswith(".h"):
        start = text[:_SNIFFED_CHARS]
        return "objc" if _OBJECTIVE_C.search(start) else "cpp" if _CPP.search(start) else "c"
    return named


def may_be_script(path: str) -> bool:
    """Whether a file without an extension could begin with `#!`."""
    name = PurePosixPath(path).name
    return "." not in name and name != "LICENSE"


def _of_script(text: str) -> str | None:
    if not text.startswith("#!"):
        return None
    command = text[2:].partition("\n")[0].split()
    programs = [word.rpartition("/")[2] for word in command if not word.startswith("-")]
    if programs[:1] == ["env"]:
        del programs[0]
    name = re.sub(r"[\d.]+$", "", programs[0]).lower() if programs else ""
    return _INTERPRETERS.get(name)
