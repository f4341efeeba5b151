"""What farthing knows of the calls: its journal and its bill, both read by the program itself while the
gateway is still writing."""

import collections
import json

from farthing import ask
from usage import of_classes

# One attempt in the journal: `usage` is `None` if it is unknown, `source` says where it comes from,
# `doubts` what is doubtful about it, `end` how the attempt ended.
Attempt = collections.namedtuple("Attempt", "usage source doubts end")


def check(farthing, data_dir):
    """What the journal's own check says; it fails if the journal is not whole."""
    return ask(farthing, data_dir, "journal", "check").strip()


def journal(farthing, data_dir):
    """The attempts of each route."""
    routes, attempts = {}, collections.defaultdict(list)
    for line in ask(farthing, data_dir, "journal", "dump").splitlines():
        record = json.loads(line)
        if record["kind"] == "admitted":
            routes[record["exchange"]] = record["labels"]["route"]
        elif record["kind"] == "attempt_ended":
            usage = record["usage"]
            known = None if usage is None else of_classes(usage["tokens"], usage)
            attempt = Attempt(known, record["usage_source"], record["doubts"], record["end"])
            attempts[routes[record["exchange"]]].append(attempt)
    return attempts


def bill(farthing, data_dir):
    """Exchanges and usage of each route."""
    told = json.loads(ask(farthing, data_dir, "bill", "--by", "route", "--json"))
    routes = {}
    for group in told["groups"]:
        measures = group["measures"]
        classes = {name: of_class["tokens"] for name, of_class in measures["token_classes"].items()}
        routes[group["key"]["route"]] = measures["exchanges"], of_classes(classes, measures)
    return routes
