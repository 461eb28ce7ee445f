"""``python -m local.standins``: serves the stand-ins until it is told to stop."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys

from local.standins.server import StandIns


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m local.standins", description="Stand-ins for the dataspace services."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--issue-delay", type=float, default=1.0, help="seconds that the issue of credentials takes")
    parser.add_argument("--key-delay", type=float, default=0.0, help="seconds until a new participant's key is active")
    parser.add_argument("--token-lifetime", type=int, default=3600, help="seconds that jwtlet's tokens hold")
    parser.add_argument("--token", default=os.environ.get("CFM_STANDINS_TOKEN", ""), help="or CFM_STANDINS_TOKEN")
    arguments = parser.parse_args()
    if not arguments.token:
        parser.error("the control surface needs a token: --token or CFM_STANDINS_TOKEN")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        standins = StandIns(
            arguments.token,
            host=arguments.host,
            port=arguments.port,
            issue_delay=arguments.issue_delay,
            key_delay=arguments.key_delay,
            token_lifetime=arguments.token_lifetime,
        )
    except OSError as error:
        print(f"cannot listen on {arguments.host}:{arguments.port}: {error.strerror}", file=sys.stderr)
        return 1
    # Waited for and not handled: a handler that is interrupted by the next signal would wait for a lock of its own.
    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    standins.start()
    print(f"the stand-ins are at {standins.url}", flush=True)
    signal.sigwait(ending)
    standins.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
