"""The official clients at work. Each function makes some calls and returns, for every call, the usage
that the client was told, or `None` where the API tells it nothing.

`base` is where the server's paths begin: an OpenAI client adds `/v1`, an Anthropic client knows to.
"""

import asyncio
import json
import pathlib
import os
import subprocess
import urllib.error

import anthropic
import openai

from services import get
from usage import Usage, of_classes

KEY = "sk-local-0000000000000000"
OUTPUT_TOKENS = 12
# Long enough that a client can hang up well before the end; prompt and output fit a slot's context.
LONG_OUTPUT_TOKENS = 400
CHUNKS_BEFORE_HANGING_UP = 5
AT_ONCE = 32
# Asked twice, so that the second time finds the first one's prefix in the cache.
PROMPTS = ["Tell me about the coin called farthing.", "Tell me about the coin called farthing."]


class Unexpected(Exception):
    """A client saw something that it must not see."""


def expect(condition, what):
    if not condition:
        raise Unexpected(what)


def openai_client(base):
    # Without retries a call is one exchange, whatever happens to it.
    return openai.OpenAI(base_url=f"{base}/v1", api_key=KEY, max_retries=0)


def anthropic_client(base):
    return anthropic.Anthropic(base_url=base, api_key=KEY, max_retries=0)


def chat(prompt, tokens=OUTPUT_TOKENS):
    return {"messages": [{"role": "user", "content": prompt}], "max_tokens": tokens}


def openai_unary(base, model):
    client = openai_client(base)
    replies = [client.chat.completions.create(model=model, **chat(prompt)) for prompt in PROMPTS]
    return [Usage.from_openai(reply.usage) for reply in replies]


def openai_stream(base, model):
    """With `include_usage` the last chunk tells the usage."""
    client = openai_client(base)
    told = []
    for prompt in PROMPTS:
        options = {"include_usage": True}
        stream = client.chat.completions.create(model=model, stream=True, stream_options=options, **chat(prompt))
        *_, last = stream
        expect(last.usage and not last.choices, "a stream with `include_usage` ends without a usage chunk")
        told.append(Usage.from_openai(last.usage))
    return told


def openai_stream_without_usage(base, model):
    client = openai_client(base)
    for prompt in PROMPTS:
        for chunk in client.chat.completions.create(model=model, stream=True, **chat(prompt)):
            expect(chunk.usage is None and chunk.choices, "a stream shows usage that the client did not ask for")
    return [None for _ in PROMPTS]


def openai_look_up(base, model):
    """A stream without usage names its exchange; its usage can be asked for afterwards."""
    client = openai_client(base)
    told = []
    for prompt in PROMPTS:
        reply = client.chat.completions.with_raw_response.create(model=model, stream=True, **chat(prompt))
        for _ in reply.parse():
            pass
        exchange = look_up(base, reply.headers["x-farthing-exchange"])
        told += [of_classes(attempt["usage"]["tokens"], attempt["usage"]) for attempt in exchange["attempts"]]
    return told


def look_up(base, exchange):
    """What the gateway tells the exchange's owner about it; anybody else must not be told."""
    url = f"{base.split('/r/')[0]}/farthing/v1/exchanges/{exchange}"
    try:
        get(url, headers={"authorization": "Bearer sk-somebody-else"})
    except urllib.error.HTTPError as error:
        expect(error.code in (401, 403, 404), f"somebody else's look-up ends with {error.code}")
    else:
        raise Unexpected("somebody else is told about an exchange")
    return json.loads(get(url, headers={"authorization": f"Bearer {KEY}"}))


def openai_at_once(base, model):
    """Every other call streams; no two prompts are the same."""

    async def call(client, number):
        request = {"model": model, **chat(f"{number}. What would {number} farthings buy?")}
        if number % 2 == 0:
            return Usage.from_openai((await client.chat.completions.create(**request)).usage)
        options = {"include_usage": True}
        async for chunk in await client.chat.completions.create(stream=True, stream_options=options, **request):
            last = chunk
        return Usage.from_openai(last.usage)

    async def calls():
        async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key=KEY, max_retries=0) as client:
            return await asyncio.gather(*(call(client, number) for number in range(AT_ONCE)))

    return asyncio.run(calls())


def openai_hang_up(base, model):
    request = {"model": model, "stream": True, "extra_body": {"ignore_eos": True}}
    stream = openai_client(base).chat.completions.create(**request, **chat(PROMPTS[0], LONG_OUTPUT_TOKENS))
    hang_up(stream)
    return [None]


def openai_embeddings(base, model):
    client = openai_client(base)
    told = []
    for given in ["four farthings make a penny", ["a penny", "a groat", "a shilling"]]:
        # As floats: the client's own default, base64, is left to its unit tests.
        reply = client.embeddings.create(model=model, input=given, encoding_format="float")
        expect(len(reply.data) == (1 if isinstance(given, str) else len(given)), "an embedding is missing")
        told.append(Usage.from_openai(reply.usage))
    return told


def anthropic_unary(base, model):
    client = anthropic_client(base)
    replies = [client.messages.create(model=model, **chat(prompt)) for prompt in PROMPTS]
    return [Usage.from_anthropic(reply.usage) for reply in replies]


def anthropic_stream(base, model):
    """The client itself puts the usage of `message_start` and `message_delta` together."""
    client = anthropic_client(base)
    told = []
    for prompt in PROMPTS:
        with client.messages.stream(model=model, **chat(prompt)) as stream:
            told.append(Usage.from_anthropic(stream.get_final_message().usage))
    return told


def anthropic_count_tokens(base, model):
    """Counting is free: it must use nothing and cost nothing."""
    request = chat(PROMPTS[0])
    del request["max_tokens"]
    counted = anthropic_client(base).messages.count_tokens(model=model, **request)
    expect(counted.input_tokens > 0, "no tokens counted")
    return [Usage()]


def anthropic_hang_up(base, model):
    request = {"model": model, "stream": True, "extra_body": {"ignore_eos": True}}
    stream = anthropic_client(base).messages.create(**request, **chat(PROMPTS[0], LONG_OUTPUT_TOKENS))
    hang_up(stream)
    return [None]


def hang_up(stream):
    seen = 0
    for _ in stream:
        seen += 1
        if seen == CHUNKS_BEFORE_HANGING_UP:
            stream.close()
            return
    raise Unexpected("the stream ended before the client could hang up")


def node(what):
    """The Node client in a process of its own, for `what` see client.mjs."""

    def calls(base, model):
        script = pathlib.Path(__file__).with_name("client.mjs")
        request = {
            "what": what,
            "baseURL": f"{base}/v1",
            "apiKey": KEY,
            "package": f"{os.environ['FARTHING_REAL_NODE']}/node_modules/openai/index.mjs",
            "model": model,
            "prompts": PROMPTS,
            "outputTokens": LONG_OUTPUT_TOKENS if what == "hangUp" else OUTPUT_TOKENS,
            "chunksBeforeHangingUp": CHUNKS_BEFORE_HANGING_UP,
        }
        done = subprocess.run(["node", script, json.dumps(request)], capture_output=True, text=True, timeout=300)
        expect(done.returncode == 0, f"the Node client failed: {done.stderr.strip()}")
        return [told and Usage(**told) for told in json.loads(done.stdout)]

    return calls
