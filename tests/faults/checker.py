"""The offline checker: reads a history and says what was promised and not kept. Knows nothing of the farm but its history.

kinds of entries:
submitted    job, key                          the ledger accepted a job
cancelled    job, before                       the ledger answered a cancellation; before: the job's final state, "" where it waited
claimed      key, token                        a lease was given
committing   key, token                        before a commit
committed    key, token, outcome               after it: ok, LeaseLost, Cancelled, or the name of another error: nobody knows
final        job, key, state, said, stored     what the ledger says in the end; digests of the audio: by the ledger, of the bytes
undisturbed  key, sha256                       digest of the audio of a run in which nothing happened
fault        point, action                     what was done to the farm
"""

import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


def check(history: list[Entry]) -> list[str]:
    """What is wrong, in sentences; empty where every promise was kept."""
    kinds: dict[str, list[Entry]] = defaultdict(list)
    for entry in history:
        kinds[entry["kind"]].append(entry)
    return [
        *no_accepted_job_is_lost(kinds),
        *one_commit_counts(kinds),
        *no_stale_token_commits(kinds),
        *cancel_is_final(kinds),
        *bytes_are_those_of_an_undisturbed_run(kinds),
    ]


def _cancelled_jobs(kinds: dict[str, list[Entry]]) -> dict[str, int]:
    """When the ledger confirmed the cancellation of a job that was waiting."""
    return {entry["job"]: entry["at_ns"] for entry in kinds["cancelled"] if entry["before"] in ("", "cancelled")}


def no_accepted_job_is_lost(kinds: dict[str, list[Entry]]) -> list[str]:
    final = {entry["job"]: entry["state"] for entry in kinds["final"]}
    cancelled = _cancelled_jobs(kinds)
    return [
        f"lost: job {job} was accepted and is {final.get(job, 'unknown')} in the end"
        for job in dict.fromkeys(entry["job"] for entry in kinds["submitted"])
        if final.get(job) != "done" and job not in cancelled
    ]


def _commits(kinds: dict[str, list[Entry]]) -> dict[str, set[str]]:
    commits = defaultdict(set)
    for entry in kinds["committed"]:
        if entry["outcome"] == "ok":
            commits[entry["key"]].add(entry["token"])
    return commits


def one_commit_counts(kinds: dict[str, list[Entry]]) -> list[str]:
    return [
        f"twice: render {key} was committed with tokens {', '.join(sorted(tokens))}"
        for key, tokens in _commits(kinds).items()
        if len(tokens) > 1
    ]


def _fence(token: str) -> int:
    return int(token.split(":")[0])


def no_stale_token_commits(kinds: dict[str, list[Entry]]) -> list[str]:
    """A render that is done is not claimed again: so a commit that counted had the highest token that was ever given."""
    highest: dict[str, int] = defaultdict(int)
    for entry in kinds["claimed"]:
        highest[entry["key"]] = max(highest[entry["key"]], _fence(entry["token"]))
    return [
        f"stale: render {key} was committed with token {token}, and token {highest[key]} was given to somebody else"
        for key, tokens in _commits(kinds).items()
        for token in tokens
        if _fence(token) < highest[key]
    ]


def cancel_is_final(kinds: dict[str, list[Entry]]) -> list[str]:
    cancelled = _cancelled_jobs(kinds)
    wrong = [
        f"uncancelled: job {entry['job']} was cancelled and is {entry['state']} in the end"
        for entry in kinds["final"]
        if entry["job"] in cancelled and entry["state"] != "cancelled"
    ]
    jobs = defaultdict(set)
    for entry in kinds["submitted"]:
        jobs[entry["key"]].add(entry["job"])
    begun = {(entry["key"], entry["token"]): entry["at_ns"] for entry in kinds["committing"]}
    for key, tokens in _commits(kinds).items():
        if not jobs[key] or not jobs[key] <= cancelled.keys():
            continue
        last = max(cancelled[job] for job in jobs[key])
        wrong += [
            f"uncancelled: render {key} was committed after everybody had cancelled"
            for token in tokens
            if begun.get((key, token), 0) > last
        ]
    return wrong


def bytes_are_those_of_an_undisturbed_run(kinds: dict[str, list[Entry]]) -> list[str]:
    undisturbed = {entry["key"]: entry["sha256"] for entry in kinds["undisturbed"]}
    wrong = []
    for entry in kinds["final"]:
        if entry["state"] != "done":
            continue
        # A soak makes only a sample of its renders again.
        wanted = undisturbed.get(entry["key"], entry["said"] or "audio")
        for what, name in (("stored", "the store holds"), ("said", "the ledger says")):
            if entry[what] != wanted:
                wrong.append(f"bytes: of render {entry['key']} {name} {entry[what]}, not {wanted}")
    return wrong


def count(history: list[Entry]) -> dict[str, int]:
    """What is published: how much was done, and how much of it went wrong."""
    problems = check(history)
    final = [entry for entry in history if entry["kind"] == "final"]
    tokens: dict[str, set[str]] = defaultdict(set)
    for entry in history:
        if entry["kind"] == "claimed":
            tokens[entry["key"]].add(entry["token"])
    outcomes = Counter(entry["outcome"] for entry in history if entry["kind"] == "committed")
    return {
        "jobs": sum(entry["kind"] == "submitted" for entry in history),
        "done": sum(entry["state"] == "done" for entry in final),
        "cancelled": sum(entry["state"] == "cancelled" for entry in final),
        "faults": sum(entry["kind"] == "fault" for entry in history),
        "renders": len(tokens),
        "again": sum(len(each) > 1 for each in tokens.values()),
        "commits_refused": outcomes["LeaseLost"] + outcomes["Cancelled"],
        "commits_unanswered": outcomes["ServiceUnavailable"],
        "lost": sum(problem.startswith("lost") for problem in problems),
        "duplicated": sum(problem.startswith(("twice", "stale")) for problem in problems),
        "problems": len(problems),
    }


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    from history import read

    entries = read(Path(sys.argv[1]))
    for name, number in count(entries).items():
        print(f"{name:16} {number}")
    found = check(entries)
    print("\n".join(found) or "every promise was kept")
    sys.exit(bool(found))
