"""Git repositories as sources: real git, over files and over HTTP, and servers that misbehave."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from samples import write_files

from backend.errors import InvalidSource, SourceUnavailable
from backend.ingestion.collection import open_sources
from backend.ingestion.files import Skipped, text_files
from backend.ingestion.sources import git
from backend.ingestion.sources.folder import Folder
from backend.ingestion.sources.origin import Origin
from backend.ingestion.sources.parse import parse_source
from backend.ingestion.sources.source import Source


def read(source: Source) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The texts that are read by path, and the paths that are not by reason."""
    skipped = Skipped()
    texts = {file.path: file.text for file in text_files(source.files(skipped), skipped)}
    return texts, skipped.examples


def origin(source: Source) -> Origin:
    """What a source says of its origin when all of its files are indexed."""
    skipped = Skipped()
    files = text_files(source.files(skipped), skipped)
    return source.origin({file.path: file.digest for file in files})


class Work:
    """A repository to commit to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch=main", ".")
        self.url = f"file://{folder}"

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments],
            cwd=self.folder,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit(self, files: dict[str, str | bytes]) -> str:
        write_files(self.folder, files)
        self.git("add", "--force", ".")
        self.git("commit", "--quiet", "-m", "Change")
        return self.git("rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path / "shop")


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    return tmp_path / "downloads"


@pytest.fixture
def http() -> Iterator[Callable[[type[BaseHTTPRequestHandler]], str]]:
    """Serve on a free port of this machine; gives the URL."""
    servers = []

    def serve(handler: type[BaseHTTPRequestHandler]) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def backend_over(root: Path) -> type[BaseHTTPRequestHandler]:
    """The smart protocol of the repositories below a folder, by `git http-backend`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            environment = {
                **os.environ,
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            done = subprocess.run(
                ["git", "http-backend"], input=body, env=environment, stdout=subprocess.PIPE
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(fields.pop("Status", "200").split()[0]))
            for name, value in fields.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *_: object) -> None: ...

    return Handler


# What is read


def test_a_branch_a_tag_a_commit_and_the_default_are_read_as_they_were(
    work: Work, downloads: Path
) -> None:
    first = work.commit({"a.py": "x = 1\n"})
    work.git("tag", "-a", "v1", "-m", "First")
    second = work.commit({"a.py": "x = 2\n", "docs/b.md": "# B\n"})
    work.git("branch", "feature/x@y")

    for revision, commit in {
        "": second,
        "@main": second,
        "@feature/x@y": second,
        "@v1": first,
        f"@{first}": first,
    }.items():
        source = parse_source(f"git:{work.url}{revision}", downloads=downloads)
        texts, _ = read(source)
        assert texts["a.py"] == ("x = 1\n" if commit == first else "x = 2\n")
        assert (source.id, source.package) == (f"git:{work.url}{revision}", "shop")
        assert source.origin({}).revision == commit


def test_an_update_brings_what_is_new_and_a_fetched_commit_needs_no_server(
    work: Work, downloads: Path
) -> None:
    commit = work.commit({"a.py": "x = 1\n", "same.py": "y = 1\n"})
    spec = f"git:{work.url}@{commit}"
    parse_source(f"git:{work.url}@main", downloads=downloads)
    parse_source(spec, downloads=downloads)
    work.commit({"a.py": "x = 2\n"})
    (work.folder / "same.py").rename(work.folder / "moved.py")
    work.commit({})
    after = read(parse_source(f"git:{work.url}@main", downloads=downloads))[0]
    work.folder.rename(work.folder.with_name("gone"))

    assert after == {"a.py": "x = 2\n", "moved.py": "y = 1\n"}
    assert read(parse_source(spec, downloads=downloads))[0]["a.py"] == "x = 1\n"


def test_what_is_tracked_is_read_and_what_is_no_file_of_text_is_counted(
    work: Work, downloads: Path
) -> None:
    """A tracked file counts although .gitignore names it; our own ignore file has the last word."""
    other = Work(work.folder.with_name("other"))
    other.commit({"c.py": "c"})
    (work.folder / "link.py").symlink_to("/etc/passwd")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
    work.commit(
        {
            ".gitignore": "built.py\n",
            ".rankscopeignore": "own.py\n",
            "built.py": "x",
            "own.py": "x",
            "model.py": pointer,
            "node_modules/a.js": "f()",
        }
    )
    work.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", other.url, "sub")
    work.commit({})
    texts, skipped = read(parse_source(f"git:{work.url}", downloads=downloads))

    assert texts == {"built.py": "x"}
    assert {reason: paths for reason, paths in skipped.items() if "known" not in reason} == {
        "ignored": ["own.py"],
        "kept in Git LFS": ["model.py"],
        "submodule": ["sub"],
        "symbolic link": ["link.py"],
        "tool or dependency folder": ["node_modules/"],
    }


@pytest.mark.parametrize("filters", ["true", "false"])
def test_a_file_that_is_too_large_is_not_even_fetched_where_the_server_can_leave_it_out(
    work: Work, downloads: Path, filters: str
) -> None:
    work.git("config", "uploadpack.allowFilter", filters)
    work.commit({"a.py": "x", "huge.py": os.urandom(5_000_000)})
    texts, skipped = read(parse_source(f"git:{work.url}", downloads=downloads))
    fetched = sum(path.stat().st_size for path in downloads.rglob("*.pack"))

    assert texts == {"a.py": "x"}
    assert skipped == {"larger than 2 MB": ["huge.py"]}
    assert (fetched < 100_000) == (filters == "true")


def test_names_that_no_terminal_should_see_are_read_under_others(
    work: Work, downloads: Path
) -> None:
    name = os.fsdecode(b"\xff\x1b[31mred\n.py")
    work.commit({name: "x", "\u202egnp.py": "y"})

    texts, _ = read(parse_source(f"git:{work.url}", downloads=downloads))
    assert sorted(texts) == ["\ufffdgnp.py", "\ufffd\ufffd[31mred\ufffd.py"]


def test_nothing_of_a_repository_is_run_or_checked_out(
    work: Work, downloads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not its filters, and no hooks, not even those that the user's template adds to each clone."""
    ran = tmp_path / "ran"
    hook = f"#!/bin/sh\ntouch {ran}\n"
    template = write_files(
        tmp_path / "template",
        {f"hooks/{name}": hook for name in ("post-checkout", "reference-transaction")},
    )
    for path in (template / "hooks").iterdir():
        path.chmod(0o755)
    (tmp_path / "config").write_text(
        f"[init]\n templateDir = {template}\n[core]\n hooksPath = {template}/hooks\n"
        f'[filter "x"]\n smudge = touch {ran}\n clean = cat\n'
    )
    work.commit({".gitattributes": "*.py filter=x\n", "a.py": "x"})
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))

    assert read(parse_source(f"git:{work.url}", downloads=downloads))[0] == {"a.py": "x"}
    assert not ran.exists()


def test_a_store_that_a_killed_run_left_locked_is_used_again(work: Work, downloads: Path) -> None:
    work.commit({"a.py": "x = 1\n"})
    parse_source(f"git:{work.url}", downloads=downloads)
    (store,) = (path for path in (downloads / "git").iterdir() if path.is_dir())
    (store / "shallow.lock").touch()
    write_files(store, {"objects/pack/tmp_pack_abc": b"half"})
    work.commit({"a.py": "x = 2\n"})

    assert read(parse_source(f"git:{work.url}", downloads=downloads))[0] == {"a.py": "x = 2\n"}
    assert not (store / "objects/pack/tmp_pack_abc").exists()


# What is refused


@pytest.mark.parametrize(
    "address",
    [
        *("ext::sh -c touch% ran", "fd::17", "--upload-pack=touch ran", "-u", "", "https://"),
        *("https://host", "ssh://-oProxyCommand=touch/x", "gopher://host/x", "host:path", "/etc"),
        *("https://host/x@", "https://host/x@--output=x", "https://host/x@a:refs/heads/b"),
        *("https://host/x@a..b", "https://host/x@a b", "https://host/x@^main", "https://host/x y"),
        *("https://host/x@a\nb", "https://host/x@@{upstream}", "https://host/x@main~1"),
    ],
)
def test_nothing_but_a_url_and_a_revision_reaches_git(
    downloads: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "_start", pytest.fail)
    with pytest.raises(InvalidSource, match=r"Name a URL and a revision, such as git:https://"):
        parse_source(f"git:{address}", downloads=downloads)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("https://me:secret@host/x", "must not hold a password or token"),
        ("https://secret@host/x", "must not hold a password or token"),
        ("ssh://git:secret@host/x", "must not hold a password or token"),
        ("https://host/x?token=secret", "a repository is https://host/repository"),
    ],
)
def test_a_url_with_a_secret_is_refused_without_repeating_it(
    downloads: Path, address: str, why: str
) -> None:
    with pytest.raises(InvalidSource, match=why) as error:
        parse_source(f"git:{address}", downloads=downloads)
    assert "secret" not in str(error.value)


def test_settings_of_the_user_cannot_lead_to_another_transport(
    work: Work, downloads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "config").write_text(
        f'[url "ext::touch {ran} "]\n insteadOf = https://host/\n'
        '[protocol "ext"]\n allow = always\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))

    with pytest.raises(SourceUnavailable, match="could not fetch"):
        parse_source("git:https://host/x", downloads=downloads)
    assert not ran.exists()


def test_a_revision_that_does_not_exist_says_so(work: Work, downloads: Path) -> None:
    work.commit({"a.py": "x"})
    with pytest.raises(SourceUnavailable, match=r"no such branch, tag or commit.*all 40 digits"):
        parse_source(f"git:{work.url}@nope", downloads=downloads)


def test_a_revision_that_is_no_commit_says_so(work: Work, downloads: Path) -> None:
    work.commit({"a.py": "x"})
    work.git("tag", "file", work.git("rev-parse", "HEAD:a.py"))
    with pytest.raises(SourceUnavailable, match="Name a branch, tag or commit"):
        parse_source(f"git:{work.url}@file", downloads=downloads)


def test_a_repository_that_does_not_exist_says_so(tmp_path: Path, downloads: Path) -> None:
    with pytest.raises(SourceUnavailable, match=r"could not fetch file://.*Check the URL"):
        parse_source(f"git:file://{tmp_path}/none", downloads=downloads)


def test_without_git_the_fix_is_to_install_it(
    downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SourceUnavailable, match="Install git"):
        parse_source("git:https://host/x", downloads=downloads)


def test_a_repository_that_is_too_large_is_given_up(
    work: Work, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "MAX_FETCH_BYTES", 1_000_000)
    work.commit({f"{i}.py": os.urandom(1_500_000) for i in range(40)})
    with pytest.raises(SourceUnavailable, match="The repository is larger than"):
        parse_source(f"git:{work.url}", downloads=downloads)


# Servers


def test_the_smart_protocol_over_http(
    work: Work, downloads: Path, http: Callable[..., str]
) -> None:
    work.git("config", "uploadpack.allowFilter", "true")
    work.commit({"a.py": "x = 1\n", "huge.py": os.urandom(5_000_000)})
    url = http(backend_over(work.folder.parent))
    source = parse_source(f"git:{url}/shop/.git@main", downloads=downloads)
    work.commit({"a.py": "x = 2\n"})

    assert read(source) == ({"a.py": "x = 1\n"}, {"larger than 2 MB": ["huge.py"]})
    source = parse_source(f"git:{url}/shop/.git@main", downloads=downloads)
    assert read(source)[0] == {"a.py": "x = 2\n"}


def test_a_plain_file_server_over_http(
    work: Work, downloads: Path, http: Callable[..., str]
) -> None:
    work.commit({"a.py": "x = 1\n"})
    work.git("clone", "--quiet", "--bare", ".", "bare.git")
    subprocess.run(["git", "update-server-info"], cwd=work.folder / "bare.git", check=True)

    class Files(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(work.folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None: ...

    source = parse_source(f"git:{http(Files)}/bare.git", downloads=downloads)
    assert read(source)[0] == {"a.py": "x = 1\n"}


def test_a_server_that_asks_for_a_password_gets_none_and_nobody_is_asked(
    downloads: Path, tmp_path: Path, http: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    (tmp_path / "ask").write_text(f"#!/bin/sh\ntouch {asked}\necho secret\n")
    (tmp_path / "ask").chmod(0o755)
    for name in ("GIT_ASKPASS", "SSH_ASKPASS"):
        monkeypatch.setenv(name, str(tmp_path / "ask"))

    class Locked(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with pytest.raises(SourceUnavailable, match=r"asks for a password.*credential helper"):
        parse_source(f"git:{http(Locked)}/x", downloads=downloads)
    assert not asked.exists()


def test_a_server_that_hangs_is_given_up_and_leaves_no_process(
    downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "STALL_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(SourceUnavailable, match="The server sent nothing more"):
            parse_source(f"git:{url}", downloads=downloads)
        connection, _ = silent.accept()
        with connection:
            connection.settimeout(10)
            while connection.recv(4096):
                pass  # It ends: whoever held the other side of the connection is gone.


def test_a_server_that_answers_nonsense_is_explained_in_one_clean_line(
    downloads: Path, http: Callable[..., str]
) -> None:
    class Nonsense(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
            self.end_headers()
            self.wfile.write(b"\x1b[31mnot a packet\n" * 10)

        def log_message(self, *_: object) -> None: ...

    with pytest.raises(SourceUnavailable, match="could not fetch") as error:
        parse_source(f"git:{http(Nonsense)}/x", downloads=downloads)
    assert str(error.value).isprintable()


def test_a_branch_that_cannot_be_fetched_now_is_read_as_it_was_and_says_so(
    work: Work, downloads: Path
) -> None:
    """A network that is down must not empty the collection."""
    commit = work.commit({"a.py": "x = 1\n"})
    spec = f"git:{work.url}@main"
    open_sources([spec], downloads=downloads, on_fetched=lambda spec: None)
    work.folder.rename(work.folder.with_name("gone"))
    (opened,) = open_sources([spec], downloads=downloads, on_fetched=lambda spec: None)

    assert read(opened.source)[0] == {"a.py": "x = 1\n"}
    assert f"This is {commit[:12]}, fetched earlier." in opened.note


# Links from a work tree


def cloned(work: Work, remote: str) -> None:
    """Let a work tree look as if its commits were published there."""
    work.git("remote", "add", "origin", remote)
    work.git("update-ref", "refs/remotes/origin/main", "HEAD")


@pytest.mark.parametrize(
    ("remote", "link"),
    [
        ("https://github.com/me/shop.git", "https://github.com/me/shop/blob/{}/"),
        ("git@github.com:me/shop.git", "https://github.com/me/shop/blob/{}/"),
        ("https://me:secret@github.com/me/shop", "https://github.com/me/shop/blob/{}/"),
        (
            "ssh://git@gitlab.example.org:2222/a/b/shop.git",
            "https://gitlab.example.org/a/b/shop/-/blob/{}/",
        ),
        ("https://gitlab.com/a/b/shop", "https://gitlab.com/a/b/shop/-/blob/{}/"),
        ("https://example.org/shop", ""),
        ("/srv/git/github.com/x", ""),
        ("javascript:alert(1)//github.com:x/y", ""),
    ],
)
def test_a_work_tree_links_to_its_forge_at_the_commit(work: Work, remote: str, link: str) -> None:
    commit = work.commit({"a.py": "x = 1\n"})
    cloned(work, remote)
    found = origin(Folder(work.folder))

    assert found.link.partition("{path}")[0] == link.format(commit)
    assert found.revision == commit
    assert "secret" not in repr(found)


def test_files_that_differ_from_the_commit_are_not_linked(work: Work) -> None:
    work.commit({"same.py": "a\n", "crlf.py": "b\n", "changed.py": "c\n"})
    cloned(work, "https://github.com/me/shop")
    write_files(work.folder, {"changed.py": "C\n", "crlf.py": "b\r\n", "new.py": "d\n"})
    found = origin(Folder(work.folder))

    assert found.unlinked == ("changed.py", "new.py")
    write_files(work.folder, {"changed.py": "c\n"})
    assert origin(Folder(work.folder)).unlinked == ("new.py",)


def test_a_folder_in_a_work_tree_links_below_its_own_path(work: Work) -> None:
    commit = work.commit({"src/my lib/a.py": "a\n"})
    cloned(work, "https://github.com/me/shop")
    found = origin(Folder(work.folder / "src" / "my lib"))

    assert found.link.startswith(f"https://github.com/me/shop/blob/{commit}/src/my%20lib/{{path}}#")
    assert found.unlinked == ()


def test_a_commit_that_was_not_pushed_is_not_linked_to(work: Work) -> None:
    work.commit({"a.py": "a\n"})
    cloned(work, "https://github.com/me/shop")
    commit = work.commit({"a.py": "b\n"})
    found = origin(Folder(work.folder))

    assert (found.revision, found.link) == (commit, "")


def test_a_work_trees_own_configuration_runs_nothing(work: Work, tmp_path: Path) -> None:
    """An unpacked download may hold a `.git` whose settings name programs."""
    work.commit({".gitattributes": "*.py filter=x\n", "a.py": "a\n"})
    cloned(work, "https://github.com/me/shop")
    ran = tmp_path / "ran"
    for name in (
        "core.fsmonitor",
        "filter.x.clean",
        "core.sshCommand",
        "core.pager",
        "core.editor",
    ):
        work.git("config", name, f"touch {ran}; cat")
    ran.unlink(missing_ok=True)
    write_files(work.folder, {"a.py": "b\n"})
    found = origin(Folder(work.folder))

    assert found.unlinked == ("a.py",)
    assert not ran.exists()


def test_a_slow_drip_is_given_up_in_the_end(
    downloads: Path, http: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "FETCH_SECONDS", 2.0)

    class Drip(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"0")
                    time.sleep(0.05)
            except OSError:
                return

        def log_message(self, *_: object) -> None: ...

    with pytest.raises(SourceUnavailable, match="did not end within"):
        parse_source(f"git:{http(Drip)}/x", downloads=downloads)
