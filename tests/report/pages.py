"""Reading a page as a browser would: its elements, what stands in tables and headings."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """Elements with their attributes, the text of each, and whether every element was closed."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self._content: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag in ("tr",):
            self.rows.append([])
        if tag not in VOID:
            self._open.append(tag)
            self._content.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1] == tag, f"</{tag}> closes <{self._open[-1]}>"
        self._open.pop()
        text = self._content.pop()
        self.texts.append((tag, " ".join(text.split())))
        if self._content:
            self._content[-1] += " " + text
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append(" ".join(text.split()))

    def handle_data(self, data: str) -> None:
        if self._content:
            self._content[-1] += data

    def of(self, tag: str) -> list[str]:
        """Texts of all elements of a name."""
        return [text for name, text in self.texts if name == tag]

    def attributes(self, name: str) -> list[str]:
        """All values of an attribute."""
        return [found[name] for _, found in self.elements if name in found]

    def row(self, first: str) -> list[str]:
        """The one table row that begins with `first`."""
        (found,) = [row for row in self.rows if row and row[0] == first]
        return found
