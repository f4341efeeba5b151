"""Clients in a closed loop: each sends its next request when its last reply is complete."""

import http.client
import json
import threading
import urllib.parse

TEXT = "The finance team wants to know what every request to a language model costs, and who caused it."
# A reply that takes longer is a failure.
SECONDS = 300


def closed_loop(address, labels, clients, each, output_tokens, number):
    """Lets so many clients send so many requests each; `number` makes every prompt one of its own, so that no
    cache serves it. Raises the first failure."""
    failures, start = [], threading.Barrier(clients)

    def client(own):
        try:
            start.wait()
            for turn in range(each):
                _ask(address, labels, number + own * each + turn, output_tokens)
        except Exception as error:  # it is raised below, in the thread that can tell of it
            failures.append(error)

    threads = [threading.Thread(target=client, args=(own,)) for own in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _ask(address, labels, number, output_tokens):
    host = urllib.parse.urlsplit(address).netloc
    connection = http.client.HTTPConnection(host, timeout=SECONDS)
    body = {
        "model": "gemma-3-270m",
        # Digits are tokens of their own, so all prompts have as many.
        "prompt": f"{number:06} {TEXT}",
        "max_tokens": output_tokens,
        "stream": True,
        "temperature": 0,
        # Of llama.cpp's server: the reply has as many tokens as were asked for, and no prompt is kept.
        "ignore_eos": True,
        "cache_prompt": False,
    }
    headers = {"content-type": "application/json", **{f"x-farthing-{name}": value for name, value in labels.items()}}
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        if answer.status != 200 or not text.rstrip().endswith("data: [DONE]"):
            raise RuntimeError(f"status {answer.status}, a reply that ends with {text[-200:]!r}")
    finally:
        connection.close()
