"""What language a file is in, and how code of it is cut: data, not code."""

from __future__ import annotations

from pathlib import PurePosixPath

from backend.types import Kind

_EXTENSIONS = {
    "python": "py pyi pyw",
    "javascript": "js mjs cjs jsx",
    "typescript": "ts mts cts",
    "tsx": "tsx",
    "go": "go",
    "rust": "rs",
    "java": "java",
    "c": "c h",
    "cpp": "cc cpp cxx hpp hh hxx cu cuh",
    "csharp": "cs",
    "php": "php",
    "ruby": "rb rake gemspec",
    "kotlin": "kt kts",
    "swift": "swift",
    "scala": "scala sc",
    "bash": "sh bash zsh",
    "lua": "lua",
    "zig": "zig",
    "haskell": "hs",
    "elixir": "ex exs",
    "proto": "proto",
    "sql": "sql",
    "markdown": "md markdown mdx",
    "rst": "rst",
    "asciidoc": "adoc asciidoc",
    "text": "txt",
    "html": "html htm",
    "css": "css scss",
    "toml": "toml",
    "yaml": "yaml yml",
    "graphql": "graphql gql",
    "terraform": "tf",
    "cmake": "cmake",
}
_NAMES = {
    "Dockerfile": "dockerfile",
    "Makefile": "make",
    "CMakeLists.txt": "cmake",
    "Justfile": "make",
    "Rakefile": "ruby",
    "Gemfile": "ruby",
    "README": "text",
    "CHANGELOG": "text",
}
_BY_EXTENSION = {ext: lang for lang, exts in _EXTENSIONS.items() for ext in exts.split()}


def language_of(path: str) -> str | None:
    """The language of a file by its name, or None when it is not text that is searched."""
    name = PurePosixPath(path).name
    if name in _NAMES:
        return _NAMES[name]
    extension = PurePosixPath(path).suffix.lower().removeprefix(".")
    return _BY_EXTENSION.get(extension)


DEFINITIONS: dict[str, Kind] = {
    # Python, Bash, PHP, C, C++, Lua, Scala, Swift, JavaScript
    "function_definition": "function",
    "class_definition": "class",
    "function_declaration": "function",
    "generator_function_declaration": "function",
    "class_declaration": "class",
    "abstract_class_declaration": "class",
    "interface_declaration": "class",
    "enum_declaration": "class",
    "type_alias_declaration": "class",
    "method_definition": "method",
    "method_declaration": "method",
    "constructor_declaration": "method",
    "init_declaration": "method",
    "local_function_statement": "function",
    # Go
    "type_declaration": "class",
    # Rust
    "function_item": "function",
    "struct_item": "class",
    "enum_item": "class",
    "union_item": "class",
    "trait_item": "class",
    "impl_item": "class",
    "mod_item": "module",
    "macro_definition": "function",
    # Java, C#, PHP, Kotlin, Scala, Swift
    "record_declaration": "class",
    "annotation_type_declaration": "class",
    "struct_declaration": "class",
    "property_declaration": "method",
    "trait_declaration": "class",
    "object_declaration": "class",
    "object_definition": "class",
    "trait_definition": "class",
    "enum_definition": "class",
    "protocol_declaration": "class",
    "namespace_declaration": "module",
    # C, C++
    "class_specifier": "class",
    "struct_specifier": "class",
    "enum_specifier": "class",
    "union_specifier": "class",
    "namespace_definition": "module",
    "type_definition": "class",
    # Ruby
    "method": "method",
    "singleton_method": "method",
    "class": "class",
    "module": "module",
    # Haskell, Protocol Buffers
    "function": "function",
    "data_type": "class",
    "message": "class",
    "enum": "class",
    "service": "class",
    "rpc": "method",
}
"""Syntax nodes that define a name, over all grammars; a type means the same wherever it occurs."""

WRAPPERS = frozenset(
    {
        "decorated_definition",
        "export_statement",
        "template_declaration",
        "declaration",
        "lexical_declaration",
    }
)
"""Nodes that stand around a definition and belong to it."""
