"""Prepare and compress a sky in a process of its own; run by `ingestion.py`."""

import json
import resource
import sys
from pathlib import Path

from pymcdust import compress, open_sky, prepare_sky


def main(configuration: str, out: str) -> None:
    """Print as JSON, line by line, what begins; in the end what all of it took."""
    prepare_sky(json.loads(Path(configuration).read_text()), out, progress=_begins)
    _begins("compressing")
    rows = compress(open_sky(out))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    report = {
        "processor": usage.ru_utime + usage.ru_stime,
        "resident": _most_resident(),
        "compressed": rows.nbytes,
        "superpixels": rows.sizes["superpixel"],
    }
    print(json.dumps({"report": report}), flush=True)


def _most_resident() -> int:
    """Most memory that was ever resident [byte]; ru_maxrss would count the parent's as well."""
    lines = Path("/proc/self/status").read_text().splitlines()
    [most] = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return 1024 * int(most)


def _begins(stage: str) -> None:
    print(json.dumps({"stage": stage}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
