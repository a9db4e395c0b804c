"""``python -m benchmarks.studies.intervals``: see study.py."""

import argparse
import json

from . import page, study


def main() -> None:
    parser = argparse.ArgumentParser(description=study.__doc__)
    parser.add_argument("--page", action="store_true", help="write docs/statistics.md")
    options = parser.parse_args()
    found = json.loads(study.RESULTS.read_text()) if study.RESULTS.exists() else {}
    if options.page:
        page.write(found)
    else:
        study.draw(found)


if __name__ == "__main__":
    main()
