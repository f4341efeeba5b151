"""What a call used, in the classes that every side of the comparison can tell."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Usage:
    """Tokens: input that was computed, input that came from the cache, output. Disjoint."""

    uncached: int = 0
    cached: int = 0
    output: int = 0

    def __add__(self, other):
        return Usage(self.uncached + other.uncached, self.cached + other.cached, self.output + other.output)

    def __sub__(self, other):
        return Usage(self.uncached - other.uncached, self.cached - other.cached, self.output - other.output)

    def __str__(self):
        return f"{self.uncached} / {self.cached} / {self.output}"

    @classmethod
    def from_openai(cls, usage):
        """OpenAI counts cached tokens within the prompt's. Embeddings have no output and no details."""
        details = getattr(usage, "prompt_tokens_details", None)
        cached = (details and details.cached_tokens) or 0
        return cls(usage.prompt_tokens - cached, cached, getattr(usage, "completion_tokens", 0))

    @classmethod
    def from_anthropic(cls, usage):
        """Anthropic counts them beside the input."""
        return cls(usage.input_tokens, usage.cache_read_input_tokens or 0, usage.output_tokens)


def total(usages):
    return sum(usages, Usage())


def of_classes(tokens, sums):
    """From farthing's JSON, where journal, bill and look-up name the same classes and sums. All input
    that was not read from a cache counts as computed."""
    cached = sum(count for name, count in tokens.items() if name.startswith("cache_read"))
    return Usage(sums["input_tokens"] - cached, cached, sums["output_tokens"])
