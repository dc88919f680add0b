#!/usr/bin/env python3
"""The second half of ./quickstart: runs the cluster, asks, and shows the answer and the way it took."""
import http.client
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

from free_port import free_port

ROOT = pathlib.Path(__file__).resolve().parents[1]
BATON = pathlib.Path(os.environ.get("BATON_BUILD", ROOT / "build")) / "tools" / "baton"
MODEL = "demo"


def question():
    """A list that only the prompt knows, long enough to be worth handing over."""
    sys.path.insert(0, str(ROOT / "tools" / "demo_model"))
    import text
    look_up = text.lookup(random.randrange(1 << 30), tokens=900)
    return look_up.messages[0]["content"], look_up.number


def ask(port, messages):
    """(answer text, usage, seconds to the first token, tokens per second)"""
    body = {"model": MODEL, "messages": messages, "stream": True, "temperature": 0, "max_tokens": 64,
            "stream_options": {"include_usage": True}}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    begin = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", json.dumps(body),
                       {"Content-Type": "application/json", "x-baton-trace": "1"})
    response = connection.getresponse()
    if response.status != 200:
        sys.exit(f"the coordinator said {response.status}: {response.read().decode()}")
    pieces, usage, first, last = [], None, None, None
    for raw in response:
        line = raw.decode().strip()
        if not line.startswith("data: {"):
            continue
        event = json.loads(line[6:])
        usage = event.get("usage") or usage
        for choice in event.get("choices", []):
            piece = choice["delta"].get("content")
            if piece:
                last = time.perf_counter()
                first = first or last
                pieces.append(piece)
    count = usage["completion_tokens"]
    rate = (count - 1) / (last - first) if last and last > first else 0
    return "".join(pieces), usage, (first or begin) - begin, rate


def size(count):
    return f"{count / 1024:.0f} KiB" if count < 1 << 20 else f"{count / (1 << 20):.1f} MiB"


def show_way(usage, first_token_s, rate):
    account = usage["baton"]
    attempt = account["attempts"][-1]
    prefill, decode, times = attempt["prefill"], attempt["decode"], account["timings"]
    print(f"  prompt            {usage['prompt_tokens']} tokens, {usage['prompt_tokens_details']['cached_tokens']} of them cached")
    print(f"  read by           {prefill['name']}: {prefill['computed']} tokens computed, {prefill['reused']} reused, "
          f"{prefill['fetched']} fetched from the store in {times['prefill_ms']:.1f} ms")
    print(f"  handed over       {decode['blocks_read']} KV blocks, {size(decode['bytes_read'])} by {decode['transport'] or '-'} "
          f"({decode['reused']} tokens were there) in {times['transfer_ms']:.1f} ms")
    print(f"  written by        {decode['name']}: {usage['completion_tokens']} tokens")
    print(f"  first token       {first_token_s * 1000:.1f} ms, then {rate:.0f} tokens/s")


def main():
    port = free_port()
    up = subprocess.Popen([BATON, "up", "--model", ROOT / "models" / MODEL, "--port", str(port)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    wrong = False
    try:
        for line in up.stdout:
            print(line, end="", flush=True)
            if "ready:" in line:
                break
        else:
            sys.exit("the cluster did not start")
        entries, expected = question()
        messages = [{"role": "user", "content": entries}]
        lines = entries.splitlines()
        print(f"\nquestion: {lines[0]} ... ({len(lines)} lines) ... {lines[-1]}")
        answer, usage, first_token_s, rate = ask(port, messages)
        wrong = expected not in answer
        print(f"answer:   {answer.strip()}   [{'wrong, expected ' + expected if wrong else 'right'}]\n")
        show_way(usage, first_token_s, rate)
        again, usage, first_token_s, rate = ask(port, messages)
        wrong |= again != answer
        print("\nthe same question again (its blocks are cached now):")
        show_way(usage, first_token_s, rate)
        if "--keep" in sys.argv:
            print(f"\nstill running: http://127.0.0.1:{port}/v1 (Ctrl-C ends)")
            signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        up.send_signal(signal.SIGINT)
        for line in up.stdout:
            print(line, end="", flush=True)
        up.wait(60)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
