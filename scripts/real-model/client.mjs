// The official OpenAI client for Node. Takes one JSON argument that says what to do, and prints the
// usage that the client was told, as JSON, one entry per call; null where it was told nothing.

const asked = JSON.parse(process.argv[2]);
const { default: OpenAI } = await import(asked.package);
const client = new OpenAI({ baseURL: asked.baseURL, apiKey: asked.apiKey, maxRetries: 0 });

const request = (prompt) => ({
  model: asked.model,
  messages: [{ role: "user", content: prompt }],
  max_tokens: asked.outputTokens,
});

// OpenAI counts cached tokens within the prompt's.
const usage = ({ prompt_tokens, completion_tokens, prompt_tokens_details }) => {
  const cached = prompt_tokens_details?.cached_tokens ?? 0;
  return { uncached: prompt_tokens - cached, cached, output: completion_tokens };
};

const calls = {
  async unary(prompt) {
    return usage((await client.chat.completions.create(request(prompt))).usage);
  },

  async stream(prompt) {
    const options = { stream: true, stream_options: { include_usage: true } };
    let told = null;
    for await (const chunk of await client.chat.completions.create({ ...request(prompt), ...options })) {
      if (chunk.usage) told = usage(chunk.usage);
    }
    if (!told) throw new Error("a stream with include_usage ends without a usage chunk");
    return told;
  },

  async streamWithoutUsage(prompt) {
    for await (const chunk of await client.chat.completions.create({ ...request(prompt), stream: true })) {
      if (chunk.usage || chunk.choices.length === 0) {
        throw new Error("a stream shows usage that the client did not ask for");
      }
    }
    return null;
  },

  async hangUp(prompt) {
    const stream = await client.chat.completions.create({ ...request(prompt), stream: true, ignore_eos: true });
    let seen = 0;
    for await (const _ of stream) {
      seen += 1;
      if (seen === asked.chunksBeforeHangingUp) {
        stream.controller.abort();
        return null;
      }
    }
    throw new Error("the stream ended before the client could hang up");
  },
};

const told = [];
for (const prompt of asked.what === "hangUp" ? asked.prompts.slice(0, 1) : asked.prompts) {
  told.push(await calls[asked.what](prompt));
}
console.log(JSON.stringify(told));
