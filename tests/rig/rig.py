#!/usr/bin/env python3
"""An emulated phone whose stick is pulled, frozen and cut off in mid-write: see README.md.

    rig.py selftest                       the rig itself (a minute)
    rig.py pulls [--count 50] [--fs vfat|exfat|both]
    rig.py cuts [--count 50] [--kills 5] [--fs vfat|exfat|both]
    rig.py replug [--count 10] [--fs ...]
    rig.py resume [--count 5] [--fs ...]  pulled and put back in one call (storage.resume_window_s)
    rig.py stall [--seconds 20] [--fs ...]
    rig.py crowd [--count 3000]           a call on a stick with so many recordings
    rig.py clock                          the clock is set in mid-call, an hour, ten years
    rig.py measure                        memory, wake-ups, size
    rig.py short                          a few of each, for every change (under 4 minutes)
    rig.py all                            all of it (about 45 minutes)

Prints a table; exit status 1 if the agent broke a promise."""
import argparse
import datetime
import os
import random
import signal
import subprocess
import sys
import time

import agent
import experiments
from machine import CACHE, HERE, say


def plan(arguments):
    """What to run: (title, function, arguments)."""
    it = arguments
    both = ["vfat", "exfat"] if it.fs == "both" else [it.fs]

    def each(function, *rest, filesystems=both):
        return [(f"{function.__name__} {filesystem}", function, (filesystem, *rest)) for filesystem in filesystems]
    measure = [("measure", experiments.measure, ())]
    count = it.count
    return {
        "selftest": lambda: each(experiments.selftest),
        "pulls": lambda: each(experiments.pulls, count or 50),
        "cuts": lambda: each(experiments.cuts, count or 50, it.kills),
        "replug": lambda: each(experiments.replug, count or 10),
        "resume": lambda: each(experiments.resume, count or 5),
        "stall": lambda: each(experiments.stall, it.seconds),
        "crowd": lambda: each(experiments.crowd, count or 3000, filesystems=["vfat"]),
        "clock": lambda: each(experiments.clock, filesystems=["vfat"]),
        "measure": lambda: measure,
        "short": lambda: each(experiments.pulls, 5, filesystems=["vfat"])
        + each(experiments.cuts, 8, 1, filesystems=["vfat"]) + each(experiments.cuts, 8, 0, filesystems=["exfat"])
        + each(experiments.resume, 1, filesystems=["vfat"]) + each(experiments.stall, 6, filesystems=["exfat"]),
        "all": lambda: each(experiments.selftest) + each(experiments.cuts, 50, it.kills)
        + each(experiments.pulls, 50) + each(experiments.replug, 10) + each(experiments.resume, 5)
        + each(experiments.stall, it.seconds) + each(experiments.clock, filesystems=["vfat"]) + measure,
    }[it.experiment]()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=["selftest", "pulls", "cuts", "replug", "resume", "stall", "crowd",
                                               "clock", "measure", "short", "all"])
    parser.add_argument("--count", type=int, help="how many pulls, cuts, replugs or resumes")
    parser.add_argument("--kills", type=int, default=5, help="power cuts that kill the machine, besides snapshots")
    parser.add_argument("--seconds", type=int, default=20, choices=range(1, 26), metavar="1..25")
    parser.add_argument("--fs", choices=["vfat", "exfat", "both"], default="both")
    parser.add_argument("--seed", type=int, default=1, help="for the moments of cuts and pulls")
    parser.add_argument("--programs", metavar="DIR", help="ARM recordd and recordctl, instead of building them")
    arguments = parser.parse_args()
    subprocess.run([f"{HERE}/setup"], check=True)
    if arguments.programs:
        agent.programs = arguments.programs
    else:
        agent.build()
    random.seed(arguments.seed)
    # So that QEMU ends with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    table, broken, begun = [], [], time.monotonic()
    for title, function, parameters in plan(arguments):
        say(f"== {title}")
        figures, faults = function(*parameters)
        table += figures
        broken += [f"{title}: {fault}" for fault in faults]
    report = [f"# {arguments.experiment}, {datetime.date.today()}, {time.monotonic() - begun:.0f} s", "",
              "| what | measured |", "|---|---|", *(f"| {name} | {text} |" for name, text in table), ""]
    report += [f"promises broken: {len(broken)}", *(f"- {fault}" for fault in broken[:50])]
    print("\n".join(["", *report]))
    os.makedirs(f"{CACHE}/reports", exist_ok=True)
    with open(f"{CACHE}/reports/{arguments.experiment}.md", "w") as file:
        file.write("\n".join(report) + "\n")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
