"""Random usages of LiteLLM's models, charged by farthing and by LiteLLM; every difference has a cause.

    compare.py FARTHING DOCS [--usages N] [--seed N] [--write]
"""

import argparse
import collections
import datetime
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
from decimal import Decimal

import litellm
from litellm.cost_calculator import batch_cost_calculator
from litellm.litellm_core_utils.llm_cost_calc import utils as calculator
from litellm.types.utils import CompletionTokensDetailsWrapper, PromptTokensDetailsWrapper, Usage

import rules

# LiteLLM's map has no dates, but hours and days: on both sides of DeepSeek's, in the week and at its end.
TIMES = [
    datetime.datetime.fromisoformat(f"2026-11-{time}+00:00")
    for time in ("10T12:00:00", "11T00:59:59", "12T01:00:00", "13T09:59:59", "13T10:00:00", "14T02:00:00", "15T23:59:59")
]
# A sum of at most 15 products of floats, each rounded twice, of prices within 2^-52 of their decimals.
FLOAT_BOUND = Decimal("4e-15")
# To look a model of theirs up is to log in.
LOGINS = {"github_copilot", "chatgpt"}
MODES = {"chat", "completion", "responses", "embedding", None}
PROVIDERS = {
    "gemini": "google", "xai": "x-ai", "together_ai": "together", "fireworks_ai": "fireworks", "moonshot": "moonshotai",
    "voyage": "voyageai", "bedrock": "aws", "bedrock_converse": "aws", "github_copilot": "github-copilot",
}

FLOATS = "floats"
NO_TIER = "the tier has no price"
NO_BATCH = "no price for batches"
NO_PRICE = "something used has no price"
NOT_FOUND = "LiteLLM does not find its own entry"
OTHER = "LiteLLM finds another entry"
TWICE = "two entries are one model"
KEYS = "a price that LiteLLM does not read"
FAST = "fast is priced as priority"
TIERLESS = "a calculator that is not told the tier"
LONG = "a tier above a threshold"
AT_THRESHOLD = "exactly at xAI's threshold"
OFF_PEAK = "off-peak hours on days of another place"
ABOVE_ALONE = "a price above a threshold alone"
CACHE = "a cache price that is made up"
CLASS = "a calculator that knows text alone"
UNNAMED = "a class that its tier does not name"
CACHED_MEDIA = "cached audio or images without a price"
FEE = "a fee for each call"
CAUSES = [
    FLOATS, NO_TIER, NO_BATCH, NO_PRICE, NOT_FOUND, OTHER, TWICE, KEYS, FAST, TIERLESS, LONG, AT_THRESHOLD,
    OFF_PEAK, ABOVE_ALONE, CACHE, CLASS, UNNAMED, CACHED_MEDIA, FEE,
]


def their_provider(provider):
    """The provider that a call to the model would name."""
    if provider.startswith("vertex_ai"):
        return "vertex_ai"
    return {"bedrock_converse": "bedrock"}.get(provider, provider)


class Entry:
    """An entry of the map: what it is to farthing, and what LiteLLM reads of it."""

    def __init__(self, name, fields, texts):
        self.name = name
        self.fields = fields
        provider = fields["litellm_provider"]
        self.provider = their_provider(provider)
        self.model = name.removeprefix(provider + "/")
        self.ours = PROVIDERS.get(provider, provider)
        self.texts = texts[name]
        self.tiers = rules.imported(self.texts)
        self.off_peak = fields.get("off_peak_pricing")
        # Its calculator takes a provider that is named twice for once.
        lookup, prefix = name, self.provider + "/"
        while lookup.startswith(prefix * 2):
            lookup = lookup.removeprefix(prefix)
        self.key, self.info = self.read(lookup, texts)
        # That for batches does not.
        self.batch_info = self.read(name, texts)[1]

    def read(self, lookup, texts):
        """The entry that LiteLLM finds for a name, and the prices that it reads of it."""
        try:
            info = litellm.get_model_info(model=lookup, custom_llm_provider=self.provider)
        except Exception:
            return None, None
        found = texts.get(info["key"], {})
        read = {key for key in found if "cost" in key and info.get(key) is not None and number(found[key])}
        return info["key"], {key: Decimal(found[key]) for key in read}

    def tiers_at(self, at):
        """The prices as the import has them at a time."""
        if self.off_peak and rules.is_open(self.off_peak, at):
            return self.tiers | {"standard": rules.imported(rules.with_block(self.texts, self.off_peak))["standard"]}
        return self.tiers

    def priced(self):
        return self.fields.get("mode") in MODES and any(
            self.fields.get(key) for key in ("input_cost_per_token", "output_cost_per_token")
        )


def number(text):
    return isinstance(text, str) and re.fullmatch(r"[0-9.]+([eE][-+]?[0-9]+)?", text) is not None


def draw(entry, generator):
    """A usage and a tier; half of the long ones within a token of a threshold."""
    tiers = entry.tiers or {"standard": {}}
    tier = generator.choice([*tiers, *tiers, "standard", "standard", "batch", "flex", "priority", "fast"])
    steps = {at for prices in tiers.values() for step in prices.values() for at in step if at}
    near = generator.choice(sorted(steps)) if steps and generator.random() < 0.5 else None
    most = near // 12 if near else generator.choice([30, 3_000, 70_000, 400_000])
    prices = tiers.get(tier, tiers["standard"])
    usage = {}
    for item in rules.CLASSES:
        often = 0.8 if item in prices or item in ("input_uncached", "output_text") else 0.12
        if generator.random() < often:
            usage[item] = generator.randrange(most)
    if entry.fields.get("mode") == "embedding":
        usage = {"input_uncached": usage.get("input_uncached", 0)}
    if near:
        usage["input_uncached"] = 0
        usage["input_uncached"] = near + generator.choice([-1, 0, 1]) - rules.total_input(usage)
    return tier, {item: count for item, count in usage.items() if count}


def as_litellm(usage):
    """The usage as LiteLLM's own transformation of a reply leaves it: all parts are told."""
    get = lambda *names: sum(usage.get(name, 0) for name in names)
    prompt, completion = rules.total_input(usage), get(*rules.OUTPUT)
    written = get("cache_write_5m", "cache_write_1h")
    details = {
        "text_tokens": get("input_uncached"),
        "audio_tokens": get("input_audio", "cache_read_audio"),
        "image_tokens": get("input_image", "cache_read_image"),
        "video_tokens": get("input_video"),
        "cached_tokens": get("cache_read", "cache_read_audio", "cache_read_image"),
        "cached_tokens_details": {
            "text_tokens": 0, "audio_tokens": get("cache_read_audio"), "image_tokens": get("cache_read_image"),
        },
    }
    if written:
        details["cache_creation_tokens"] = written
        details["cache_creation_token_details"] = {
            "ephemeral_5m_input_tokens": get("cache_write_5m"), "ephemeral_1h_input_tokens": get("cache_write_1h"),
        }
    output = {
        "text_tokens": get("output_text"), "reasoning_tokens": get("reasoning"), "audio_tokens": get("output_audio"),
        "image_tokens": get("output_image"), "video_tokens": get("output_video"),
    }
    return Usage(
        prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion,
        prompt_tokens_details=PromptTokensDetailsWrapper(**details),
        completion_tokens_details=CompletionTokensDetailsWrapper(**output),
    )


def calculated(entry, tier, at, usage):
    """What LiteLLM says, or the exception it raises."""
    # It bills by its own clock.
    calculator.current_billing_time = lambda: at
    try:
        if tier == "batch":
            cost = batch_cost_calculator(as_litellm(usage), entry.name, entry.provider)
        else:
            cost = litellm.cost_per_token(
                model=entry.name, custom_llm_provider=entry.provider, usage_object=as_litellm(usage),
                service_tier=None if tier == "standard" else tier,
            )
        return cost[0] + cost[1]
    except Exception as error:
        return error


class Farthing:
    """The binary with a data directory of its own."""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder

    def run(self, *arguments, **more):
        command = [self.binary, *arguments, "--data-dir", self.folder]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **more).stdout

    def charge(self, records, book):
        """Charges by a book that was imported, or by the built-in one."""
        config = pathlib.Path(self.folder, "farthing.toml")
        config.write_text(f'price_books = ["{book}"]\n' if book else "")
        text = "".join(json.dumps(record) + "\n" for record in records)
        out = self.run("price", "charge", "--json", "--config", str(config), "-", input=text)
        charges = [json.loads(line) for line in out.splitlines()]
        assert [charge["line"] for charge in charges] == list(range(1, len(records) + 1))
        return charges


def near(theirs, exact):
    return abs(Decimal(theirs) - exact) <= FLOAT_BOUND * abs(exact)


def cause(entry, tier, at, usage, charge, theirs, entries):
    """The first cause that applies; None where both say the same. Raises where none does."""
    if isinstance(theirs, Exception):
        if entry.key is None:
            return NOT_FOUND
        raise AssertionError(f"LiteLLM fails: {theirs!r}")
    if tier == "batch" and theirs == 0 and not has_batches(entry):
        return NOT_FOUND
    expected = their_cost(entry, tier, at, usage)
    if not near(theirs, expected):
        raise AssertionError(f"LiteLLM's result is not what its map says by its rules, {expected}")
    # Of two entries for one name the import keeps the last by name.
    kept = entries[entry.ours, entry.model][-1]
    if kept.tiers != entry.tiers:
        return TWICE
    if tier not in kept.tiers:
        if charge["total_usd"] is not None:
            raise AssertionError("a price for a tier that has none")
        if tier == "fast" and "priority" in kept.tiers:
            return FAST
        return NO_BATCH if tier == "batch" else NO_TIER
    rates, missing = rules.our_rates(kept.tiers_at(at), tier, usage)
    if missing:
        if charge["total_usd"] is not None:
            raise AssertionError(f"a price although {missing} has none")
        return NO_PRICE
    fee = kept.tiers[tier].get("calls", {}).get(0)
    fee = fee if usage else None
    pico = rules.booked(rates, usage, fee)
    if charge["total_usd"] is None or Decimal(charge["total_usd"]) != pico * rules.PICO:
        raise AssertionError(f"farthing's charge is not what the map says by its rules, {pico} pico-dollars")
    if float(charge["total_usd"]) == theirs:
        return None
    if near(theirs, pico * rules.PICO):
        return FLOATS
    return why(entry, tier, at, usage, rates, fee)


def has_batches(entry):
    """Whether the calculator for batches, which looks for the provider itself, finds the model."""
    provider = litellm.get_llm_provider(entry.name, custom_llm_provider=entry.provider)[1]
    try:
        return litellm.get_model_info(model=entry.name, custom_llm_provider=provider) is not None
    except Exception:
        return False


def their_cost(entry, tier, at, usage):
    rates = their_rates(entry, tier, at, usage)
    return sum(rates[item] * count for item, count in usage.items())


def their_rates(entry, tier, at, usage):
    info = entry.batch_info if tier == "batch" else entry.info
    if tier != "batch" and entry.off_peak and calculator._is_off_peak(entry.off_peak, at):
        info = rules.with_block(info, entry.off_peak)
    return rules.their_rates(info, entry.provider, tier, usage)


def why(entry, tier, at, usage, rates, fee):
    """What of the two sets of rules makes the prices of what was used differ."""
    if entry.key != entry.name:
        return OTHER
    theirs = their_rates(entry, tier, at, usage)
    differing = {item for item in rates if rates[item] != theirs[item]}
    if not differing:
        if fee:
            return FEE
        raise AssertionError("no price differs")
    if entry.off_peak and rules.is_open(entry.off_peak, at) is None:
        return OFF_PEAK
    unread = {key: Decimal(text) for key, text in entry.texts.items() if number(text) and key not in entry.info}
    full = rules.their_rates(entry.info | unread, entry.provider, tier, usage)
    if any(full[item] != theirs[item] for item in differing):
        return KEYS
    if tier not in ("standard", "batch") and entry.provider in rules.WITHOUT_TIERS:
        return TIERLESS
    size = rules.total_input(usage)
    if entry.provider == "xai" and any(size == at for prices in entry.tiers.values() for step in prices.values() for at in step):
        return AT_THRESHOLD
    if tier != "standard":
        standard = entry.tiers["standard"]
        if any(at and size > at for item in differing for step in [standard.get(item, {}), standard.get("input_uncached", {})] for at in step):
            return LONG
    if all(any(above_alone(entry, tier, one) for one in [item, *rules.FALLBACKS.get(item, [])]) for item in differing):
        return ABOVE_ALONE
    if entry.provider == "fireworks_ai" and differing <= {"cache_read", "cache_read_audio", "cache_read_image"}:
        return CACHE
    if entry.provider in rules.TEXT_ALONE:
        return CLASS
    silent = {item for item in differing if not any(rules.KEYS.get(key) == item for key in own_keys(entry, tier))}
    if tier != "standard" and differing == silent:
        return UNNAMED
    if differing <= {"cache_read_audio", "cache_read_image"} and "cache_read_input_token_cost" not in entry.texts:
        return CACHED_MEDIA
    raise AssertionError(f"no cause applies to {differing}")


def above_alone(entry, tier, item):
    """Whether the item has a price on the tier above a threshold and none below."""
    base = next(key for key, known in rules.KEYS.items() if known == item)
    suffix = next((suffix for suffix, known in rules.TIERS.items() if known == tier), "")
    above = any(key.startswith(base + "_above_") and key.endswith("_tokens" + suffix) for key in entry.texts)
    return base + suffix not in entry.texts and above


def own_keys(entry, tier):
    """The keys of the entry that are for the tier, without its suffix."""
    suffix = next((suffix for suffix, known in rules.TIERS.items() if known == tier), "")
    return {key.removesuffix(suffix).split("_above_")[0] for key in entry.texts if suffix and key.endswith(suffix)}


def main():
    global ROUTER_FEE
    parser = argparse.ArgumentParser()
    parser.add_argument("farthing")
    parser.add_argument("docs", type=pathlib.Path)
    parser.add_argument("--usages", type=int, default=20, help="of each entry of the map")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    litellm.suppress_debug_info = True

    path = pathlib.Path(litellm.__file__).with_name("model_prices_and_context_window_backup.json")
    fields = json.loads(path.read_text())
    # Numbers as they are written.
    texts = json.loads(path.read_text(), parse_float=str, parse_int=str)
    texts = {name: {key: value for key, value in entry.items() if value is not None} for name, entry in texts.items()}
    ROUTER_FEE = texts.get("azure_ai/model_router", {}).get("input_cost_per_token", 0)
    entries, known = [], collections.defaultdict(list)
    for name in sorted(fields):
        if name == "sample_spec" or fields[name].get("litellm_provider") in LOGINS:
            continue
        entry = Entry(name, fields[name] | {"litellm_provider": fields[name].get("litellm_provider", "")}, texts)
        if entry.tiers is not None:
            known[entry.ours, entry.model].append(entry)
        if entry.priced():
            entries.append(entry)

    generator = random.Random(arguments.seed)
    cases = [
        (entry, generator.choice(TIMES), *draw(entry, generator)) for entry in entries for _ in range(arguments.usages)
    ]
    records = [
        {"provider": entry.ours, "model": entry.model, "time": at.isoformat(), "tier": tier, "tokens": usage}
        for entry, at, tier, usage in cases
    ]
    with tempfile.TemporaryDirectory() as folder:
        farthing = Farthing(arguments.farthing, folder)
        farthing.run("price", "import", "--from", "litellm", "--as-of", str(TIMES[0].date()), str(path))
        charges = farthing.charge(records, "litellm")
        builtin = farthing.charge(records, None)
        listed = {at: disagreements(farthing, at) for at in TIMES}

    unexplained = []
    counts, lists = collections.Counter(), collections.Counter()
    for (entry, at, tier, usage), charge, other in zip(cases, charges, builtin):
        if charge["total_usd"] is not None and "book=litellm" not in charge["price_row_text"]:
            # The built-in book below it has a price where the map has none.
            charge = charge | {"total_usd": None}
        theirs = calculated(entry, tier, at, usage)
        told = f"{entry.provider} {entry.name} {tier} {at} {usage}"
        try:
            counts[cause(entry, tier, at, usage, charge, theirs, known)] += 1
        except AssertionError as error:
            ours = charge["total_usd"] or charge["unpriced"]
            unexplained.append(f"{told}: {ours} here, {theirs!r} there: {error}")
        if charge["total_usd"] is not None and other["total_usd"] is not None:
            try:
                lists[disagreement(charge, other, listed[at])] += 1
            except AssertionError as error:
                unexplained.append(f"{told}: {other['total_usd']}, by their map {charge['total_usd']}: {error}")
    tables = [
        (counts, CAUSES, f"{len(cases):,} usages of {len(entries):,} entries"),
        (lists, LISTS, f"{lists.total():,} of them have a price in both lists"),
    ]
    print("\n\n".join(table(*one) for one in tables))
    for line in unexplained[:40]:
        print(line, file=sys.stderr)
    if unexplained:
        sys.exit(f"{len(unexplained):,} differences have no cause")
    unseen = [name for causes, names, _ in tables for name in names if not causes[name]]
    if unseen:
        print(f"not seen: {', '.join(unseen)}", file=sys.stderr)
    if arguments.write:
        write(arguments.docs, tables)


DISAGREE = "a price that `farthing price check` lists"
SILENT = "a class that one list has no price for"
LISTS = [DISAGREE, SILENT]


def disagreements(farthing, at):
    """What `price check` lists at a time."""
    check = json.loads(farthing.run("price", "check", "litellm", "--at", at.isoformat(), "--json"))
    return {(one["provider"], one["model"], one["tier"], one["item"]) for one in check["differ"]}


def disagreement(charge, other, listed):
    """Why two lists charge otherwise; None if they do not."""
    if charge["total_usd"] == other["total_usd"]:
        return None
    one = {line["item"]: line for line in charge["lines"]}
    two = {line["item"]: line for line in other["lines"]}
    differing = [item for item in one if item in two and one[item]["unit_price_pico_usd"] != two[item]["unit_price_pico_usd"]]
    provider = re.search(r"provider=(\S+)", other["price_row_text"])[1]
    for item in differing:
        named = one[item]["priced_as"]
        if named == two[item]["priced_as"]:
            if (provider, charge["model"], charge["tier"], named) not in listed:
                raise AssertionError(f"the price of `{named}` differs and `price check` does not say so")
    if any(one[item]["priced_as"] == two[item]["priced_as"] for item in differing):
        return DISAGREE
    if differing or set(one) != set(two):
        return SILENT
    raise AssertionError("no price differs")


def said(counts, what):
    """One line, as it also stands in the page."""
    return f"{what}, {counts.total() - counts[None]:,} of which differ"


def table(counts, causes, what):
    return "\n".join([said(counts, what), *(f"{counts[name]:>9,} {name}" for name in causes)])


def write(path, tables):
    """Puts the counts into the page's tables, and the lines above them."""
    head, heading, text = path.read_text().partition("## Against LiteLLM")
    for counts, causes, what in tables:
        line = re.escape(what)
        line = re.sub(r"[0-9,]+", "[0-9,]+", line)
        text, found = re.subn(f"{line}, [0-9,]+ of which differ", said(counts, what), text)
        assert found == 1, f"{path} does not say `{what}`"
        for name in causes:
            row = rf"(?m)^(\| {re.escape(name)} \|.*\|) [0-9,]+ \|$"
            text, found = re.subn(row, rf"\g<1> {counts[name]:,} |", text)
            assert found == 1, f"{path} has no row `{name}`"
    path.write_text(head + heading + text)


if __name__ == "__main__":
    main()
