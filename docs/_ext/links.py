"""Does every link inside the built site lead somewhere? ``python links.py docs/_build/html``."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit


class Page(HTMLParser):
    """Links of a page and the anchors that others may link to."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = [], {""}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        """Collect ``href``, ``src`` and ``id``."""
        named = dict(attributes)
        self.anchors |= {named.get("id"), named.get("name")}
        self.links += [named[key] for key in ("href", "src") if named.get(key)]


def broken_links(site):
    """``page: link`` of each link to a file or an anchor that is not there."""
    paths = [path for path in site.rglob("*.html") if "_static" not in path.parts]
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in paths}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link.startswith("#"):
                continue
            file, anchor = urldefrag(unquote(parts._replace(query="").geturl()))
            target = (path.parent / file).resolve()
            target = target / "index.html" if target.is_dir() else target
            known = pages[target].anchors if target in pages else {anchor}
            if not target.exists() or anchor not in known:
                broken.append(f"{path.relative_to(site.resolve())}: {link}")
    return broken


if __name__ == "__main__":
    broken = broken_links(Path(sys.argv[1]))
    sys.exit("Links to nowhere:\n" + "\n".join(sorted(set(broken))) if broken else 0)
