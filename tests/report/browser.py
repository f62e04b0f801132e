"""Looks at a page through headless Chromium: what a reader would see broken is a finding.

Needs Debian's python3-selenium and chromium-driver, so it runs under /usr/bin/python3.
"""

import json
from pathlib import Path
from typing import List

# What the page's own numbers say. Each list must be empty; the last entry is a height.
LOOK = r"""
const out = {};
const box = e => e.getBoundingClientRect();
out.wide = [...document.querySelectorAll('main *, header *')].filter(e =>
  !e.closest('pre, .wide, svg, details') && box(e).right > innerWidth + 1).map(e => e.tagName + '.' + e.className);
if (document.documentElement.scrollWidth > innerWidth) out.wide.push('the page itself');
out.overlap = []; out.small = []; out.cut = [];
for (const svg of document.querySelectorAll('figure svg')) {
  const frame = box(svg), name = svg.getAttribute('aria-label');
  const texts = [...svg.querySelectorAll('text')].map(e =>
    [e.textContent, box(e), parseFloat(getComputedStyle(e).fontSize) * frame.width / 400]);
  texts.forEach(([words, a, size], i) => {
    if (size < 9) out.small.push(name + ': ' + words);
    if (a.right > frame.right + 2 || a.left < frame.left - 2 || a.bottom > frame.bottom + 2)
      out.cut.push(name + ': ' + words);
    for (const [other, b] of texts.slice(0, i)) {
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 1 && down > 3.5) out.overlap.push(name + ': ' + words + ' / ' + other);
    }
  });
}
const light = colour => {
  const [r, g, b] = colour.match(/[\d.]+/g).slice(0, 3).map(v => {
    v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
  return .2126 * r + .7152 * g + .0722 * b; };
const ground = e => { for (; e; e = e.parentElement) {
  const c = getComputedStyle(e).backgroundColor;
  if (c !== 'rgba(0, 0, 0, 0)' && c !== 'transparent') return c; }
  return 'rgb(255, 255, 255)'; };
const faint = {};
for (const e of document.querySelectorAll('p,h1,h2,h3,a,small,b,code,li,summary,td,th,caption,span,svg text')) {
  if (!e.textContent.trim() || e.closest('pre')) continue;
  const style = getComputedStyle(e), a = light(e.closest('svg') ? style.fill : style.color), b = light(ground(e));
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < 4.5) faint[e.tagName + ' ' + e.textContent.slice(0, 30) + ' ' + ratio.toFixed(2)] = 1;
}
out.faint = Object.keys(faint);
out.dead = [...document.querySelectorAll('a')].map(a => a.getAttribute('href')).filter(h =>
  !h.startsWith('#') || !document.getElementById(h.slice(1)));
out.silent = [...document.querySelectorAll('article:not(.open)')].filter(a => !a.querySelector('.answer')).map(a => a.id);
out.unmarked = [...document.querySelectorAll('svg.compared')].filter(s => !s.querySelector('.way0')).map(
  s => s.getAttribute('aria-label'));
out.script = [...document.querySelectorAll('script, link, img, iframe')].map(e => e.tagName);
const head = document.querySelector('h1');
out.low = head && box(head).bottom < 300 ? [] : ['the verdict is not in the first 300 pixels'];
return out;
"""
# What paper has and should not, or lacks.
ON_PAPER = r"""
const out = [...document.querySelectorAll('nav, details, #log')].filter(e => e.getClientRects().length).map(e => e.tagName);
for (const e of document.querySelectorAll('h1, .answer, figure svg'))
  if (!e.getClientRects().length) out.push('no ' + e.tagName);
return out;
"""
WORDS = {
    "wide": "nothing is wider than the window", "overlap": "no two labels overlap",
    "small": "no label is under 9 pixels", "cut": "no label leaves its picture",
    "faint": "every text has a contrast of 4.5", "dead": "every link has its place",
    "silent": "every experiment has an answer or a reason",
    "unmarked": "the shipped way is marked where ways are compared",
    "script": "nothing but HTML and CSS", "low": "the verdict comes first",
    "errors": "no request to elsewhere and no error",
    "paper": "paper has the answers and pictures, and neither folds nor the log",
}
VIEWS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]


class Browser:
    def __init__(self):
        from selenium import webdriver
        from selenium.webdriver.chrome.options import Options
        from selenium.webdriver.chrome.service import Service

        options = Options()
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-extensions",
                         "--force-device-scale-factor=1"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))

    def close(self):
        self.driver.quit()

    def open(self, page: Path, width: int, scheme: str, height: int = 900):
        command = self.driver.execute_cdp_cmd
        command("Emulation.setDeviceMetricsOverride",
                {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
        command("Emulation.setEmulatedMedia",
                {"media": "screen", "features": [{"name": "prefers-color-scheme", "value": scheme}]})
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(page.resolve().as_uri())

    def _errors(self) -> List[str]:
        """Errors of the console, and requests that are not of the page itself."""
        errors = [entry["message"] for entry in self.driver.get_log("browser")]
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                if not url.startswith(("file:", "data:")):
                    errors.append(url)
        return errors

    def look(self, page: Path, width: int, scheme: str):
        """Returns the findings of each kind in one view."""
        self.open(page, width, scheme)
        findings = self.driver.execute_script(LOOK)
        findings["errors"] = self._errors()
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        findings["paper"] = self.driver.execute_script(ON_PAPER)
        return findings

    def shoot(self, page: Path, picture: Path, width: int, scheme: str, height: int):
        self.driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
        self.open(page, width, scheme, height)
        self.driver.save_screenshot(str(picture))
