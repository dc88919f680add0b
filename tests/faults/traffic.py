"""Clients and the oracle: many streams at once, each token with its time, each answer compared with what one process
computes alone."""
import asyncio
import hashlib
import json
import pathlib
import random
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from cluster import essence, look_up, solo  # noqa: E402
from fleet import API, AUTHORIZATION, BUILD, DEMO  # noqa: E402

LOST_S = 60  # a request without an end after that is lost


def make_requests(kind, count, seed):
    """Greedy and seeded sampling; "mixed": short and long, completions and chats, some with two choices; "short": a
    line and a few tokens."""
    rng = random.Random(seed)
    requests = []
    for number in range(count):
        lines = rng.choice((3, 10, 25, 50)) if kind == "mixed" else 1
        body = {"model": "demo", "seed": rng.randrange(1 << 40), "temperature": rng.choice((0, 0, 0.8, 1.0)),
                "max_tokens": rng.choice((8, 24, 60, 160)) if kind == "mixed" else rng.choice((2, 3, 4)),
                "ignore_eos": True, "return_token_ids": True}
        if kind == "long":
            body["max_tokens"] = 1200
        if kind == "mixed" and rng.random() < 0.15:
            body["n"] = 2
        text = look_up(rng, lines)
        if number % 3 == 2:
            body.update(messages=[{"role": "user", "content": text}], logprobs=True, top_logprobs=1)
            requests.append(("/v1/chat/completions", body))
        else:
            body.update(prompt=text, logprobs=1)
            requests.append(("/v1/completions", body))
    return requests


def said(choices):
    """{index: (token ids, text, log-probabilities, why it ended)}"""
    out = {}
    for choice in choices:
        logprobs = choice.get("logprobs") or {}
        values = logprobs.get("token_logprobs") or [entry["logprob"] for entry in logprobs.get("content") or []]
        message = choice.get("message") or choice.get("delta") or {}
        text = choice.get("text") or message.get("content")
        ids, texts, numbers, finish = out.get(choice["index"], ([], "", [], None))
        out[choice["index"]] = (ids + (choice.get("token_ids") or []), texts + (text or ""), numbers + values,
                                choice.get("finish_reason") or finish)
    return out


class Oracle:
    """What `baton solo` answers, computed once for each set of requests and this build's programs."""

    def __init__(self, kind, count, seed):
        self.requests = make_requests(kind, count, seed)
        baton = BUILD / "tools" / "baton"
        stamp = f"{json.dumps(self.requests)} {baton.stat().st_size}"
        name = hashlib.sha256(stamp.encode()).hexdigest()[:16]
        kept = BUILD / "faults" / f"oracle-{kind}-{name}.json"
        if not kept.exists():
            kept.parent.mkdir(exist_ok=True)
            answers = [essence(answer) for answer in solo(DEMO, self.requests, ("--concurrency", "8", "--threads", "1"))]
            kept.write_text(json.dumps(answers))
        self.answers = [said(choices) for choices in json.loads(kept.read_text())]
        self.next = 0

    def take(self):
        number = self.next % len(self.requests)
        self.next += 1
        return number


class Request:
    """One request and what became of it."""

    def __init__(self, oracle, number, coordinator, streamed):
        self.oracle, self.number, self.coordinator, self.streamed = oracle, number, coordinator, streamed
        self.sent = time.monotonic()
        self.ended = None
        self.times = []        # of each event with a token
        self.choices = []
        self.status, self.headers, self.error = None, {}, None
        self.done = False      # the stream said [DONE], or the whole answer came
        self.after_end = 0     # events after the terminal one
        self.retried = False
        self.unreached = False # nobody listened there

    def outcome(self):
        """ok, wrong, refused (a clean HTTP error), failed (a clean error in the stream), cut, lost"""
        if self.ended is None:
            return "lost"
        if self.status is not None and self.status != 200:
            return "refused"
        if self.error is not None:
            return "wrong" if self.done else "failed"
        if not self.done:
            return "cut"
        return "ok" if said(self.choices) == self.oracle.answers[self.number] else "wrong"

    def is_prefix(self):
        """Whatever came is the beginning of the right answer: true of broken streams too."""
        for index, (ids, text, _, _) in said(self.choices).items():
            want = self.oracle.answers[self.number].get(index)
            if not want or want[0][:len(ids)] != ids or not want[1].startswith(text):
                return False
        return True

    def gap(self):
        """The longest time without a token, from the sending on."""
        moments = [self.sent] + self.times + ([self.ended] if self.ended else [])
        return max((b - a for a, b in zip(moments, moments[1:])), default=0)

    def timeline(self, result):
        """Where its longest wait lies, in seconds from the fault."""
        moments = [self.sent] + self.times + ([self.ended] if self.ended else [])
        length, begin = max((b - a, a) for a, b in zip(moments, moments[1:]))
        return (f"{self.headers.get('x-request-id')} at {self.coordinator.name}, from {begin - result.injected:.2f} to "
                f"{begin + length - result.injected:.2f} s after the fault; sent at {self.sent - result.injected:.2f}; "
                f"all were back at {result.mended - result.injected:.2f}")

    def explain(self):
        want = self.oracle.answers[self.number]
        return (f"request {self.number} at {self.coordinator.name} {self.outcome()}: status {self.status} error "
                f"{self.error} tokens {[len(v[0]) for v in said(self.choices).values()]} of "
                f"{[len(v[0]) for v in want.values()]}, {time.monotonic() - self.sent:.2f} s old")


async def read_head(reader):
    """(status, headers) of an answer."""
    line = await reader.readline()
    if not line:
        raise ConnectionError("closed before an answer")
    headers = {}
    while (field := (await reader.readline()).strip()):
        name, _, value = field.decode().partition(":")
        headers[name.lower()] = value.strip()
    return int(line.split()[1]), headers


async def read_chunks(reader):
    """The payload of a chunked body, piece by piece; raises when it is cut."""
    while True:
        line = await reader.readline()
        if not line.strip():
            raise ConnectionError("cut between chunks")
        size = int(line, 16)
        data = await reader.readexactly(size + 2)
        if size == 0:
            return
        yield data[:-2]


async def read_events(reader, request):
    rest = b""
    async for piece in read_chunks(reader):
        rest += piece
        *lines, rest = rest.split(b"\n")
        for line in lines:
            if line.startswith(b"data: "):
                take_event(request, line[6:])


def take_event(request, data):
    if request.done or request.error is not None:
        request.after_end += 1
    if data == b"[DONE]":
        request.done = True
        return
    event = json.loads(data)
    if "error" in event:
        request.error = event["error"]
        return
    if event.get("choices"):
        request.times.append(time.monotonic())
        request.choices += event["choices"]


def encode(request, extra):
    path, body = request.oracle.requests[request.number]
    data = json.dumps({**body, "stream": True} if request.streamed else body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: baton\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    for name, value in {**AUTHORIZATION, **(extra or {})}.items():
        head += f"{name}: {value}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + data


async def perform(request, headers=None):
    """Sends the request and takes its whole answer."""
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(request.coordinator.address, API, limit=1 << 20), 5)
    except (OSError, asyncio.TimeoutError):
        request.unreached, request.ended = True, time.monotonic()
        return
    try:
        writer.write(encode(request, headers))
        request.status, request.headers = await read_head(reader)
        if request.status == 200 and request.streamed:
            await read_events(reader, request)
        else:
            body = await reader.readexactly(int(request.headers.get("content-length", 0)))
            answer = json.loads(body)
            if request.status == 200:
                request.times.append(time.monotonic())
                request.choices, request.done = answer["choices"], True
            else:
                request.error = answer.get("error")
    except (OSError, EOFError, ValueError, IndexError):
        pass  # what came so far tells: outcome()
    finally:
        request.ended = time.monotonic()
        writer.close()


class Traffic:
    """`streams` clients, each with one request after the other until finish().  rate: of all together, requests a
    second; None: as fast as they are answered.  count: no more than so many; None: no bound."""

    def __init__(self, fleet, oracle, streams=8, rate=None, count=None, streamed=0.85):
        self.fleet, self.oracle, self.streams, self.streamed = fleet, oracle, streams, streamed
        self.rate, self.left = rate, count
        self.requests, self.running, self.tasks = [], True, []
        self.rng = random.Random(streams)
        self.retry_elsewhere = False
        self.unreached = set()  # coordinators where nobody listened

    def start(self):
        self.tasks = [asyncio.create_task(self._client(i)) for i in range(self.streams)]

    async def _client(self, i):
        turn = i
        while self.running and self.left != 0:
            started = time.monotonic()
            if self.left is not None:
                self.left -= 1
            coordinators = self.fleet.coordinators
            at = coordinators[turn % len(coordinators)]
            request = Request(self.oracle, self.oracle.take(), at, self.rng.random() < self.streamed)
            self.requests.append(request)
            await perform(request)
            if request.unreached:  # it asked nothing of anybody: the next one may be there
                self.requests.remove(request)
                self.unreached.add(at)
                turn += 1
                continue
            turn = i
            if self.retry_elsewhere and request.outcome() == "cut":
                await self._again(request, coordinators[(coordinators.index(at) + 1) % len(coordinators)])
            if request.outcome() in ("cut", "refused"):
                await asyncio.sleep(0.1)  # a client that does not hammer
            if self.rate:
                await asyncio.sleep(max(0.0, started + self.streams / self.rate - time.monotonic()))

    async def _again(self, request, coordinator):
        again = Request(self.oracle, request.number, coordinator, request.streamed)
        again.retried = True
        self.requests.append(again)
        await perform(again)

    async def abandon(self):
        self.running = False
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def finish(self):
        """No new requests; those under way end, or are lost."""
        self.running = False
        if not self.tasks:
            return
        _, late = await asyncio.wait(self.tasks, timeout=LOST_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for request in self.requests:
            if request.ended and request.outcome() == "cut" and request.ended - request.sent >= LOST_S:
                request.ended = None
