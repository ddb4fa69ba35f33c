#!/usr/bin/env python3
"""Writes short stories by a small grammar: the text that the repository's own model is trained on.

    make_stories.py OUTPUT [--stories 6000] [--seed 1] [--form text|documents|chat|tasks]

Every sentence is put together from the lists below, so the text is free of anybody's rights, and small enough a world for
a model of half a million weights to learn: who is who, what was wanted, where it was found. The same seed writes the same
text. Documents and chat are lines of JSON: a story each, or a request for a story and the story. Tasks, in HellaSwag's form,
are beginnings of stories with four endings, of which one has the hero's name and the thing that was looked for."""
import argparse
import json
import random

ANIMALS = ["fox", "hare", "mouse", "owl", "bear", "frog", "hedgehog", "duck", "cat", "squirrel"]
NAMES = ["Mia", "Tom", "Lena", "Ben", "Ada", "Finn", "Rosa", "Max", "Ida", "Paul", "Nora", "Leo"]
TRAITS = ["little", "brave", "curious", "shy", "clever", "sleepy", "cheerful", "hungry"]
PLACES = {"forest": "under an old oak", "garden": "behind the roses", "meadow": "in the high grass", "village": "beside the well",
          "harbour": "between two boats", "hill": "on top of a stone"}
THINGS = ["red ball", "golden key", "warm scarf", "sweet apple", "silver bell", "small boat", "blue kite", "wooden spoon"]
WEATHER = ["the sun was shining", "it was raining", "a soft wind blew", "snow lay on the ground", "the morning was misty"]
FEELINGS = {"happy": "laughed", "sad": "sighed", "tired": "yawned", "proud": "smiled"}


def story(r):
    hero, friend = r.sample(NAMES, 2)
    animal, other = r.sample(ANIMALS, 2)
    home, away = r.sample(sorted(PLACES), 2)
    thing, trait = r.choice(THINGS), r.choice(TRAITS)
    says = lambda who, what: r.choice([f'"{what}" said {who}.', f'{who} said, "{what}"'])
    lines = [f"Once there was a {trait} {animal} named {hero}. {hero} lived in the {home}." if home not in ("harbour", "hill")
             else f"Once there was a {trait} {animal} named {hero}. {hero} lived at the {home}.",
             f"One day {r.choice(WEATHER)}, and {hero} wanted to find a {thing}.",
             f"On the way {hero} met {friend} the {other}."]
    lines.append(says(hero, f"Have you seen a {thing}?"))
    if r.random() < 0.5:
        lines.append(says(friend, f"Yes, I saw a {thing} at the {away}."))
        lines.append(f"So {hero} went to the {away} and looked everywhere. The {thing} was {PLACES[away]}.")
        feeling = r.choice(["happy", "proud"])
    else:
        lines.append(says(friend, "No, but I will help you to look."))
        lines.append(f"Together they went to the {away}. They looked everywhere, and at last {friend} found the {thing} {PLACES[away]}.")
        feeling = "happy"
    if r.random() < 0.3:
        lines.append(f"But {friend} wanted the {thing} too, and {hero} was sad and {FEELINGS['sad']}. Then they shared it.")
    lines.append(f"{hero} was very {feeling} and {FEELINGS[feeling]}.")
    if r.random() < 0.5:
        lines.append(f"In the evening {hero} was tired and {FEELINGS['tired']}, and went home to the {home}.")
    lines.append(r.choice([f"From that day on {hero} and {friend} were friends.", f"{hero} kept the {thing} for ever.",
                           f"And that is the story of {hero} the {animal}."]))
    return " ".join(lines)


def conversation(r):
    text = story(r)
    _, _, _, _, _, animal, _, hero = text.split(".")[0].split()
    return json.dumps({"messages": [{"role": "user", "content": f"Tell me about a {animal} named {hero}."}, {"role": "assistant", "content": text}]})


def task(r):
    """Six lines: a beginning, the number of the right ending, the endings."""
    while True:
        beginning, _, ending = story(r).rpartition(". ")
        hero, thing = ending.split()[0], next(t for t in THINGS if t in beginning)
        if "kept" in ending:
            break
    names, things = r.sample([n for n in NAMES if n not in beginning], 2), r.sample([t for t in THINGS if t != thing], 2)
    endings = [f"{who} kept the {what} for ever." for who, what in ((hero, thing), (names[0], thing), (hero, things[0]), (names[1], things[1]))]
    order = r.sample(range(4), 4)
    return "\n".join([beginning + ".", str(order.index(0)), *(endings[i] for i in order)])


FORMS = {"text": (story, "\n\n"), "documents": (lambda r: json.dumps({"text": story(r)}), "\n"), "chat": (conversation, "\n"), "tasks": (task, "\n")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output")
    parser.add_argument("--stories", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--form", choices=FORMS, default="text")
    a = parser.parse_args()
    r = random.Random(a.seed)
    write, end = FORMS[a.form]
    with open(a.output, "w") as file:
        for _ in range(a.stories):
            file.write(write(r) + end)


if __name__ == "__main__":
    main()
