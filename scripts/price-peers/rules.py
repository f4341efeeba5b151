"""What LiteLLM's map says a usage costs, in exact decimals: by the rules of Farthing's import, and by those of
LiteLLM's calculator.

Both are written from the documented behaviour of either side and use the code of neither. A usage is a dict of counts
by token class; a price is a `Decimal` of dollars for one.
"""

import datetime
import re
from decimal import ROUND_HALF_EVEN, Decimal

PICO = Decimal("1e-12")

INPUT = [
    "input_uncached", "cache_read", "cache_write_5m", "cache_write_1h",
    "input_audio", "input_image", "input_video", "cache_read_audio", "cache_read_image",
]
OUTPUT = ["output_text", "reasoning", "output_audio", "output_image", "output_video"]
CLASSES = INPUT + OUTPUT

KEYS = {
    "input_cost_per_token": "input_uncached",
    "output_cost_per_token": "output_text",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write_5m",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "output_cost_per_reasoning_token": "reasoning",
    "input_cost_per_audio_token": "input_audio",
    "input_cost_per_image_token": "input_image",
    "input_cost_per_video_token": "input_video",
    "cache_read_input_audio_token_cost": "cache_read_audio",
    "cache_read_input_image_token_cost": "cache_read_image",
    "output_cost_per_audio_token": "output_audio",
    "output_cost_per_image_token": "output_image",
    "output_cost_per_video_token": "output_video",
    "input_cost_per_request": "calls",
}
TIERS = {"_batches": "batch", "_flex": "flex", "_priority": "priority", "_ultrafast": "ultrafast", "_balanced": "balanced"}

FALLBACKS = {
    "cache_read": ["input_uncached"], "cache_write_5m": ["input_uncached"],
    "cache_write_1h": ["cache_write_5m", "input_uncached"],
    "input_audio": ["input_uncached"], "input_image": ["input_uncached"], "input_video": ["input_uncached"],
    "cache_read_audio": ["cache_read", "input_audio", "input_uncached"],
    "cache_read_image": ["cache_read", "input_image", "input_uncached"],
    "reasoning": ["output_text"], "output_audio": ["output_text"],
    "output_image": ["output_text"], "output_video": ["output_text"],
}


def total_input(usage):
    return sum(usage.get(name, 0) for name in INPUT)


def clean(number):
    """A decimal without the noise of floats, rounded to what twelve digits say if it has fifteen or more."""
    digits = len(number.as_tuple().digits)
    if digits >= 15:
        short = number.quantize(Decimal(1).scaleb(number.adjusted() - 11))
        if abs(short - number) * 10**13 < abs(number):
            return short
    return number


# Farthing's import -------------------------------------------------------------------------------------------------


def imported(entry):
    """`{tier: {item: {threshold: price}}}` of an entry of the map; None if it is left out."""
    tiers = {}
    for key, value in entry.items():
        if value is None or "cost" not in key:
            continue
        name, tier = key, "standard"
        for suffix, known in TIERS.items():
            if key.endswith(suffix):
                name, tier = key.removesuffix(suffix), known
        threshold = 0
        above = re.fullmatch(r"(.*)_above_(\d+)k_tokens", name)
        if above:
            name, threshold = above[1], int(above[2]) * 1000
        if name in KEYS:
            tiers.setdefault(tier, {}).setdefault(KEYS[name], {})[threshold] = clean(Decimal(value))
    standard = dict(tiers.get("standard", {}))
    if not ("input_uncached" in standard or "output_text" in standard):
        return None
    if not any(price for steps in standard.values() for price in steps.values()):
        return None
    for prices in tiers.values():
        for item, steps in standard.items():
            if item != "reasoning" or "output_text" not in prices:
                prices.setdefault(item, steps)
        for cached, fresh in (("cache_read_audio", "input_audio"), ("cache_read_image", "input_image")):
            if "cache_read" in prices and fresh in prices:
                prices.setdefault(cached, prices["cache_read"])
        for item in [item for item, steps in prices.items() if 0 not in steps]:
            del prices[item]
    return tiers


def our_rates(tiers, tier, usage):
    """`{item: price}` of what is used, not rounded, and what has none."""
    prices, size = tiers[tier], total_input(usage)
    rates, missing = {}, []
    for item in CLASSES:
        if not usage.get(item):
            continue
        steps = next((prices[one] for one in [item, *FALLBACKS.get(item, [])] if one in prices), None)
        if steps is None:
            missing.append(item)
            continue
        rates[item] = steps[max(at for at in steps if at == 0 or size > at)]
    return rates, missing


def booked(rates, usage, fee):
    """Pico-dollars, with the price of one rounded once."""
    def pico(price):
        return int((price / PICO).quantize(Decimal(1), ROUND_HALF_EVEN))
    return sum(pico(rate) * usage[item] for item, rate in rates.items()) + (pico(fee) if fee else 0)


def is_open(block, at):
    """Whether a block `off_peak_pricing` holds at a time (UTC); None if the import leaves it out."""
    if block.get("weekday_timezone", "UTC") != "UTC":
        return None
    rules = list(block.get("windows", []))
    if "hours_utc" in block:
        rules.append({"hours_utc": block["hours_utc"]})
    for rule in rules:
        hours = rule["hours_utc"]
        for window in [hours] if isinstance(hours, str) else hours:
            start, end = (datetime.time.fromisoformat(part.strip()) for part in window.split("-"))
            now = at.time()
            inside = start <= now < end if start < end else (now >= start or now < end)
            if inside and at.isoweekday() in rule.get("weekdays", range(1, 8)):
                return True
    return False


def with_block(info, block):
    """Prices with those of a block in the place of theirs, above thresholds too."""
    over = {key: Decimal(str(value)) for key, value in block.items() if "cost" in key}
    kept = {key: value for key, value in info.items() if not any(key.startswith(name + "_above_") for name in over)}
    return kept | over


# LiteLLM's calculator ------------------------------------------------------------------------------------------------

SUFFIXES = {"flex": "_flex", "balanced": "_balanced", "priority": "_priority", "fast": "_priority", "ultrafast": "_ultrafast"}
# Calculators that are not told the tier.
WITHOUT_TIERS = {"deepseek", "tencent", "fireworks_ai", "perplexity", "xai", "dashscope", "qwencloud", "qwen_ai_platform"}
DASHSCOPE = {"dashscope", "qwencloud", "qwen_ai_platform"}
# Calculators that have a price for text, cached or written, and for nothing else; the first not even that.
TEXT_ALONE = {"perplexity"} | DASHSCOPE
ABOVE = re.compile(
    r"^(?:input_cost_per_token|output_cost_per_token|cache_read_input_token_cost|cache_creation_input_token_cost)"
    r"_above_(?:1hr_above_)?(\d+)(k?)_tokens(.*)$"
)


def their_rates(info, provider, tier, usage):
    """`{item: price}` of what is used, by LiteLLM's own rules. `info` are the prices of the entry that it found."""
    size = total_input(usage)
    if tier == "batch":
        return batch_rates(info, provider, usage)
    suffix = "" if provider in WITHOUT_TIERS else SUFFIXES.get(tier, "")
    if provider == "perplexity":
        text, output = info.get("input_cost_per_token", Decimal(0)), info.get("output_cost_per_token", Decimal(0))
        rates = dict.fromkeys(INPUT, text) | dict.fromkeys(OUTPUT, output)
        if "output_cost_per_reasoning_token" in info:
            rates["reasoning"] = info["output_cost_per_reasoning_token"]
        return rates

    def price(key, default):
        """A tier's price, or else the standard one."""
        return info.get(key + suffix, info.get(key, default))

    text = price("input_cost_per_token", Decimal(0))
    output = price("output_cost_per_token", Decimal(0))
    output = output or info.get("output_cost_per_image_token", output)
    read, write = price("cache_read_input_token_cost", None), price("cache_creation_input_token_cost", None)
    hour = info.get("cache_creation_input_token_cost_above_1hr")
    if provider == "fireworks_ai" and "cache_read_input_token_cost" not in info and "input_cost_per_token" in info:
        read = info["input_cost_per_token"] / 2
    found = [ABOVE.match(key) for key in info]
    thresholds = {
        (int(match[1]) * (1000 if match[2] else 1), match[1] + match[2]) for match in found if match and match[3] in ("", suffix)
    }
    for threshold, written in sorted(thresholds):
        if size > threshold or (provider == "xai" and size == threshold):
            above = f"_above_{written}_tokens"
            text = price("input_cost_per_token" + above, text)
            output = price("output_cost_per_token" + above, output)
            write = price("cache_creation_input_token_cost" + above, write)
            hour = price("cache_creation_input_token_cost_above_1hr" + above, hour)
            read = price("cache_read_input_token_cost" + above, read)
    read, write = text if read is None else read, text if write is None else write
    hour = write if hour is None else hour
    if provider in DASHSCOPE:
        rates = dict.fromkeys(INPUT, text) | dict.fromkeys(OUTPUT, info.get("output_cost_per_token", Decimal(0)))
        rates |= {"cache_read": read, "cache_read_audio": read, "cache_read_image": read}
        rates |= {"cache_write_5m": write, "cache_write_1h": write}
        rates["reasoning"] = info.get("output_cost_per_reasoning_token", rates["reasoning"])
        return rates
    rates = {
        "input_uncached": text, "cache_read": read, "cache_write_5m": write, "cache_write_1h": hour,
        "cache_read_image": read, "cache_read_audio": price("cache_read_input_audio_token_cost", read),
        "output_text": output,
    }
    for item, key in (("audio", "input_cost_per_audio_token"), ("image", "input_cost_per_image_token"), ("video", "input_cost_per_video_token")):
        rates[f"input_{item}"] = price(key, text)
    for item in ("audio", "image", "video"):
        rates[f"output_{item}"] = info.get(f"output_cost_per_{item}_token", output)
    reasoning = info.get("output_cost_per_reasoning_token", output)
    if suffix and "output_cost_per_token" + suffix in info:
        reasoning = output
    rates["reasoning"] = info.get("output_cost_per_reasoning_token" + suffix, reasoning) if suffix else reasoning
    if provider == "xai":
        # It takes the parts of the output away first.
        rates |= dict.fromkeys(OUTPUT, output)
    return rates


def batch_rates(info, provider, usage):
    size, inclusive = total_input(usage), provider == "xai"

    def rate(prefix):
        crossed = [
            (int(match[1]) * (1000 if match[2] else 1), key)
            for key in info
            if (match := re.fullmatch(rf"{prefix}_above_(\d+)(k?)_tokens_batches", key))
        ]
        crossed = [(at, key) for at, key in crossed if size > at or (inclusive and size == at)]
        return info[max(crossed)[1]] if crossed else info.get(prefix + "_batches")

    text, output = rate("input_cost_per_token"), rate("output_cost_per_token")
    read, write = rate("cache_read_input_token_cost"), rate("cache_creation_input_token_cost")
    standard = info.get("input_cost_per_token", Decimal(0))
    if text is not None:
        rates = dict.fromkeys(INPUT, text)
        for item in ("audio", "image", "video"):
            rates[f"input_{item}"] = info.get(f"input_cost_per_{item}_token_batches", text)
        read, write = text if read is None else read, text if write is None else write
    else:
        rates = dict.fromkeys(INPUT, standard / 2)
        read = info.get("cache_read_input_token_cost", Decimal(0)) / 2 if standard else Decimal(0)
        write = (info.get("cache_creation_input_token_cost") or standard) / 2
    rates |= {"cache_read": read, "cache_read_audio": read, "cache_read_image": read}
    rates |= {"cache_write_5m": write, "cache_write_1h": write}
    if output is None:
        output = info.get("output_cost_per_token", Decimal(0)) / 2
    rates |= dict.fromkeys(OUTPUT, output)
    image = info.get("output_cost_per_image_token_batches")
    if image is None and info.get("output_cost_per_image_token") is not None:
        image = info["output_cost_per_image_token"] / 2
    rates["output_image"] = output if image is None else image
    return rates
