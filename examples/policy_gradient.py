#!/usr/bin/env python3
"""Teaches a model by reward: REINFORCE (Williams 1992) with a price for leaving what it was, in a loop of one's own.

    make train-demo && examples/policy_gradient.py runs/stories/model     # stories, and then they are about a fox

Each step, the model writes answers to one prompt and a function of this file says what they are worth. The log-probability of each token
is then pushed by how much better its answer was than the others, less beta times log p / p_start of the token: its gradient is that of
the reward's mean less beta times the KL divergence from the start. The tokens' log p come from generation, log p_start from the forward of
training; at step 0 both are of the same weights, and the divergence is zero but for rounding, since one forward serves both.
"""
import argparse

import lathe
import numpy as np


def reward(text, word):
    return float(word in text)


def sample(model, prompt, options, seed):
    streams = [model.stream(prompt, seed=seed + i, max_new_tokens=options.tokens, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0,
                            repetition_penalty=1.0, logprobs=0) for i in range(options.answers)]
    return [stream.result() for stream in streams]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--prompt", default="Once there was a")
    parser.add_argument("--word", default="fox", help="an answer with it is worth 1")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--answers", type=int, default=32, help="of a step")
    parser.add_argument("--tokens", type=int, default=24, help="of an answer, at most")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--beta", type=float, default=0.05)
    parser.add_argument("--output", help="a folder for the model that was trained")
    options = parser.parse_args()
    model, start = lathe.load(options.model, "float32", trainable=True), lathe.load(options.model, "float32")
    trainer = lathe.Trainer(model, learning_rate=options.learning_rate, weight_decay=0.0)
    prompt = list(model.tokenizer.encode(options.prompt))
    for step in range(options.steps + 1):
        answers = sample(model, prompt, options, seed=step * options.answers)
        texts = [prompt + answer.tokens for answer in answers]
        worth = np.array([reward(answer.text, options.word) for answer in answers])
        advantage = (worth - worth.mean()) / (worth.std() + 1e-6)
        ratios = [np.array([t.logprob for t in answer.logprobs]) - before[len(prompt) - 1:]
                  for answer, before in zip(answers, start.log_probabilities(texts))]  # log p - log p_start of each token
        tokens = sum(map(len, ratios))
        print(f"step {step}: reward {worth.mean():.3f}, KL {sum(r.sum() for r in ratios) / tokens:.1e} a token", flush=True)
        if step < options.steps:
            trainer.backward(texts, [np.concatenate([np.zeros(len(prompt) - 1), (a - options.beta * r) / tokens])
                                     for a, r in zip(advantage, ratios)])
            trainer.step()
    print(options.prompt + answers[0].text)
    if options.output:
        model.save(options.output)


main()
