"""Runs cases of the Autobahn Testsuite against one server and prints what came of them.

    suite.py URL CASE...

A few cases that fail are run once more: some judge moments, and a machine may be busy.

Python 2.7, as the suite. The suite's own command writes nothing before its very end, keeps every
octet until then, and exits with 0 whatever happened; so its factory is driven from here.
"""
import fnmatch
import os
import sys
import time

from autobahntestsuite import choosereactor  # Installs the reactor: before all else.
from autobahntestsuite import case as suite
from autobahntestsuite.caseset import CaseSet
from autobahntestsuite.fuzzing import FuzzingClientFactory
from twisted.internet import reactor

GOOD = ("OK", "INFORMATIONAL")
AGAIN_MAX = 5
MISSING = {"behavior": "MISSING", "behaviorClose": "MISSING", "seconds": 0, "why": "it did not run"}


class Run(FuzzingClientFactory):
    """All cases, one connection after the other."""

    def __init__(self, url, cases):
        self.results = {}
        self.logged_at = time.time()
        FuzzingClientFactory.__init__(self, {
            "servers": [{"agent": "heartwheel", "url": url}],
            "cases": cases,
        })

    def logCase(self, result):
        now = time.time()
        kept = {key: result[key] for key in ("behavior", "behaviorClose", "remoteCloseCode")}
        kept["why"] = result["result"] if result["behavior"] != "OK" else result["resultClose"]
        kept["seconds"] = now - self.logged_at
        self.logged_at = now
        self.results[result["id"]] = kept

    def createReports(self, produceHtml=True, produceJson=True):
        pass


def select(patterns):
    """6 and 6.4 stand for all below them too."""
    cases = CaseSet(suite.CaseSetname, suite.CaseBasename, suite.Cases, suite.CaseCategories,
                    suite.CaseSubCategories).CasesIndices
    selected = []
    for pattern in patterns:
        found = [case for case in cases
                 if fnmatch.fnmatch(case, pattern) or fnmatch.fnmatch(case, pattern + ".*")]
        if not found:
            sys.exit("there is no case " + pattern)
        selected += found
    return selected


def row(name, results, note):
    behaviors = [result["behavior"] for result in results]
    good = [behaviors.count(word) for word in GOOD]
    bad = len(behaviors) - sum(good)
    unclean = sum(result["behaviorClose"] not in GOOD for result in results)
    seconds = sum(result["seconds"] for result in results)
    columns = [name] + [count or "-" for count in good + [bad, unclean]] + ["%.1f" % seconds]
    return "%6s %6s %14s %7s %14s %8s   %s" % tuple(columns + [note])


def main(url, patterns, is_again):
    cases = select(patterns)
    stdout, sys.stdout = sys.stdout, open(os.devnull, "w")  # The suite tells of every beginning.
    run = Run(url, cases)
    reactor.run()
    sys.stdout = stdout

    results = [(case, run.results.get(case, MISSING)) for case in run.specCases]
    print("\n%6s %6s %14s %7s %14s %8s" % (
        "cases", "OK", "INFORMATIONAL", "FAILED", "UNCLEAN CLOSE", "seconds"))
    for category in sorted({case.split(".")[0] for case in run.specCases}, key=int):
        of_it = [result for case, result in results if case.split(".")[0] == category]
        print(row(category, of_it, suite.CaseCategories[category]))
    print(row("all", [result for _, result in results], "%d cases" % len(results)) + "\n")

    failed = []
    for case, result in results:
        verdicts = (result["behavior"], result["behaviorClose"])
        if not set(verdicts) <= set(GOOD):
            failed.append(case)
        if verdicts != ("OK", "OK"):
            print("%-8s %s, close %s: %s" % ((case,) + verdicts + (result["why"],)))
    print("%s of %d cases failed" % (len(failed) or "none", len(results)))
    if failed and not is_again and len(failed) <= AGAIN_MAX:
        print("\nonce more: " + " ".join(failed))
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, __file__, "--again", url] + failed)
    return 1 if failed else 0


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--again"]
    sys.exit(main(words[0], words[1:], "--again" in sys.argv))
