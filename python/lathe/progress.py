"""How far a load is, on standard error: a line that is rewritten, in a terminal or a notebook."""
import sys
import time


def is_watched():
    """Whether somebody sees standard error as it comes."""
    return sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)


class Bar:
    """Called with the bytes read and all bytes. Shows nothing of a load that takes less than a second."""

    WIDTH = 30

    def __init__(self, name):
        self.name, self.start, self.shown = name, time.monotonic(), False

    def __call__(self, read, total):
        if time.monotonic() - self.start < 1 or total == 0:
            return
        share = min(read / total, 1)
        bar = "#" * round(share * self.WIDTH)
        sys.stderr.write(f"\rloading {self.name} [{bar:{self.WIDTH}}] {read / 1e9:.2f} of {total / 1e9:.2f} GB")
        sys.stderr.flush()
        self.shown = True

    def close(self):
        if self.shown:
            sys.stderr.write("\n")
