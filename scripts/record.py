#!/usr/bin/env python3
"""Plays a shell session in a pseudo-terminal and draws what the terminal showed as an animated SVG. Standard library only.

    record.py SCENE.json PICTURE.svg

SCENE: {"columns", "rows", "folder", "title", "description", "seconds_at_the_end",
        "steps": [{"wait": "text that the screen must show first", "type": "text", "enter": true}], "end": "text"}
The shell gets this program's environment. Where the session does not get on, this ends with 1 and shows the screen.
"""

import fcntl
import html
import json
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

PATIENCE = 120.0  # seconds without what is waited for
FRAME = 0.25  # seconds; what changes faster is one picture
KEY = 0.045  # seconds between two keys
PAUSE = 0.7  # seconds before somebody types

CELL_WIDTH, CELL_HEIGHT, FONT_SIZE, MARGIN, BAR = 8.4, 19, 14, 16, 34
# On a background of its own, so that it reads the same in a light and in a dark page.
BACKGROUND, FOREGROUND = "#0d1117", "#e6edf3"
COLOURS = {"31": "#ff7b72", "32": "#56d364", "33": "#e3b341", "36": "#76e3ea"}
FAINT = "#9198a1"
BRIGHT = {"9": "31", "10": "32", "11": "33", "14": "36", "1": "31", "2": "32", "3": "33", "6": "36"}
WORDS = re.compile(r"[^ ]+(?: [^ ]+)*")
ESCAPE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])")


class Terminal:
    """As much of a terminal as the session needs. What it does not know, it refuses."""

    def __init__(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.lines = [[] for _ in range(rows)]
        self.row = self.column = 0
        self.style = (None, False, False)  # colour, bold, faint
        self.rest = ""

    def feed(self, text):
        text, self.rest = self.rest + text, ""
        at = 0
        while at < len(text):
            letter = text[at]
            if letter == "\x1b":
                found = ESCAPE.match(text, at)
                if found is None:
                    if len(text) - at > 20:
                        sys.exit(f"not understood: {text[at:at + 20]!r}")
                    self.rest = text[at:]
                    return
                self.control(found[1], found[2])
                at = found.end()
                continue
            if letter == "\n":
                self.line_feed()
            elif letter == "\r":
                self.column = 0
            elif letter == "\b":
                self.column = max(self.column - 1, 0)
            elif letter >= " ":
                self.put(letter)
            at += 1

    def put(self, letter):
        if self.column == self.columns:
            self.column = 0
            self.line_feed()
        line = self.lines[self.row]
        line.extend([(" ", (None, False, False))] * (self.column + 1 - len(line)))
        line[self.column] = (letter, self.style)
        self.column += 1

    def line_feed(self):
        if self.row == self.rows - 1:
            self.lines = self.lines[1:] + [[]]
        else:
            self.row += 1

    def control(self, given, letter):
        count = int(given) if given.isdigit() else 1
        if letter == "m":
            self.paint(given.split(";"))
        elif letter == "K" and given in ("", "0"):
            del self.lines[self.row][self.column:]
        elif letter == "J" and given in ("", "0"):
            del self.lines[self.row][self.column:]
            self.lines[self.row + 1:] = [[] for _ in self.lines[self.row + 1:]]
        elif letter == "F":
            self.row, self.column = max(self.row - count, 0), 0
        elif letter == "A":
            self.row = max(self.row - count, 0)
        elif not (given.startswith("?") and letter in "hl"):
            sys.exit(f"not understood: ESC[{given}{letter}")

    def paint(self, codes):
        colour, bold, faint = self.style
        while codes:
            code = codes.pop(0)
            if code in ("", "0"):
                colour, bold, faint = None, False, False
            elif code == "1":
                bold = True
            elif code == "2":
                faint = True
            elif code == "22":
                bold = faint = False
            elif code == "39":
                colour = None
            elif code in COLOURS:
                colour = code
            elif code == "38" and codes[:1] == ["5"] and codes[1:2] and codes[1] in BRIGHT:
                colour = BRIGHT[codes[1]]
                codes = codes[2:]
            else:
                sys.exit(f"not understood: ESC[{code}m")
        self.style = (colour, bold, faint)

    def text(self):
        return "\n".join("".join(letter for letter, _ in line).rstrip() for line in self.lines)

    def picture(self):
        """Each line as runs of one style: (column, text, style)."""
        lines = []
        for line in self.lines:
            runs = []
            for column, (letter, style) in enumerate(line):
                if runs and runs[-1][2] == style:
                    runs[-1][1] += letter
                else:
                    runs.append([column, letter, style])
            # Not every viewer keeps spaces: what stands apart is placed by itself.
            words = [(column + word.start(), word[0], style) for column, text, style in runs for word in WORDS.finditer(text)]
            lines.append(tuple(words))
        return tuple(lines)


class Session:
    """A shell in a pseudo-terminal, and all its screens with the time they came."""

    def __init__(self, scene):
        self.terminal = Terminal(scene["columns"], scene["rows"])
        self.frames = [(0.0, self.terminal.picture())]
        self.seen = self.begun = None
        self.child, self.person = pty.fork()
        if self.child == 0:
            os.chdir(scene["folder"])
            os.environ.update(TERM="xterm-256color", PS1="$ ", PS2="> ", LC_ALL="C.UTF-8")
            for name in ("COLUMNS", "LINES", "ENV", "NO_COLOR"):
                os.environ.pop(name, None)
            os.execv("/bin/sh", ["sh", "-i"])
        size = struct.pack("HHHH", scene["rows"], scene["columns"], 0, 0)
        fcntl.ioctl(self.person, termios.TIOCSWINSZ, size)

    def play(self, scene):
        try:
            for step in scene["steps"]:
                self.until(step["wait"])
                self.begun = self.begun or time.monotonic()
                self.look_for(PAUSE)
                for key in step["type"]:
                    self.type(key)
                    self.look_for(KEY)
                if step.get("enter", True):
                    self.type("\n")
            self.until(scene["end"])
            self.look_for(2 * FRAME)
        finally:
            # The shell leads a process group of its own terminal: all that it started hears of it.
            os.close(self.person)
            try:
                os.kill(self.child, signal.SIGHUP)
            except ProcessLookupError:
                pass
            os.waitpid(self.child, 0)
        return self.frames

    def type(self, key):
        os.write(self.person, key.encode())

    def until(self, wanted):
        """Until the screen, from where it was looked at last, shows `wanted`."""
        until = time.monotonic() + PATIENCE
        while re.search(wanted, self.terminal.text(), re.MULTILINE) is None:
            if time.monotonic() > until or not self.look(until - time.monotonic()):
                sys.exit(f"waited for {wanted!r} and saw:\n{self.terminal.text()}")

    def look_for(self, seconds):
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not self.look(left):
                return

    def look(self, at_most):
        """Takes what the terminal gets. False: nothing more will come."""
        if not select.select([self.person], [], [], max(at_most, 0.0))[0]:
            return True
        try:
            read = os.read(self.person, 65536)
        except OSError:
            return False
        self.terminal.feed(read.decode("utf-8", "replace"))
        now = time.monotonic() - self.begun if self.begun else 0.0
        self.frames.append((now, self.terminal.picture()))
        return bool(read)


def thinned(frames):
    """One screen for each stretch of FRAME: the last of it."""
    kept = {}
    for at, picture in frames:
        kept[int(at / FRAME)] = picture
    thin = []
    for at, picture in sorted(kept.items()):
        if not thin or thin[-1][1] != picture:
            thin.append((at * FRAME, picture))
    return thin


def spans(frames, end):
    """For each row: what it shows, from when, until when."""
    found = []
    for row in range(len(frames[0][1])):
        since, shown = 0.0, frames[0][1][row]
        for at, picture in frames[1:] + [(end, None)]:
            now = picture[row] if picture is not None else None
            if now != shown:
                if shown:
                    found.append((row, shown, since, at))
                since, shown = at, now
    return found


def number(value):
    return f"{value:.2f}".rstrip("0").rstrip(".")


def drawn(row, runs):
    y = number(BAR + MARGIN + row * CELL_HEIGHT + FONT_SIZE)
    out = []
    for column, text, (colour, bold, faint) in runs:
        names = [name for name, holds in (("c" + (colour or ""), colour), ("b", bold), ("f", faint)) if holds]
        style = f' class="{" ".join(names)}"' if names else ""
        x, length = number(MARGIN + column * CELL_WIDTH), number(len(text) * CELL_WIDTH)
        out.append(f'<text x="{x}" y="{y}" textLength="{length}"{style}>{html.escape(text, quote=False)}</text>')
    return "".join(out)


def svg(scene, frames):
    end = frames[-1][0] + scene["seconds_at_the_end"]
    shown = spans(frames, end)
    height = BAR + 2 * MARGIN + CELL_HEIGHT * (1 + max(row for row, _, _, _ in shown))
    width = number(2 * MARGIN + scene["columns"] * CELL_WIDTH)
    groups = {}
    for row, runs, since, until in shown:
        groups.setdefault((since, until), []).append(drawn(row, runs))
    css, body = [], []
    percent = lambda at: number(100 * at / end)
    for index, ((since, until), rows) in enumerate(sorted(groups.items())):
        lasts = until == end
        if since == 0 and lasts:
            body.append("<g>" + "\n".join(rows) + "</g>")
            continue
        steps = f"0%{{visibility:{'visible' if since == 0 else 'hidden'}}}"
        steps += f"{percent(since)}%{{visibility:visible}}" if since > 0 else ""
        steps += "" if lasts else f"{percent(until)}%{{visibility:hidden}}"
        css.append(f"@keyframes k{index}{{{steps}}}#g{index}{{animation-name:k{index}}}")
        # Where nothing moves, the last screen stands still.
        body.append(f'<g id="g{index}" class="{"a" if lasts else "a h"}">' + "\n".join(rows) + "</g>")
    lights = "".join(
        f'<circle cx="{MARGIN + 6 + 20 * at}" cy="{BAR / 2 + 2:g}" r="6" fill="{colour}"/>'
        for at, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
    )
    colours = "".join(f".c{code}{{fill:{colour}}}" for code, colour in COLOURS.items())
    title, description = html.escape(scene["title"]), html.escape(scene["description"])
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" \
role="img" aria-labelledby="t d">
<title id="t">{title}</title>
<desc id="d">{description}</desc>
<!-- Recorded by scripts/record.py: make recording -->
<style>
text{{font:{FONT_SIZE}px ui-monospace,SFMono-Regular,"SF Mono",Menlo,Consolas,"Liberation Mono",monospace;fill:{FOREGROUND}}}
{colours}.f{{fill:{FAINT}}}.b{{font-weight:700}}.h{{visibility:hidden}}
.a{{animation-duration:{number(end)}s;animation-iteration-count:infinite;animation-timing-function:step-end}}
{chr(10).join(css)}
@media (prefers-reduced-motion:reduce){{.a{{animation:none}}}}
</style>
<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>
<rect x=".5" y=".5" width="{number(float(width) - 1)}" height="{height - 1}" rx="7.5" fill="none" stroke="#30363d"/>
{lights}
{chr(10).join(body)}
</svg>
"""


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        scene = json.load(file)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    session = Session(scene)
    frames = thinned(session.play(scene))
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write(svg(scene, frames))
    print(session.terminal.text().rstrip())


main()
