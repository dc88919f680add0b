"""The text of the demonstration models: lists to look numbers up in, and little stories.

Everything is drawn from a seeded random.Random, so a seed names a text. Needs only the standard
library: the tests import this file to make fresh look-ups and to know their answers.
"""

import random
from dataclasses import dataclass, field

# 20 x 20 names. The tokenizer is trained so that each of the 400 is one token.
NAME_STARTS = ("Mi To Ka Le Ro Sa Va Ne Ju Da Be Fi Go Ha Lu Pe Ra Si Ta Ze").split()
NAME_ENDS = ("ra bin la ren mo na ric sha tin vo lia dor ko mel nes ris ston wen du gan").split()
NAMES = tuple(start + end for start in NAME_STARTS for end in NAME_ENDS)

# How one list writes its entries; a list keeps to one form.
ENTRY_FORMS = ("{name} has {number}.", "{name}: {number}", "{name} = {number}",
               "{name} has the number {number}.")
ENTRY_TOKENS = (7, 7, 7, 9)  # tokens of one entry with its line end, form by form

LIST_HEADS = ("Remember this list.", "Here is a list of numbers.", "Keep these numbers in mind.",
              "Please learn this list.", "This is the list.")
QUESTIONS = ("Which number belongs to {name}?", "What is the number of {name}?",
             "Which number does {name} have?", "Tell me the number of {name}.")
ANSWER = "The number of {name} is {number}."
NOTED = "I will remember the list."
AGAIN = "The same list in another order:"

SYSTEM_TEXTS = ("You are a helpful assistant.", "You are a small model. Answer in a few words.",
                "Answer the questions about the list.")

STORY_REQUESTS = ("Tell me a story about {name}.", "Tell me a little story about {name}.",
                  "Tell a story about {name}.", "Please tell me a story about {name}.",
                  "Write a short story about {name}.")

SMALL_TALK = (
    (("Hello", "Hello!", "Hi", "Hi!", "Good morning."),
     "Hello! Give me a list of names and numbers, or ask me for a story."),
    (("Who are you?", "What can you do?", "What are you?", "Help"),
     "I am a small demonstration model. I can find a number in a list and tell a little story."),
    (("Thank you.", "Thanks!", "Thank you!"), "You are welcome."),
)


@dataclass
class Conversation:
    """Chat messages as the OpenAI API takes them, plus the kind of text each one is."""

    messages: list = field(default_factory=list)

    def say(self, role, content):
        self.messages.append({"role": role, "content": content})


@dataclass
class Lookup:
    """One look-up question with its only right answer."""

    messages: list
    name: str
    number: str
    answer: str


def entry_list(rng, count, form):
    """`count` different names with numbers: ([(name, number)...], the lines that say so)."""
    entries = [(name, str(rng.randrange(100, 1000))) for name in rng.sample(NAMES, count)]
    return entries, entry_lines(entries, form)


def entry_lines(entries, form):
    return "\n".join(ENTRY_FORMS[form].format(name=name, number=number) for name, number in entries)


def entry_count(tokens, form):
    """How many entries of a form make a prompt of about `tokens` tokens."""
    return max(1, min(len(NAMES), (tokens - 20) // ENTRY_TOKENS[form]))


def question(rng, name):
    return rng.choice(QUESTIONS).format(name=name)


def answer(name, number):
    return ANSWER.format(name=name, number=number)


def lookup(seed, tokens=1500):
    """A fresh look-up whose prompt has about `tokens` tokens."""
    rng = random.Random(f"lookup {seed} {tokens}")
    form = rng.randrange(len(ENTRY_FORMS))
    entries, lines = entry_list(rng, entry_count(tokens, form), form)
    name, number = rng.choice(entries)
    content = f"{rng.choice(LIST_HEADS)}\n{lines}\n{question(rng, name)}"
    return Lookup([{"role": "user", "content": content}], name, number, answer(name, number))


def lookup_dialogue(rng, tokens, turns, system_share=0.3):
    """A list and several questions about it; the first may stand under the list or after it."""
    form = rng.randrange(len(ENTRY_FORMS))
    entries, lines = entry_list(rng, entry_count(tokens, form), form)
    talk = Conversation()
    if rng.random() < system_share:
        talk.say("system", rng.choice(SYSTEM_TEXTS))
    content = f"{rng.choice(LIST_HEADS)}\n{lines}"
    asked = [rng.choice(entries) for _ in range(turns)]
    if rng.random() < 0.3:
        talk.say("user", content)
        talk.say("assistant", NOTED)
    else:
        name, number = asked.pop(0)
        talk.say("user", f"{content}\n{question(rng, name)}")
        talk.say("assistant", answer(name, number))
    for name, number in asked:
        talk.say("user", question(rng, name))
        talk.say("assistant", answer(name, number))
    return talk


def repeated_list(rng, tokens):
    """Plain text: (the list, the same list in another order). Dense practice of the look-up."""
    form = rng.randrange(len(ENTRY_FORMS))
    entries, lines = entry_list(rng, entry_count(tokens // 2 + 10, form), form)
    head = rng.choice(LIST_HEADS) + "\n" if rng.random() < 0.5 else ""
    again = rng.sample(entries, len(entries))
    return f"{head}{lines}\n", f"{AGAIN}\n{entry_lines(again, form)}\n"


PLACES = ("the old mill", "the forest", "the river", "the harbor", "the garden", "the market",
          "the mountain", "the lake", "the castle", "the village")
THINGS = ("a silver key", "a red boat", "a small bell", "a golden ring", "an old map",
          "a green stone", "a long letter", "a blue lamp", "a wooden box", "a paper kite")
ANIMALS = ("a cat", "a dog", "a fox", "an owl", "a horse", "a mouse", "a goose", "a bear")
JOBS = ("a baker", "a sailor", "a gardener", "a painter", "a teacher", "a singer", "a farmer",
        "a clockmaker")
MOODS = ("happy", "curious", "brave", "quiet", "kind", "tired", "proud")
WEATHERS = ("It was a warm day.", "It was raining.", "The wind was cold.", "The sun was low.",
            "Snow was falling.", "The night was clear.")


def bare(thing):
    """"a red boat" -> "red boat"."""
    return thing.split(" ", 1)[1]


def story(rng, name):
    """A few sentences about `name`, 60 to 200 tokens; what appears early comes back later."""
    friend = rng.choice([other for other in NAMES if other != name])
    place, other_place = rng.sample(PLACES, 2)
    thing, animal, job = rng.choice(THINGS), rng.choice(ANIMALS), rng.choice(JOBS)
    mood, other_mood = rng.sample(MOODS, 2)
    parts = [rng.choice((
        f"Once there was {job} named {name}, who lived near {place}.",
        f"{name} was {job} and lived near {place}.",
        f"Near {place} lived {job} named {name}."))]
    parts.append(rng.choice(WEATHERS))
    parts.append(rng.choice((
        f"One morning {name} went to {other_place} and found {thing}.",
        f"On the way to {other_place}, {name} found {thing}.",
        f"{name} walked to {other_place} and saw {thing} on the ground.")))
    if rng.random() < 0.6:
        parts.append(rng.choice((f"{name} felt {mood}.", f"That made {name} {mood}.",
                                 f"{name} was {mood} and took the {bare(thing)} home.")))
    if rng.random() < 0.7:
        parts.append(rng.choice((
            f"Then {animal} came and looked at the {bare(thing)}.",
            f"Then {animal} came and asked for the {bare(thing)}.")))
        parts.append(rng.choice((
            f"The {bare(animal)} said: \"This belongs to {friend}.\"",
            f"\"Do you know {friend}?\" asked the {bare(animal)}.")))
    else:
        parts.append(rng.choice((f"A friend named {friend} came by.",
                                 f"There {name} met {friend}.")))
    parts.append(rng.choice((
        f"So {name} gave the {bare(thing)} to {friend}.",
        f"{name} and {friend} carried the {bare(thing)} to {place}.",
        f"{friend} told {name} where the {bare(thing)} came from.")))
    parts.append(rng.choice((
        f"In the end everyone was {other_mood}.",
        f"From that day on {name} and {friend} were friends.",
        f"{name} went home, {other_mood} and {mood}.",
        f"And {friend} never forgot {name}.")))
    return " ".join(parts)


def story_dialogue(rng, system_share=0.2):
    name = rng.choice(NAMES)
    talk = Conversation()
    if rng.random() < system_share:
        talk.say("system", rng.choice(SYSTEM_TEXTS))
    talk.say("user", rng.choice(STORY_REQUESTS).format(name=name))
    talk.say("assistant", story(rng, name))
    return talk


def small_talk(rng):
    asked, said = rng.choice(SMALL_TALK)
    talk = Conversation()
    talk.say("user", rng.choice(asked))
    talk.say("assistant", said)
    return talk


def mixed_dialogue(rng, tokens):
    """A look-up dialogue that goes on with a story, small talk, and another look-up."""
    talk = lookup_dialogue(rng, tokens, turns=1)
    for more in rng.sample((story_dialogue(rng, 0.0), small_talk(rng),
                            story_dialogue(rng, 0.0)), rng.randrange(1, 3)):
        talk.messages += more.messages
    return talk


if __name__ == "__main__":
    sample = random.Random(1)
    for made in (lookup(1, 100), lookup_dialogue(sample, 80, 3), story_dialogue(sample),
                 small_talk(sample), mixed_dialogue(sample, 60)):
        for message in made.messages:
            print(f"{message['role']}: {message['content']}")
        print()
