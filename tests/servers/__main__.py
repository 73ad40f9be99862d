"""`python -m servers up --parts redis,postgres`: servers for a demo, for as long as its standard input stays open."""

from __future__ import annotations

import argparse
import json
import sys

from . import PARTS, EngineMissing, running


def main() -> int:
    """Start the parts, print their addresses as one JSON line (or shell lines), and keep them until input ends."""
    parser = argparse.ArgumentParser(prog="python -m servers", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start servers, print their addresses, keep them until standard input closes")
    up.add_argument("--parts", default=",".join(PARTS), help="comma-separated; default: %(default)s")
    up.add_argument("--format", choices=("json", "shell"), default="json")
    options = parser.parse_args()
    names = [name for name in options.parts.split(",") if name]
    try:
        with running(*names) as addresses:
            if options.format == "json":
                print(json.dumps(dict(addresses)), flush=True)
            else:
                for name, url in addresses.items():
                    print(f"export {PARTS[name].variable}='{url}'", flush=True)
            sys.stdin.read()
    except KeyboardInterrupt:
        return 130
    except (EngineMissing, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
