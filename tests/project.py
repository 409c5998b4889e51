"""The files of a small project: code, docs, a long function, and text that attacks the page."""

from __future__ import annotations

_HELPERS = "".join(
    f'''
def {verb}_{noun}(batch, client):
    """{verb.title()} the {noun} of a batch with the client."""
    return client.{verb}(batch.{noun})

'''
    for verb in ("upload", "delete", "count", "list")
    for noun in ("points", "vectors", "snapshots")
)
FILES = {
    "shop/retry.py": '''
import time

def send_with_retries(batch, client, attempts=5):
    """Send a batch again after a failure, waiting longer each time."""
    for attempt in range(attempts):
        try:
            return client.send(batch)
        except ConnectionError:
            time.sleep(2 ** attempt)
    raise TimeoutError("the batch could not be sent")
''',
    "shop/helpers.py": _HELPERS,
    "shop/long.py": "def enumerate_constants():\n"
    + '    """Enumerate all the constants, one per line."""\n'
    + "".join(f"    value_{i} = {i}\n" for i in range(30)),
    "docs/guide.md": """# Guide

## Failed batches
A batch that fails is sent again up to five times; the pause doubles each time.

## Quantization
Turn on binary quantization to keep vectors small.

## Snapshots
A snapshot holds all points of a collection.
""",
    "docs/attack<img src=x onerror=pwned()>.md": """# Attack <img src=x onerror="window.pwned=1">

Hostile attack payload: <script>window.pwned=2</script> ${window.pwned=3} `${window.pwned=4}`
{{constructor.constructor('window.pwned=5')()}} {{{value}}} \\u0024{window.pwned=6} "quoted" &amp;
""",
    "shop/attack.js": """// Hostile payload: </code></pre><img src=x onerror="window.pwned=7">
const attackPayload = `${alert(1)} \\n ${window.pwned = 8}`;
""",
}
